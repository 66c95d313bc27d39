"""What charts are drawn from. None = not known: it is left out of the picture, and counted in its text alternative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share or a mean in [0, 1], with its 95% interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RunPoint:
    """What a run reached, and what it cost."""

    name: str
    tokens: float | None  # generated, a problem; above 0
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class CurvePoint:
    at: float  # samples (k) or tokens a problem, above 0
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Curve:
    """An estimator, such as pass@k or a selector, along its cost."""

    name: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """The solutions whose score, or length, is from `low` to `high`."""

    low: float
    high: float
    count: int
    score: Estimate  # mean of the verifier's scores
    right: Estimate  # share that is right


@dataclass(frozen=True, slots=True)
class Stack:
    """A run's cost in its parts, such as seconds by phase or tokens by fate; each 0 or more."""

    name: str
    parts: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Losses:
    """How many right answers were lost at a step, by cause."""

    step: int
    causes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SeedPoint:
    """A run with one seed; those of one name are the same run but for the seed."""

    seed: int
    accuracy: Estimate
    name: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A run of a schedule."""

    at: datetime  # with its time zone, or UTC
    accuracy: Estimate
    alarm: str = ""  # why it raised one; "" = it raised none


__all__ = ["Bin", "Curve", "CurvePoint", "Estimate", "Losses", "Moment", "RunPoint", "SeedPoint", "Stack"]
