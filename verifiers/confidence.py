"""Reward-free signals: the generator's own confidence, from the statistics stored with each token.

No model runs, no passes, no tokens; and over a stored run they are computed from what is stored (`ponderosa reselect`). Each is
squashed into [0, 1] by a function that keeps the order, higher = surer:

    logprob          exp(sum of ln p), of a step
    perplexity       1 / perplexity = exp(mean ln p), of a step
    entropy          exp(-H), H the mean entropy in nats, of a step: one over the number of tokens it wavers between
    self-certainty   c / (1 + c), c the mean self-certainty in nats, of a step
    g-nll            1 / (1 + NLL), NLL = -sum of ln p in nats, one value for the whole
    confidence       c / (1 + c), c a group's confidence in nats, one value for the whole
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.checks import one_of
from search.confidence import MEASURES, WINDOW, bottom, measured
from search.types import Reading, Step, Trace, Verifier

EMPTY_PROBABILITY = 1.0  # the empty product: an empty step changes no product and no minimum
EMPTY_CERTAINTY = 0.5  # neither sure nor unsure, so that a step that says nothing is no way to a high score
SOURCES = ("top-k", "self-certainty")  # what a token's confidence is: see Confidence
LACKING = "its tokens' top-k confidences are not stored: ask for them with --confidence 20, or take of=self-certainty"
ROUNDING = 1e-3  # float32 may put a log-probability of 0 or a certainty of 0 this far on the wrong side


class LogProb:
    """A step's value is its probability, exp(sum of ln p of its tokens); joined by `prod` they give the sequence's.

    Longer steps have lower values, as probabilities do. An empty step takes 1.0.
    """

    name = "logprob"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace, [probability(step) for step in trace.steps]) for trace in traces]


class SelfCertainty:
    """A step's value is c / (1 + c), where c is the mean self-certainty of its tokens (arXiv 2502.18581), in nats.

    The squashing keeps the order and maps [0, inf) to [0, 1): 0.5 at 1 nat, 0.9 at 9. An empty step takes 0.5.
    """

    name = "self-certainty"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace, [certainty(step) for step in trace.steps]) for trace in traces]


class Perplexity:
    """A step's value is one over its perplexity, exp(mean ln p of its tokens): their mean probability, geometrically. Unlike
    `logprob` it does not fall with length. An empty step takes 0.5."""

    name = "perplexity"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace, [likeliness(step) for step in trace.steps]) for trace in traces]


class Entropy:
    """A step's value is exp(-H), where H is the mean entropy of its tokens' distributions, in nats, before temperature. An
    empty step takes 0.5."""

    name = "entropy"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace, [sharpness(step) for step in trace.steps]) for trace in traces]


class GNLL:
    """The whole has one value, 1 / (1 + NLL), where NLL is -sum of ln p over all its tokens, in nats, not divided by length.

    Of a greedy solution this is G-NLL (arXiv 2412.15176). It orders solutions as `logprob` joined by `prod` does, and goes on
    doing so where that product underflows. Short solutions are favoured, as they are by any sum.
    """

    name = "g-nll"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace, [unlikeliness(trace.steps)]) for trace in traces]


@dataclass(frozen=True, slots=True)
class Confidence:
    """The whole has one value, c / (1 + c), where c is the confidence of a group of its tokens (DeepConf, arXiv 2508.15260).

    `group`: the `lowest` window of `window` tokens, the mean of the `bottom` windows (the weakest `share` of them), the `tail`
    (the last window), or the `mean` of all tokens; a trace that is shorter than the window is one group. `of`: a token's
    confidence is the mean -ln p of the k likeliest tokens where the run kept these (`--confidence K`), or its `self-certainty`,
    which every run keeps. A trace without what is asked for has no value.
    """

    group: str = "lowest"
    window: int = WINDOW
    share: float = 0.1
    of: str = "top-k"
    name = "confidence"

    def __post_init__(self) -> None:
        one_of("group", self.group, MEASURES)
        one_of("source of confidences", self.of, SOURCES)
        if self.window < 1:
            raise ValueError(f"window must be at least 1 token, not {self.window}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share}")

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self._read(trace) for trace in traces]

    def _read(self, trace: Trace) -> Reading:
        found = [step.confidences if self.of == "top-k" else step.certainties for step in trace.steps]
        known: list[NDArray[np.float32]] = [each for each in found if each is not None]
        if len(known) < len(found):
            return Reading((), LACKING)
        tokens = np.concatenate([np.zeros(0, dtype=np.float32), *known])
        if not len(tokens):
            return _reading(trace, [EMPTY_CERTAINTY])
        if self.group == "bottom":
            return _reading(trace, [squashed(bottom(tokens, self.window, self.share))])
        return _reading(trace, [squashed(measured(self.group, tokens, self.window))])


def load_signal(name: str, params: Mapping[str, Any]) -> Verifier:
    """A signal by its name. ValueError in one line for a parameter that will not do."""
    if name != "confidence":
        known: tuple[type[Verifier], ...] = (LogProb, Perplexity, Entropy, SelfCertainty, GNLL)
        return next(each for each in known if each.name == name)()
    given = {key: str(params[key]) for key in ("group", "of") if key in params}
    window, share = params.get("window", WINDOW), params.get("share", 0.1)
    if not re.fullmatch(r"\d{1,9}", str(window), re.ASCII):
        raise ValueError(f"window must be a whole number of tokens, not {window}")
    try:
        part = float(share)
    except (TypeError, ValueError):
        raise ValueError(f"share must be a number, not {share}") from None
    return Confidence(window=int(window), share=part, **given)


def probability(step: Step) -> float:
    """exp of the step's log-probability. NaN, or a value far above 0, is passed on to be refused."""
    if not len(step):
        return EMPTY_PROBABILITY
    logprob = step.logprob
    return 1.0 if 0 < logprob < ROUNDING else math.exp(min(logprob, 700.0) if logprob > 0 else logprob)


