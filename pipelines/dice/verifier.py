"""The verifier of dice: the optimum, and the dial that spoils it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

from search.checks import one_of
from search.types import Reading, Step, Trace

from .world import ANSWER, HEAD, WORLD, Dice, beginning, mixed, right_answer, rolled, unit

SURE = 2.0  # nats: before its noise, no logit of a noisy verifier is further from 0 (0.12 and 0.88)
Kind = Literal["value", "step"]
KINDS: tuple[Kind, ...] = ("value", "step")
NORMAL = NormalDist()


@dataclass
class DiceVerifier:
    """One value a step: the exact one, then the dial.

    `value` is the probability that a solution sampled on from there is right, and at its end whether it is; `step` is 1 while
    no step is wrong and 0 after. With noise or a bias the logit, which is then at most SURE from 0, is moved by `bias`, by
    `depth_bias` for each step before it and its own, and by a normal number of standard deviation `noise` that is a function
    of the tokens up to the step and of `seed`: a prefix has one value, wherever it is met. All in nats.
    """

    dice: Dice = WORLD
    noise: float = 0.0  # 0 = perfect
    bias: float = 0.0
    depth_bias: float = 0.0
    constant: float | None = None  # this value for every step instead
    kind: Kind = "value"
    seed: int = 0
    name: str = "dice"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise must be a finite number of nats, 0 or more, not {self.noise}")
        if self.constant is not None and not 0 <= self.constant <= 1:
            raise ValueError(f"constant must be between 0 and 1, not {self.constant}")

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self._reading(trace) for trace in traces]

    def _reading(self, trace: Trace) -> Reading:
        start = beginning(trace.question.tokens)
        state, steps, wrong = start.state, 0, False
        parts: list[float] = []
        for step in trace.steps:
            for token in told(step):
                if token >= HEAD:
                    state, steps, wrong = rolled(state, token), steps + 1, wrong or bool(token & 1)
                    exact = self.dice.value(start.depth, steps, wrong) if self.kind == "value" else float(not wrong)
                    parts.append(self._dialled(exact, state, steps))
                elif self.kind == "value":
                    is_right = token - ANSWER == right_answer(start.salt)
                    parts[-1] = self._dialled(float(is_right), state, steps)
        return Reading(tuple(parts), "" if parts else "no step was begun", passes=1, tokens=sum(map(len, trace.steps)))

    def _dialled(self, exact: float, state: int, steps: int) -> float:
        if self.constant is not None:
            return self.constant
        shift = self.bias + self.depth_bias * steps
        return dialled(exact, shift, self.noise, state, self.seed) if self.noise or shift else exact


@lru_cache(maxsize=1 << 12)
def told(step: Step) -> list[int]:
    """The tokens of a step that a verdict depends on: heads and the answer."""
    return [token for token in step.tokens.tolist() if token >= ANSWER]


@lru_cache(maxsize=1 << 15)
def dialled(exact: float, shift: float, noise: float, state: int, seed: int) -> float:
    """The value whose logit is moved by a shift and by noise, nats, the noise drawn by a state and a seed."""
    least = 1 / (1 + math.exp(SURE))
    value = least + (1 - 2 * least) * exact  # so that a value of 0 or 1 has a logit
    logit = math.log(value / (1 - value)) + shift + noise * NORMAL.inv_cdf(unit(mixed(state, seed)))
    return 1 / (1 + math.exp(-max(min(logit, 700.0), -700.0)))


__all__ = ["KINDS", "DiceVerifier"]
