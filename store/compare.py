"""Runs over the same problems, in pairs: accuracy, costs, and accuracy at equal cost.

A side is a run, or several that differ in the seed alone: then a problem has the mean over its seeds. A comparison is of the
second side with the first: differences are second minus first, ratios second over first. Intervals are 95% and from a bootstrap
over problems, in which all that belongs to a problem stays together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from . import schema, stats
from .database import Database
from .runs import Run
from .stats import FEW

_A = schema.attempt.c
UNITS = {
    "tokens": ("generated_tokens",),
    "sequential": ("sequential_tokens",),
    "passes": ("verifier_passes",),
    "flops": ("flops",),
    "seconds": ("generate_seconds", "verify_seconds", "embed_seconds"),
}

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # estimate, low, high


@dataclass(frozen=True, eq=False)
class Side:
    """The finished problems of one run, or of its seeds; none of a run of which nothing was graded."""

    runs: tuple[Run, ...]
    right: dict[str, float]  # by problem key: 1 or 0, or the mean over the seeds
    costs: dict[str, dict[str, float]]  # by problem key and unit; nan = not known

    @property
    def name(self) -> str:
        return " + ".join(f"{run.id} {run.name}".strip() for run in self.runs)

    def columns(self, keys: Sequence[str]) -> Floats:
        """[problems, 1 + units] right, then the costs in the order of UNITS."""
        return np.array([[self.right[key], *(self.costs[key][unit] for unit in UNITS)] for key in keys])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second side with the first."""

    problems: int
    first: float  # accuracies
    second: float
    difference: Interval
    p: float  # two-sided, bootstrap
    only_first: int | None  # problems that one run alone solved; None where a side has several seeds
    only_second: int | None
    exact_p: float | None  # McNemar's
    ratios: dict[str, Interval | None]  # of costs, by unit; None = not known, or nothing to divide by
    holm: float | None = None  # of several comparisons: the adjusted p (the exact one where there is one)

    @property
    def decisive(self) -> float:
        return self.p if self.exact_p is None else self.exact_p


def side(db: Database, runs: Sequence[Run]) -> Side:
    """Raises ValueError for runs that differ in more than the seed, or for one given twice."""
    bare = {replace(run.spec, seed=0).id for run in runs}
    if len(bare) > 1:
        names = " and ".join(run.id for run in runs)
        raise ValueError(f"the runs {names} differ in more than their seeds; compare them one by one, without '+'")
    if len({run.id for run in runs}) < len(runs):
        raise ValueError(f"run '{runs[0].id}' is given more than once in one group; name each seed once")
    found = [_results(db, run.id) for run in runs]
    keys = [key for key in found[0] if all(key in each for each in found)]
    if any(len(each) != len(keys) for each in found):
        counts = ", ".join(str(len(each)) for each in found)
        raise ValueError(
            f"the seeds of one group have finished different problems ({counts}, {len(keys)} in common); resume them"
        )
    means = np.mean([[each[key] for key in keys] for each in found], axis=0).tolist()
    right = {key: values[0] for key, values in zip(keys, means, strict=True)}
    return Side(tuple(runs), right, {key: dict(zip(UNITS, row[1:], strict=True)) for key, row in zip(keys, means, strict=True)})


def _results(db: Database, run_id: str) -> dict[str, list[float]]:
    """By problem key: right (a failed or ungraded one is wrong), and the costs in the order of UNITS. None where nothing of
    the run was graded: that is no accuracy of 0."""
    names = [name for unit in UNITS.values() for name in unit]
    asked = select(_A.problem_key, _A.verdict, _A.correct, *(_A[name] for name in names)).order_by(_A.position, _A.id)
    asked = asked.where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
    rows = db.consult(lambda connection: connection.execute(asked).mappings().all())
    if all(row["verdict"] is None for row in rows):
        return {}
    return {row["problem_key"]: [float(bool(row["correct"])), *(_cost(row, unit) for unit in UNITS.values())] for row in rows}


def _cost(row: object, names: Sequence[str]) -> float:
    values = [row[name] for name in names]  # type: ignore[index]
    return float("nan") if None in values else float(sum(values))


def common(sides: Sequence[Side], intersect: bool) -> list[str]:
    """The problems to compare over, by key: those that all sides have finished. ValueError where these are not all of them,
    unless that was asked for, and where there are none."""
    shared = [key for key in sides[0].right if all(key in each.right for each in sides)]
    counts = [len(each.right) for each in sides]
    if not shared:
        raise ValueError(f"the runs have no finished problem in common ({', '.join(map(str, counts))} finished and graded)")
    if not intersect and any(count != len(shared) for count in counts):
        told = ", ".join(map(str, counts))
        raise ValueError(
            f"the runs have finished different problems: {told}, of which {len(shared)} are in all; "
            "resume those that are not done, or compare over the common ones with --intersect"
        )
    return shared


def paired(first: Side, second: Side, keys: Sequence[str], resamples: int = 10_000, seed: int = 0) -> Comparison:
    """One comparison over the problems of these keys."""
    a, b = first.columns(keys), second.columns(keys)
    means = stats.resampled_means(np.hstack([a, b]), resamples, seed)
    before, after = means[:, : a.shape[1]], means[:, a.shape[1] :]
    differences = after[:, 0] - before[:, 0]
    single = len(first.runs) == len(second.runs) == 1
    only = [int(((x[:, 0] > 0.5) & (y[:, 0] < 0.5)).sum()) for x, y in ((a, b), (b, a))] if single else [None, None]
    return Comparison(
        problems=len(keys),
        first=float(a[:, 0].mean()),
        second=float(b[:, 0].mean()),
        difference=(float(b[:, 0].mean() - a[:, 0].mean()), *stats.interval(differences)),
        p=stats.bootstrap_p(differences),
        only_first=only[0],
        only_second=only[1],
        exact_p=None if only[0] is None or only[1] is None else stats.mcnemar(only[0], only[1]),
        ratios={
            unit: _ratio(a[:, i].mean(), b[:, i].mean(), before[:, i], after[:, i]) for i, unit in enumerate(UNITS, start=1)
        },
    )


def _ratio(first: float, second: float, before: Floats, after: Floats) -> Interval | None:
    if not (np.isfinite(first) and np.isfinite(second) and (before > 0).all()):
        return None
    return (float(second / first), *stats.interval(after / before))


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With Holm's p where there are several."""
    if len(comparisons) < 2:
        return list(comparisons)
    ps = stats.holm([each.decisive for each in comparisons])
    return [replace(each, holm=p) for each, p in zip(comparisons, ps, strict=True)]


__all__ = ["FEW", "UNITS", "Comparison", "Interval", "Side", "adjusted", "common", "paired", "side"]
