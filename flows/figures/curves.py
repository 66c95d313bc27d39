"""Accuracy against generated tokens for the strategies at five sizes, and A* beside best-of-n at equal accuracy.

    python -m flows.figures.curves                  # word and countdown, 100 problems, two seeds
    python -m flows.figures.curves --verifier equation

Every point is a run in the database or, for best-of-n, a selector replayed over the first n candidates of one. The comparison
of A* with best-of-n takes, for each setting of A*, the best-of-n curve's tokens and passes at the same accuracy (linear between
its points), and a bootstrap over problems.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows import launch
from flows.parts import spec
from flows.tables import console, number, table
from search.select import Selector
from store import queries
from store.database import open_database
from store.runs import planned
from store.stats import wilson
from verifiers.grade import Graders, Verdict

SAMPLES = (1, 2, 4, 8, 16)  # of best-of-n: one pool of the largest serves them all
SELECTORS = {"best-of-n": "best", "majority": "majority", "weighted": "weighted"}
SIZES: Mapping[str, Sequence[str]] = {
    "beam": [f"beam:n={n},keep={k},select=best" for n, k in ((2, 1), (4, 2), (8, 4), (12, 4), (16, 4))],
    "astar": [f"astar:k={k}" for k in (1, 2, 3, 4, 8)],
    "first-finish": [f"first-finish:n={n},m={m}" for n, m in ((2, 1), (4, 2), (8, 3), (12, 5), (16, 7))],
}
ROUNDS = 2000  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: per problem (all seeds in a row) whether it was right, its generated tokens, its verifier passes."""

    name: str
    right: NDArray[np.float64]
    tokens: NDArray[np.float64]
    passes: NDArray[np.float64]


def points(problems: str, verifier: str, seeds: Sequence[int], database: str) -> dict[str, list[Point]]:
    """Runs what is not in the database yet and reads all points from it."""
    pools = runs(f"best-of-n:n={max(SAMPLES)},select=best", problems, verifier, seeds, database)
    found = {name: [replayed(name, n, selector, pools, database) for n in SAMPLES] for name, selector in SELECTORS.items()}
    for family, strategies in SIZES.items():
        found[family] = [point(s, runs(s, problems, verifier, seeds, database), database) for s in strategies]
    return found


def runs(strategy: str, problems: str, verifier: str, seeds: Sequence[int], database: str) -> list[str]:
    """One run a seed; their ids."""
    specs = [spec(problems, strategy, verifier, seed=seed) for seed in seeds]
    return launch.launch(specs, [f"{strategy} seed {seed}" for seed in seeds], database, plain=True)


def point(name: str, ids: Sequence[str], database: str) -> Point:
    """Problems in a row, each the mean over the seeds, so that resampling problems keeps a problem's seeds together."""
    with open_database(database) as opened:
        found = [queries.attempts(opened, run_id) for run_id in ids]
    asked = ("correct", "generated_tokens", "verifier_passes")
    columns = [np.mean([[float(getattr(row, f) or 0) for row in run] for run in found], axis=0) for f in asked]
    return Point(name, *columns)


def replayed(family: str, n: int, select: str, ids: Sequence[str], database: str) -> Point:
    """A selector over the first n stored candidates: what best-of-n with that n would have been, with no generation."""
    selector = Selector(select)
    columns: list[list[list[float]]] = []
    with open_database(database) as opened, Graders() as graders:
        for run_id in ids:
            problems = {a.attempt_id: a.problem for a in planned(opened, run_id)}
            rows = []
            for attempt, pool in queries.entries(opened, run_id).items():
                own = [entry for entry in pool if int(entry.path) < n]
                right = graders.grade(problems[attempt], selector(own).answer) is Verdict.CORRECT
                passes = sum(entry.value is not None for entry in own) if selector.needs_verifier else 0
                rows.append([float(right), float(sum(entry.tokens for entry in own)), float(passes)])
            columns.append(rows)
    right_, tokens, passes_ = np.mean(columns, axis=0).T
    return Point(f"{family} {n}", right_, tokens, passes_)


def at_equal_accuracy(curve: Sequence[Point], point: Point, what: str, pick: NDArray[np.int64]) -> float:
    """How much of `what` the curve needs for the point's accuracy, over the problems picked, divided by the point's."""
    accuracy = np.maximum.accumulate([float(p.right[pick].mean()) for p in curve])
    cost = [float(getattr(p, what)[pick].mean()) for p in curve]
    target, own = float(point.right[pick].mean()), float(getattr(point, what)[pick].mean())
    if own == 0:
        return float("nan")  # a verifier without passes
    if target > accuracy[-1]:
        return float("inf")  # the curve never gets there
    keep = [i for i in range(len(cost)) if i == 0 or accuracy[i] > accuracy[i - 1]]
    return float(np.interp(target, accuracy[keep], np.array(cost)[keep])) / own


def ratio(curve: Sequence[Point], point: Point, what: str) -> tuple[float, float, float]:
    """The ratio at equal accuracy and its 95% interval by a bootstrap over problems."""
    n = len(point.right)
    rng = np.random.default_rng(0)
    draws = [at_equal_accuracy(curve, point, what, rng.integers(0, n, n)) for _ in range(ROUNDS)]
    # sorted by hand: infinite draws (accuracy out of the curve's reach) are counted, not interpolated
    ordered = sorted(draws)
    return at_equal_accuracy(curve, point, what, np.arange(n)), ordered[ROUNDS // 40], ordered[-ROUNDS // 40]


def show(problems: str, seeds: Sequence[int], found: Mapping[str, Sequence[Point]]) -> None:
    out = console()
    made = table("strategy", ">accuracy", ">95% interval", ">tokens", ">passes", title=f"\n{problems}, seeds {list(seeds)}")
    for curve in found.values():
        for point in curve:
            mean, n = float(point.right.mean()), len(point.right)
            low, high = wilson(round(mean * n), n)
            cells = (number(float(point.tokens.mean())), number(float(point.passes.mean()), 1))
            made.add_row(point.name, number(mean, 3), f"[{low:.3f}, {high:.3f}]", *cells)
    out.print(made)
    versus = table("astar", ">tokens, best-of-n / A*", ">95%", ">passes, best-of-n / A*", ">95%", title="\nat equal accuracy")
    for point in found["astar"][1:]:
        row: list[str] = []
        for what in ("tokens", "passes"):
            value, low, high = ratio(found["best-of-n"], point, what)
            row += [f"{value:.2f}", f"[{low:.2f}, {high:.2f}]"]
        versus.add_row(point.name, *row)
    out.print(versus)
    out.print("inf: best-of-n at 16 samples does not reach A*'s accuracy")
    out.print("where A* is below best-of-n at one sample, the cost of one sample is taken")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["word", "countdown"])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--verifier", default="prm")
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        show(problems, options.seeds, points(problems, options.verifier, options.seeds, options.database))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
