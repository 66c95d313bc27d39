"""Generative verifiers: a language model writes a check of a solution, and its verdict is the score.

"genrm" (arXiv 2408.15240, 2504.01005) writes V checks of a solution and takes the mean of their verdicts; "thinkprm"
(arXiv 2504.16828) reads a verdict on each step; "judge" asks for a verdict or a grade alone. All run on an engine of their own,
all traces of a call in one batch; what is drawn depends on the question, the solution and the number of the check, never on
the batch.

What is judged is untrusted: it stands between marks with a nonce of its own text, in the user's turn, and strings in it that
look like the model's control tokens are read as plain text. What counts of the answer is in verifiers/verdicts.py.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.strategies.knockout import nonce_of
from search.types import SEPARATOR, Extend, Extension, Finish, Reading, Row, Sampling, Step, Trace, Until, child_of, seed_of

from .verdicts import Form, Span, form_of

if TYPE_CHECKING:
    from pipelines.models import TextModel

DIGITS = 4  # probabilities are rounded: a batch's shape moves them by less
SCORES = ("votes", "p")


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one trace: the values of each, one for the whole or one a step (None without a verdict), and their cost."""

    values: tuple[tuple[float, ...] | None, ...]
    reason: str = ""  # why there are none
    prompt_tokens: int = 0
    written: int = 0  # tokens of all the checks
    flops: float = 0.0


@dataclass(slots=True)
class Generative:
    """A language model as a verifier. Values in [0, 1], higher = more likely right: one for the whole solution, or with `steps`
    one for each step.

    A reading's `tokens` are those that its checks computed: the prompt's, which they share, and all that was written. It counts
    as one pass, however many checks it took.
    """

    name: str
    model: TextModel
    form: Form
    v: int = 1  # checks of a solution
    sampling: Sampling = Sampling(temperature=0.7)
    tokens: int = 512  # that one check may have
    score_by: str = "votes"  # verdicts counted, or "p": the model's probability of the positive one
    steps: bool = False
    seed: int = 0

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """One reading a trace, in order. None of its checks with a verdict, or no room for the prompt: no value, with the
        reason."""
        return [self._reading(checks) for checks in self.checks(traces)]

    def checks(self, traces: Sequence[Trace]) -> list[Checks]:
        """What each check of each trace says."""
        replies: dict[int, Extension | Exception] = {}
        engine = self.model.engine
        try:
            for key, trace in enumerate(traces):
                try:
                    engine.submit(key, self._request(trace))
                except ValueError as error:
                    replies[key] = error
            while len(replies) < len(traces):
                for key, reply in engine.advance():
                    engine.forget(key)
                    replies[key] = reply
        finally:  # what was cut short must not answer the next call
            for key in set(range(len(traces))) - set(replies):
                engine.forget(key)
        return [self._checks(trace, replies[key]) for key, trace in enumerate(traces)]

    def prompt(self, trace: Trace) -> str:
        """The user turn for a trace."""
        question, texts = trace.question.text, trace.texts
        return self.form.asked(question, texts, nonce_of(question, *texts))

    def _request(self, trace: Trace) -> Extend:
        prefix = self.model.encode(self.prompt(trace))
        of = hashlib.blake2b(SEPARATOR.join(trace.texts).encode(errors="surrogatepass"), digest_size=8).hexdigest()
        paths = [child_of("", i) for i in range(self.v)]
        named = f"{trace.question.id}|{of}"
        rows = tuple(Row(path, seed_of(self.seed, named, path), prefix, self.tokens) for path in paths)
        return Extend(rows, Until.END, self.sampling)

    def _checks(self, trace: Trace, reply: Extension | Exception) -> Checks:
        if isinstance(reply, Exception):
            return Checks((), f"not judged: {reply}")
        values = tuple(self._values(trace, step) for step in reply.steps)
        return Checks(values, "", reply.prompt_tokens, sum(map(len, reply.steps)), reply.flops)

    def _reading(self, checks: Checks) -> Reading:
        if checks.reason:
            return Reading((), checks.reason)
        cost = (1, checks.prompt_tokens + checks.written, checks.flops)
        found = [values for values in checks.values if values is not None]
        lost = self.v - len(found)
        said = f"{lost} of {self.v} checks gave no verdict" if lost else ""
        if not found:
            return Reading((), said, *cost)
        # of whole solutions a check without a verdict counts as a no (arXiv 2504.01005); of steps there is nothing to count
        by = len(found) if self.steps else self.v
        return Reading(tuple(round(sum(values) / by, DIGITS) for values in zip(*found, strict=True)), said, *cost)

    def _values(self, trace: Trace, step: Step) -> tuple[float, ...] | None:
        """The values that one check gives; None where it was cut or does not keep to the form."""
        if step.finish is not Finish.END:
            return None
        spans: tuple[Span, ...] | None
        if self.steps:
            spans = self.form.stepwise(step.text, len(trace.texts)) or None
        else:
            span = self.form.judged(step.text)
            spans = None if span is None else (span,)
        if spans is None or self.score_by == "votes":
            return None if spans is None else tuple(span.value for span in spans)
        return tuple(self._probability(step, span) for span in spans)

    def _probability(self, step: Step, span: Span) -> float:
        """P(positive) at the verdict's word, of the model's own distribution: P(yes), else 1 - P(no)."""
        ends = _ends(self.model.tokenizer, step)
        first = next(i for i, end in enumerate(ends) if end > span.begin)
        last = next(i for i, end in enumerate(ends) if end >= span.end)
        p = min(math.exp(step.logprobs[first : last + 1].sum(dtype="float64")), 1.0)
        return p if span.value else 1.0 - p


