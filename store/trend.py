"""The runs of one schedule as a series: accuracy with its interval, costs, and the paired difference with other runs of it.

Differences are over the problems that both runs have finished, later minus earlier, with a 95% interval from a bootstrap over
problems. Where a schedule's seeds are the same in every slot, a run that nothing has changed for has the same texts, and a
difference of exactly 0: any other is a change of weights, code or libraries, and `changed` names what is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import stats
from .compare import Interval, Side, side
from .database import Database
from .queries import summary
from .rows import Summary
from .runs import Run, get_run
from .schedules import Schedule
from .slots import Slot, list_slots

# what a run depends on beside its spec, in the words of its environment
DEPENDS = ("commit", "torch", "transformers", "tokenizers", "numpy", "numba", "python", "processor", "device", "dtype", "path")
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Point:
    """One finished slot."""

    slot: Slot
    run: Run
    found: Summary
    seconds: float  # generating, verifying, embedding and storing
    first: Interval | None  # accuracy minus that of the series' first run; None for that one, or with no problem in common
    previous: Interval | None  # minus that of the run before
    problems: int | None  # that both this run and the one before have finished; None for the first
    changed: tuple[str, ...]  # since the run before: weights, or words of DEPENDS


def trend(db: Database, schedule: Schedule, last: int | None = None, resamples: int = RESAMPLES, seed: int = 0) -> list[Point]:
    """The finished slots of a schedule, the earliest first; only the last so many, where given. The first of these is the one
    that `first` compares with."""
    found_runs = [(slot, get_run(db, slot.run_id or "")) for slot in list_slots(db, schedule.name, last, ("done",))[::-1]]
    slots, runs = [slot for slot, run in found_runs if run], [run for _, run in found_runs if run]
    sides = [side(db, [run]) for run in runs]
    drawn = _Drawn(sides, resamples, seed)
    points = []
    for i, (slot, run) in enumerate(zip(slots, runs, strict=True)):
        found = summary(db, run.id)
        previous = drawn.difference(i - 1, i) if i else None
        points.append(
            Point(
                slot=slot,
                run=run,
                found=found,
                seconds=found.generate_seconds + found.verify_seconds + found.embed_seconds + found.store_seconds,
                first=drawn.difference(0, i) if i else None,
                previous=previous,
                problems=len(drawn.shared(i - 1, i)) if i else None,
                changed=_changed(runs[i - 1], run) if i else (),
            )
        )
    return points


def latest_slot(db: Database, name: str) -> Slot | None:
    """The latest slot that ended with a run or without one: what tells whether the schedule works now."""
    return next(iter(list_slots(db, name, 1, ("done", "failed"))), None)


class _Drawn:
    """Differences of accuracy between runs; those over the same problems share one bootstrap."""

    def __init__(self, sides: Sequence[Side], resamples: int, seed: int) -> None:
        self.sides, self.resamples, self.seed = sides, resamples, seed
        self._means: dict[frozenset[str], Mapping[int, Any]] = {}

    def shared(self, i: int, j: int) -> list[str]:
        return [key for key in self.sides[i].right if key in self.sides[j].right]

    def difference(self, i: int, j: int) -> Interval | None:
        keys = self.shared(i, j)
        if not keys:
            return None
        of = frozenset(keys)
        if of not in self._means:
            while len(self._means) >= 4:  # problem sets that change with every slot must not fill the memory
                del self._means[next(iter(self._means))]
            # every run that has all of these problems, in one go
            whole = [k for k, each in enumerate(self.sides) if of <= each.right.keys()]
            right = np.array([[self.sides[k].right[key] for k in whole] for key in keys])
            drawn = stats.resampled_means(right, self.resamples, self.seed)
            self._means[of] = {k: (float(right[:, c].mean()), drawn[:, c]) for c, k in enumerate(whole)}
        (before, drawn_before), (after, drawn_after) = self._means[of][i], self._means[of][j]
        return (after - before, *stats.interval(drawn_after - drawn_before))


def _changed(before: Run, after: Run) -> tuple[str, ...]:
    weights = ("weights",) if before.spec.weights != after.spec.weights else ()
    return (*weights, *(name for name in DEPENDS if before.environment.get(name) != after.environment.get(name)))


__all__ = ["DEPENDS", "Point", "latest_slot", "trend"]
