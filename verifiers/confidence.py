"""The verifiers "logprob" and "self-certainty": the generator's own confidence, from the statistics stored with each
token. No model runs: no passes, no tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.types import Reading, Step, Trace

EMPTY_PROBABILITY = 1.0  # the empty product: an empty step changes no product and no minimum
EMPTY_CERTAINTY = 0.5  # neither sure nor unsure, so that a step that says nothing is no way to a high score
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


def probability(step: Step) -> float:
    """exp of the step's log-probability. NaN, or a value far above 0, is passed on to be refused."""
    if not len(step):
        return EMPTY_PROBABILITY
    logprob = step.logprob
    return 1.0 if 0 < logprob < ROUNDING else math.exp(min(logprob, 700.0) if logprob > 0 else logprob)


def certainty(step: Step) -> float:
    """The step's mean certainty, squashed. NaN, infinite or negative ones are passed on to be refused."""
    if not len(step):
        return EMPTY_CERTAINTY
    mean = step.certainty
    if not math.isfinite(mean) or mean <= -ROUNDING:
        return mean
    return max(mean, 0.0) / (1.0 + max(mean, 0.0))


def _reading(trace: Trace, parts: Sequence[float]) -> Reading:
    return Reading(tuple(parts)) if trace.steps else Reading((), "no step to judge")


__all__ = ["LogProb", "SelfCertainty", "certainty", "probability"]