def certainty(step: Step) -> float:
    """The step's mean certainty, squashed. NaN, infinite or negative ones are passed on to be refused."""
    return squashed(step.certainty) if len(step) else EMPTY_CERTAINTY


def likeliness(step: Step) -> float:
    """exp of the mean ln p of the step's tokens. NaN, or a value far above 1, is passed on to be refused."""
    if not len(step):
        return EMPTY_CERTAINTY
    mean = step.logprob / len(step)
    return 1.0 if 0 < mean < ROUNDING else math.exp(min(mean, 700.0) if mean > 0 else mean)


def sharpness(step: Step) -> float:
    """exp of minus the step's mean entropy. NaN, infinite or negative ones are passed on to be refused."""
    if not len(step):
        return EMPTY_CERTAINTY
    mean = float(step.entropies.mean(dtype=np.float64))
    if not math.isfinite(mean) or mean <= -ROUNDING:
        return mean
    return math.exp(-max(mean, 0.0))


def unlikeliness(steps: Sequence[Step]) -> float:
    """1 / (1 + NLL) of the steps together; 0 for what is impossible. NaN for a log-probability far above 0."""
    nll = -math.fsum(step.logprob for step in steps)
    return 1.0 / (1.0 + max(nll, 0.0)) if nll > -ROUNDING else math.nan


def squashed(confidence: float) -> float:
    """c / (1 + c): [0, inf) to [0, 1). NaN, infinite or negative values are passed on to be refused."""
    if not math.isfinite(confidence) or confidence <= -ROUNDING:
        return confidence
    return max(confidence, 0.0) / (1.0 + max(confidence, 0.0))


def _reading(trace: Trace, parts: Sequence[float]) -> Reading:
    return Reading(tuple(parts)) if trace.steps else Reading((), "no step to judge")


__all__ = [
    "GNLL",
    "Confidence",
    "Entropy",
    "LogProb",
    "Perplexity",
    "SelfCertainty",
    "certainty",
    "likeliness",
    "load_signal",
    "probability",
    "sharpness",
    "unlikeliness",
]
