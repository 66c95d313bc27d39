"""Accuracy at equal measured cost: the dearer side, where its solutions are independent, is sub-sampled to the other's cost.

A best-of-n run is also best-of-k for every k below n (search.estimate, unbiased). The mean cost of best-of-k is a share k/n of
what was spent, and for sequential tokens the expected longest of k. Between two k, one is used with the chance that makes the
mean cost equal, so the accuracy is that of a policy which could have been run. (FLOPs and seconds are shared out likewise,
though the prompt's part of them does not shrink with k: there, k is a little too large.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.estimate import Pool, estimates, expected_max
from search.select import SELECTORS, Selector
from search.strategies import build
from search.types import seed_of

from . import stats
from .compare import Interval, Side
from .database import Database
from .reselect import Right
from .runs import Run
from .solutions import Solutions, pools_of, solutions

CLOSE = 0.05  # costs that differ by less are called equal
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Equal:
    """The comparison at equal cost, or why there is none."""

    unit: str
    ratio: float | None  # of the costs as they are, second over first
    already: bool = False  # within CLOSE of each other
    reason: str = ""  # why it is not at equal cost; '' where it is
    reduced: str = ""  # which side was sub-sampled: first or second
    k: float | None = None  # to how many of its n solutions, on average
    n: int | None = None
    cost: float | None = None  # of both, a problem
    first: float | None = None  # accuracies at that cost
    second: float | None = None
    difference: Interval | None = None
    p: float | None = None


def at_equal_cost(
    db: Database,
    first: Side,
    second: Side,
    keys: Sequence[str],
    unit: str,
    right: Right,
    resamples: int = 10_000,
    seed: int = 0,
) -> Equal:
    """Second against first at the cheaper one's cost in the unit."""
    costs = [float(np.mean([each.costs[key][unit] for key in keys])) for each in (first, second)]
    if not np.isfinite(costs).all() or min(costs) <= 0:
        return Equal(unit, None, reason=f"a side has no {unit} to compare by")
    ratio = costs[1] / costs[0]
    if abs(ratio - 1) <= CLOSE:
        return Equal(unit, ratio, already=True)
    dearer, name = (second, "second") if ratio > 1 else (first, "first")
    why = _not_divisible(db, dearer, unit)
    if why:
        return Equal(unit, ratio, reason=f"{why}: the costs differ by a factor of {max(ratio, 1 / ratio):.2f}")
    made = _reduced(db, dearer.runs, keys, unit, min(costs), right, seed)
    if made is None:
        return Equal(unit, ratio, reason=f"one solution of the {name} alone costs more {unit} than the other side")
    k, n, reduced = made
    own = np.array([(first if ratio > 1 else second).right[key] for key in keys])
    a, b = (own, reduced) if ratio > 1 else (reduced, own)
    rounds = stats.resampled_means(np.column_stack([a, b]), resamples, seed)
    differences = rounds[:, 1] - rounds[:, 0]
    interval = (float(b.mean() - a.mean()), *stats.interval(differences))
    p = stats.bootstrap_p(differences)
    return Equal(unit, ratio, False, "", name, k, n, min(costs), float(a.mean()), float(b.mean()), interval, p)


def _not_divisible(db: Database, of: Side, unit: str) -> str:
    """Why the side cannot be sub-sampled; '' where it can."""
    for run in of.runs:
        have = pools_of(db, run)
        if not have.independent or have.strategy != "best-of-n":
            return f"{run.spec.strategy.name} cannot be cut down to the other's cost"
        if have.smallest < 2:
            return f"run {run.id} has pools of {have.smallest} solution"
        bounds = run.spec.budget
        if (bounds.tokens, bounds.candidates, bounds.passes, bounds.flops, bounds.seconds) != (None,) * 5:
            return f"run {run.id} had a budget, so its solutions are not independent"
    return ""


def _reduced(
    db: Database, runs: Sequence[Run], keys: Sequence[str], unit: str, cost: float, right: Right, seed: int
) -> tuple[float, int, Floats] | None:
    """Mean k, n, and each problem's chance to be right at that mean cost; None where one solution costs more."""
    n = min(pools_of(db, run).smallest for run in runs)
    curves, pools, selectors = [], [], []
    for run in runs:
        selector: Selector = getattr(build(run.spec.strategy), "select")  # noqa: B009
        reads = "confidences" in SELECTORS[selector.name].reads
        own = {each.key: each for each in solutions(db, run, confidences=reads)}
        curves.append([_curve(own[key], unit, n) for key in keys])
        pools.append([Pool.of(own[key].entries, _judge(own[key], right)) for key in keys])
        selectors.append(selector)
    curve = np.mean(curves, axis=(0, 1))  # [n] the mean cost of best-of-1 to best-of-n
    if curve[0] > cost:
        return None
    low = int(np.searchsorted(curve, cost, side="right"))  # the largest k that costs no more
    high = min(low + 1, n)
    mixed = float((cost - curve[low - 1]) / (curve[high - 1] - curve[low - 1])) if curve[high - 1] > curve[low - 1] else 0.0
    found = [[_chance(p, s, low, high, mixed, seed_of(seed, key, "")) for p, key in zip(each, keys, strict=True)]
             for each, s in zip(pools, selectors, strict=True)]  # fmt: skip
    return low + mixed * (high - low), n, np.mean(found, axis=0)


def _judge(of: Solutions, right: Right) -> Callable[[str], bool]:
    return lambda answer: right(of.problem, answer)


def _curve(of: Solutions, unit: str, n: int) -> list[float]:
    if unit == "sequential":
        lengths = [entry.tokens for entry in of.entries]
        return [expected_max(lengths, k) if lengths else 0.0 for k in range(1, n + 1)]
    total = getattr(of, unit)
    return [total * k / max(len(of.entries), n) for k in range(1, n + 1)]


def _chance(pool: Pool, selector: Selector, low: int, high: int, mixed: float, seed: int) -> float:
    if not len(pool):
        return 0.0
    at = estimates(pool, selector, [low, high], seed=seed)
    return (1 - mixed) * at[0].by_rule + mixed * at[1].by_rule


__all__ = ["CLOSE", "Equal", "at_equal_cost"]
