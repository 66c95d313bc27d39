"""Reward models as verifiers: a Format says how to lay out a trace and what the numbers mean, a Scorer computes them.

One pass reads all the steps of a trace. `load_prm` takes the family from the model's files, or by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.scarce import OutOfMemory
from pipelines.models import BadOption, ModelError, options_of, whole
from pipelines.scoring import SCORERS, Laid, Output, Scorer
from search.checks import one_of
from search.types import Reading, Trace, Verifier
from verifiers.formats.families import Facts, allowed, detected, facts_of
from verifiers.formats.format import DIGITS, Format, Squash
from verifiers.formats.heads import Weights, load
from verifiers.formats.layout import Layout
from verifiers.formats.text import Unreadable


@dataclass(slots=True)
class RewardModel:
    """A reward model as a verifier. Values in [0, 1], higher = more likely right."""

    name: str
    format: Format
    layout: Layout
    scorer: Scorer
    temperature: float = 1.0  # by which the log-odds are divided

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """One reading a trace, in order; a value for each of its texts, or one for the whole. A trace that is longer than the
        model's context or than memory, or that cannot be laid out, gets none."""
        laid = [self._laid(trace) for trace in traces]
        outputs = iter(self.scorer.outputs([each for each in laid if isinstance(each, Laid)]))
        return [self._reading(each, next(outputs)) if isinstance(each, Laid) else Reading((), each) for each in laid]

    def _laid(self, trace: Trace) -> Laid | str:
        """The sequence of a trace, or why it gets no value."""
        texts = trace.texts
        if not texts:
            return "nothing is written yet"
        try:
            laid = self.layout.lay(trace.question.text, texts)
        except Unreadable as error:
            return str(error)
        if len(laid.ids) > self.scorer.context:
            return f"{len(laid.ids)} tokens are over the reward model's context of {self.scorer.context}"
        return laid

    def _reading(self, laid: Laid, output: Output | OutOfMemory) -> Reading:
        if isinstance(output, OutOfMemory):
            return Reading((), f"out of memory for a trace of {len(laid.ids)} tokens: {output}")
        values = squashed(self.format, output.values, self.temperature)
        finite = bool(np.isfinite(values).all())
        parts = tuple(round(float(v), DIGITS) for v in values) if finite else ()
        reason = "" if finite else "the reward model gives no finite number; a wider dtype may"
        return Reading(parts, reason, passes=1, tokens=output.tokens, flops=output.flops)


def squashed(form: Format, values: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """The probability of "right" at each position. [marks, K] -> [marks]. One that underflows is 0.0, and still a value."""
    wide = values.astype(np.float64) / temperature
    if form.squash is Squash.SIGMOID:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)  # the sigmoid is the softmax over 0 and the number
    with np.errstate(over="ignore", invalid="ignore"):
        shares = np.exp(wide - wide.max(axis=1, keepdims=True))
        return np.asarray(shares[:, form.right] / shares.sum(axis=1))


def load_prm(name: str = "bundled", params: Mapping[str, Any] | None = None, verifier: str = "prm") -> RewardModel:
    """Loads a reward model from the bundle, a folder or the hub. Raises ModelError in one line.

    Options: device, dtype, format (a family; else the one that the files tell), separator (newline or blank-line, of trl),
    code (allow: code that comes with the model may run), path (paged: what was scored before is not computed again; whole; or
    auto, paged where that serves the model), cache_mb (memory for keys and values; 0 = 1024, or half of what is free on a GPU),
    temperature (divides the log-odds, arXiv 1706.04599; 1: as trained; pipelines/train/calibration.py fits one).
    """
    given = {"device": "cpu", "dtype": "float32", "format": "", "separator": "", "code": "never", "path": "auto", "cache_mb": 0}
    options = options_of(params or {}, **given, temperature=1)
    temperature = above_zero(options["temperature"])
    facts = facts_of(name, allowed(str(options["code"])))
    form = detected(facts, str(options["format"]), str(options["separator"]))
    weights = load(facts, form, str(options["device"]), str(options["dtype"]))
    found = opened(verifier, facts, form, weights, str(options["path"]), whole(options["cache_mb"], "cache_mb", 0))
    return replace(found, temperature=temperature)


def above_zero(temperature: Any) -> float:
    """A temperature. Raises BadOption for what is none."""
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise BadOption(f"temperature of a reward model must be a number above 0, not '{temperature}'; 1 is as trained")
    return float(temperature)


def opened(verifier: str, facts: Facts, form: Format, weights: Weights, path: str = "auto", cache_mb: int = 0) -> RewardModel:
    """A loaded model as a verifier. Raises ModelError where it cannot be read that way."""
    from pipelines.engine.build import CannotServe
    from pipelines.engine.scoring import scorer

    one_of("path of a reward model", path, SCORERS)
    try:
        found = scorer(weights.base, weights.head, weights.context, cache_mb=cache_mb, path=path)
    except CannotServe as error:
        raise ModelError(f"model '{facts.name}' cannot run so: {error}") from None
    return RewardModel(verifier, form, Layout(form, facts.tokenizer, facts.config.pad_token_id), found)


def load_orm(name: str, params: Mapping[str, Any] | None = None) -> Verifier:
    """An outcome reward model: one value for the whole trace."""
    return load_prm(name, {**(params or {}), "format": "orm"}, "orm")
