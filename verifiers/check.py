"""Whether a reward model is read as its family means it to be: what `ponderosa verifier check` runs on a user's own model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from pipelines.models import BadOption, ModelError
from verifiers.formats import cards
from verifiers.formats.conformance import COARSE, TOLERANCE, Finding, conformance, told
from verifiers.formats.families import allowed, detected, evidence, facts_of, unfit, unlike
from verifiers.formats.format import FORMATS, Squash
from verifiers.formats.heads import load
from verifiers.prm import opened


@dataclass(frozen=True, slots=True)
class Report:
    """A model's family and how its reading holds."""

    model: str
    architecture: str
    evidence: tuple[str, ...]
    families: dict[str, str]  # why a model is not of a family; "" where it looks like it
    format: str  # the one it was read by; "" where none was decided
    right: str  # the class whose probability is the value; "" where a sigmoid is
    error: str  # why none was
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return ModelError.exit_code if self.error else int(any(each.status == "fail" for each in self.findings))


def examine(
    name: str, wanted: str = "", separator: str = "", device: str = "cpu", dtype: str = "float32", code: str = "never"
) -> Report:
    """Everything that is checked. Raises ModelError where the model's files cannot be read, BadOption for a device or a dtype
    that is none."""
    facts = facts_of(name, allowed(code))
    families = {each: unfit(form, facts) or unlike(form, facts) for each, form in FORMATS.items()}
    report = Report(name, facts.architecture, tuple(evidence(facts)), families, "", "", "", ())
    try:
        form = detected(facts, wanted, separator)
        weights = load(facts, form, device, dtype)
    except BadOption:
        raise
    except ModelError as error:
        return replace(report, error=str(error))
    card = cards.CARDS[form.name]
    if form.name == "trl":
        card = partial(cards.trl, separator=form.mark)
    told_by_card = told(partial(card, cards.own(facts, weights, form.head)))  # before a scorer takes the model's attention over
    findings = conformance(opened("prm", facts, form, weights), told_by_card, TOLERANCE.get(dtype, COARSE))
    right = "" if form.squash is Squash.SIGMOID else form.classes[form.right]
    return replace(report, format=form.name, right=right, findings=tuple(findings))