def _ends(tokenizer: Any, step: Step) -> list[int]:
    """For each token of a step, how long its text is with that token."""
    ids = step.tokens.tolist()
    kept = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return [len(tokenizer.decode(ids[: i + 1], **kept)) for i in range(len(ids))]


KINDS: Mapping[str, tuple[str, str]] = {  # the prompt by default, for the bundled judge and for any other model
    "genrm": ("check", "genrm"),
    "thinkprm": ("check", "thinkprm"),
    "judge": ("direct", "yesno"),
}
TAKES = ("model", "v", "temperature", "top_p", "tokens", "score", "prompt", "steps", "seed", "device", "dtype")
BUNDLED = "bundled-judge"


def settings(kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A generative verifier's fields from the words of a run, without the model. Raises ValueError in one line."""
    model = str(params.get("model", BUNDLED))
    ours, theirs = KINDS[kind]
    like = ours if model == BUNDLED else theirs
    v, tokens, seed = (_whole(params.get(key, default), key, least) for key, default, least in COUNTS)
    sampling = Sampling(temperature=_number(params, "temperature", 0.7), top_p=_number(params, "top_p", 1.0))
    score = str(params.get("score", "votes"))
    steps = {"true": True, "false": False}.get(str(params.get("steps", kind == "thinkprm")).lower())
    if score not in SCORES:
        raise ValueError(f"score of {kind} must be votes or p, not '{score}'")
    if steps is None:
        raise ValueError(f"steps of {kind} must be true or false, not '{params['steps']}'")
    form = form_of(str(params.get("prompt", like)), like)
    if steps and form.step is None:
        raise ValueError(f"prompt '{params.get('prompt', like)}' asks for no verdict on steps; use check or thinkprm")
    if score == "p" and len(form.values) > 2:
        raise ValueError(f"prompt '{params.get('prompt', like)}' asks for a grade, which has no single probability; use votes")
    return {"form": form, "v": v, "sampling": sampling, "tokens": tokens, "score_by": score, "steps": steps, "seed": seed}


COUNTS = (("v", 1, 1), ("tokens", 512, 1), ("seed", 0, 0))


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value), re.ASCII) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not '{value}'")
    return int(value)


def _number(params: Mapping[str, Any], name: str, default: float) -> float:
    value = params.get(name, default)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not '{value}'") from None


def load_generative(kind: str, params: Mapping[str, Any]) -> Generative:
    """The verifier "genrm", "thinkprm" or "judge", its model loaded. Raises ValueError or ModelError in one line."""
    from pipelines.models import load_generator

    made = settings(kind, params)
    placed = {key: params[key] for key in ("device", "dtype") if key in params}
    return Generative(kind, load_generator(str(params.get("model", BUNDLED)), placed), **made)


__all__ = ["BUNDLED", "KINDS", "TAKES", "Checks", "Generative", "load_generative", "settings"]
