"""What a setting of a strategy gets and costs, problem by problem, and how two are compared.

Of each problem a point has the mean over its seeds, so that a bootstrap over problems keeps the seeds of a problem together:
they share its difficulty, and count as one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flows import launch
from flows.parts import spec
from search.estimate import Pool, estimates
from search.select import Selector
from search.types import RunSpec, seed_of
from store import queries
from store.database import open_database
from store.runs import planned
from store.schema import CLOSED
from store.stats import interval, resampled_means
from verifiers.grade import Graders, Verdict

ROUNDS = 2000  # of the bootstrap
COSTS = ("tokens", "passes", "verifier_tokens")
LEDGER = ("generated_tokens", "verifier_passes", "verifier_tokens")  # the same, as the store names them
Floats = NDArray[np.float64]
Span = tuple[float, float, float]  # a number and its 95% interval


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, each array [problems], means over the seeds: whether it was right, and what it cost."""

    name: str
    right: Floats
    tokens: Floats  # generated
    passes: Floats  # of the verifier
    verifier_tokens: Floats = field(default_factory=lambda: np.zeros(0))  # that those passes computed; empty: not known


# ----------------------------------------------------------------------------------------------------------------- runs


def specs_of(strategy: str, problems: str, verifier: str, seeds: Sequence[int]) -> list[RunSpec]:
    """One run a seed."""
    return [spec(problems, strategy, verifier, seed=seed) for seed in seeds]


def runs(strategy: str, problems: str, verifier: str, seeds: Sequence[int], database: str) -> list[str]:
    """One run a seed, those that are not whole yet begun or gone on with; their ids."""
    specs = specs_of(strategy, problems, verifier, seeds)
    names = [f"{strategy} seed {seed}" for seed in seeds]
    left = [(each, name) for each, name in zip(specs, names, strict=True) if not whole([each], database)]
    if left:
        launch.launch([each for each, _ in left], [name for _, name in left], database, plain=True)
    return [each.id for each in specs]


def whole(specs: Iterable[RunSpec], database: str) -> bool:
    """Whether all of these runs are in the database with every problem closed."""
    if "://" not in database and not os.path.exists(database):
        return False
    with open_database(database) as opened:
        found = [queries.attempts(opened, each.id) for each in specs]
    return all(rows and all(row.status in CLOSED for row in rows) for rows in found)


def point(name: str, ids: Sequence[str], database: str) -> Point:
    """A setting from its stored runs."""
    with open_database(database) as opened:
        right = [[float(bool(row.correct)) for row in queries.attempts(opened, run_id)] for run_id in ids]
        costs = [queries.costs(opened, run_id, LEDGER) for run_id in ids]
    return Point(name, np.mean(right, axis=0), *np.mean(costs, axis=0).T)


# ---------------------------------------------------------------------------------------------------------------- pools


@dataclass(frozen=True, eq=False)
class Pools:
    """The stored solutions of best-of-n runs, one run a seed: what any selector gets from fewer of them needs no run."""

    ids: tuple[str, ...]  # of the problems
    pools: tuple[tuple[Pool, ...], ...]  # [seeds][problems]
    costs: Floats  # [seeds, problems, 3]: the COSTS of a whole pool

    @property
    def size(self) -> int:
        """Of the smallest pool."""
        return min(len(pool) for row in self.pools for pool in row)

    def points(self, name: str, selector: Selector, sizes: Sequence[int], ties: str = "by_rule") -> list[Point]:
        """The selector with n samples for each n, without bias: over all or random subsets of n of each pool. Ties `by_rule`
        as a run decides them, or `expected`: split evenly."""
        right = [
            [
                [getattr(found, ties) for found in estimates(pool, selector, sizes, seed=seed_of(0, problem, ""))]
                for problem, pool in zip(self.ids, row, strict=True)
            ]
            for row in self.pools
        ]
        of_size = np.mean(right, axis=0)  # [problems, sizes]
        share = np.mean(self.costs, axis=0) / self.size * [1.0, *[float(selector.needs_verifier)] * 2]
        return [Point(f"{name} {n}", of_size[:, i], *(share * n).T) for i, n in enumerate(sizes)]


