"""Accuracy against generated tokens for the strategies at five sizes, and A* beside best-of-n at equal accuracy.

    python -m flows.figures.curves                  # word and countdown, 100 problems, three seeds
    python -m flows.figures.curves --verifier equation

Every point is a run in the database, so the curve can be asked again with no generation. The comparison of A* with best-of-n
takes, for each setting of A*, the best-of-n curve's tokens and passes at the same accuracy (linear between its points), and
a paired bootstrap over problems.
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
from store import queries
from store.database import open_database
from store.stats import wilson

SIZES: Mapping[str, Sequence[str]] = {
    "best-of-n": [f"best-of-n:n={n},select=best" for n in (1, 2, 4, 8, 16)],
    "majority": [f"best-of-n:n={n},select=majority" for n in (1, 2, 4, 8, 16)],
    "weighted": [f"best-of-n:n={n},select=weighted" for n in (1, 2, 4, 8, 16)],
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
    found: dict[str, list[Point]] = {}
    for family, strategies in SIZES.items():
        found[family] = []
        for strategy in strategies:
            specs = [spec(problems, strategy, verifier, seed=seed) for seed in seeds]
            ids = launch.launch(specs, [f"{strategy} seed {s}" for s in seeds], database, plain=True)
            found[family].append(point(strategy, ids, database))
    return found


def point(name: str, ids: Sequence[str], database: str) -> Point:
    """Problems in a row, each the mean over the seeds, so that resampling problems keeps a problem's seeds together."""
    with open_database(database) as opened:
        runs = [queries.attempts(opened, run_id) for run_id in ids]
    fields = ("correct", "generated_tokens", "verifier_passes")
    columns = [np.mean([[float(getattr(row, f) or 0) for row in run] for run in runs], axis=0) for f in fields]
    return Point(name, *columns)


def at_equal_accuracy(curve: Sequence[Point], point: Point, what: str, pick: NDArray[np.int64]) -> float:
    """How much of `what` the curve needs for the point's accuracy, over the problems picked, divided by the point's."""
    accuracy = np.maximum.accumulate([float(p.right[pick].mean()) for p in curve])
    cost = [float(getattr(p, what)[pick].mean()) for p in curve]
    target, own = float(point.right[pick].mean()), float(getattr(point, what)[pick].mean())
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["word", "countdown"])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--verifier", default="prm")
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        show(problems, options.seeds, points(problems, options.verifier, options.seeds, options.database))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
