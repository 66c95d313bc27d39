"""The verifier "ensemble": the mean of several verifiers' values, step by step (FETCH, arXiv 2502.11183).

    ensemble:of=prm+equation
    ensemble:of=prm:model=A;device=cuda+prm:model=B,join=min

Each member reads every trace; a step's value is the mean of the members' values of it, each first brought into [0, 1]. Two
verifiers that err in different places are right more often than either; the cost is the sum of theirs. The authors average two
of one kind, of values in [-1, 1], and map the mean to [0, 1]; ours are in [0, 1] already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.checks import scalar
from search.types import Part, Reading, Trace, Verifier


def members(text: str) -> tuple[Part, ...]:
    """The verifiers that a text names: NAME or NAME:KEY=VALUE;KEY=VALUE, joined by "+". A "+" within a value is one unless a
    letter follows; a "," cannot be in a value. Raises ValueError in one line."""
    parts = []
    for each in re.split(r"\+(?=[a-z-]+(?:[:+]|$))", text):
        name, _, rest = each.partition(":")
        params: dict[str, Any] = {}
        for pair in filter(None, rest.split(";")):
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise ValueError(f"'{pair}' in ensemble member '{each}' is not KEY=VALUE")
            if key in params:
                raise ValueError(f"'{key}' is given twice in ensemble member '{each}'")
            params[key] = scalar(value)
        if name == "ensemble":
            raise ValueError("an ensemble cannot be a member of one; name its members instead")
        if "join" in params:
            raise ValueError(f"member '{name}' has no join of its own: give the ensemble's, as in ensemble:of={name},join=min")
        parts.append(Part(name, params))
    if len(parts) < 2:
        raise ValueError(f"an ensemble needs at least 2 verifiers, as in ensemble:of=prm+equation, not '{text}'")
    return tuple(parts)


@dataclass(slots=True)
class Ensemble:
    """Values in [0, 1] a step, higher = better; passes, tokens and FLOPs are the members' sums."""

    verifiers: tuple[Verifier, ...]
    name: str = "ensemble"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """One reading a trace, in order. A trace that a member gives no value has none. Raises ValueError where members
        give different numbers of values."""
        columns = [verifier.score(traces) for verifier in self.verifiers]
        return [self._mean(readings) for readings in zip(*columns, strict=True)]

    def _mean(self, readings: Sequence[Reading]) -> Reading:
        cost = sum(r.passes for r in readings), sum(r.tokens for r in readings), math.fsum(r.flops for r in readings)
        for verifier, reading in zip(self.verifiers, readings, strict=True):
            if not reading.parts:
                return Reading((), f"{verifier.name}: {reading.reason or 'the verifier gave no value'}", *cost)
        counts = [len(reading.parts) for reading in readings]
        if len(set(counts)) > 1:
            said = ", ".join(f"{v.name} {n}" for v, n in zip(self.verifiers, counts, strict=True))
            raise ValueError(
                f"the ensemble's members give one trace different numbers of values ({said}): they cannot be averaged"
            )
        steps = zip(*(reading.parts for reading in readings), strict=True)
        return Reading(tuple(math.fsum(map(_clamped, step)) / len(step) for step in steps), "", *cost)


def _clamped(value: float) -> float:
    """In [0, 1]; what is no finite number is passed on as NaN, to be refused and not to be taken for good or bad."""
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else math.nan


__all__ = ["Ensemble", "members"]