def pools(ids: Sequence[str], database: str) -> Pools:
    """The pools of stored runs, their answers graded."""
    rows, costs = [], []
    with open_database(database) as opened, Graders() as graders:
        for run_id in ids:
            problems = {a.attempt_id: a.problem for a in planned(opened, run_id)}
            found = queries.entries(opened, run_id)
            graded = [
                Pool.of(entries, lambda answer, of=problems[a]: graders.grade(of, answer) is Verdict.CORRECT)  # type: ignore[misc]
                for a, entries in found.items()
            ]
            rows.append(tuple(graded))
            costs.append(queries.costs(opened, run_id, LEDGER))
            names = tuple(problems[a].id for a in found)
    return Pools(names, tuple(rows), np.array(costs))


# ---------------------------------------------------------------------------------------------------------- comparisons


def accuracies(points: Sequence[Point]) -> list[Span]:
    """The mean of each point over the problems, with its interval."""
    right = np.column_stack([point.right for point in points])
    drawn = resampled_means(right, ROUNDS)
    return [(float(right[:, i].mean()), *interval(drawn[:, i])) for i in range(len(points))]


def difference(a: Point, b: Point) -> Span:
    """Accuracy of a minus that of b, paired by problem."""
    apart = (a.right - b.right)[:, None]
    return float(apart.mean()), *interval(resampled_means(apart, ROUNDS)[:, 0])


def ratio_of(a: Point, b: Point, what: str) -> Span:
    """The mean cost of a over that of b, paired by problem."""
    both = np.column_stack([getattr(a, what), getattr(b, what)])
    drawn = resampled_means(both, ROUNDS)
    first, second = both.mean(axis=0)
    return float(first / second), *interval(drawn[:, 0] / drawn[:, 1])


def cost_at(accuracy: Floats, cost: Floats, target: float) -> float:
    """What a curve of rising cost needs for an accuracy: linear between the points that are better than all before them. Below
    the first point that one's cost; infinite above the best."""
    reached = np.maximum.accumulate(accuracy)
    if target > reached[-1]:
        return float("inf")
    better = np.concatenate([[0], np.flatnonzero(np.diff(reached) > 0) + 1])
    return float(np.interp(target, reached[better], cost[better]))


def ratio(curve: Sequence[Point], point: Point, what: str) -> Span:
    """How many times as much of `what` the curve needs for the point's accuracy; nan where the point needs none.

    The curve and the point are resampled together. A draw in which the curve never gets there is infinite, and counted.
    """
    if not getattr(point, what).any():
        return float("nan"), float("nan"), float("nan")
    sides = [*(p.right for p in curve), *(getattr(p, what) for p in curve), point.right, getattr(point, what)]
    columns, k = np.column_stack(sides), len(curve)

    def once(means: Floats) -> float:
        return cost_at(means[:k], means[k : 2 * k], float(means[-2])) / float(means[-1])

    drawn = np.sort([once(row) for row in resampled_means(columns, ROUNDS)])
    # no quantile: between a number and infinity there is none
    return once(columns.mean(axis=0)), float(drawn[ROUNDS // 40]), float(drawn[-1 - ROUNDS // 40])


def said(span: Span, digits: int = 2, sign: str = "") -> tuple[str, str]:
    """A number and its interval for a table."""
    value, low, high = span
    if np.isnan(value):
        return "–", "–"
    return f"{value:{sign}.{digits}f}", f"[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


__all__ = [
    "COSTS",
    "ROUNDS",
    "Point",
    "Pools",
    "Span",
    "accuracies",
    "cost_at",
    "difference",
    "point",
    "pools",
    "ratio",
    "ratio_of",
    "runs",
    "said",
    "specs_of",
    "whole",
]
