"""Accuracy against generated tokens for the strategies at several sizes, and A* beside best-of-n at equal accuracy.

    python -m flows.figures.curves                               # countdown and word, 200 problems, five seeds
    python -m flows.figures.curves --families word --only astar  # the runs of a part: two processes may share the work
    python -m flows.figures.curves --plot-only                   # tables and plots of what is in the database

Every point is a run in the database, which the same command goes on with, or a selector over the pools of best-of-n: without
bias from all subsets of n, so that one pool of 32 gives every n. The comparison of A* with best-of-n takes, for each setting of
A*, what best-of-n costs at the same accuracy, linear between n and n + 1. Intervals are a bootstrap over problems.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.figures.measured import (
    COSTS,
    ROUNDS,
    Point,
    Span,
    accuracies,
    point,
    pools,
    ratio,
    runs,
    said,
    specs_of,
    whole,
)
from flows.figures.plots import draw
from flows.progress import said as note
from flows.tables import console, number, table
from search.select import Selector

SAMPLES = 32  # of a pool
POOL = f"best-of-n:n={SAMPLES},select=best"
SIZES = (1, 2, 4, 8, 16, 32)
SELECTORS = {"best-of-n": "best", "majority": "majority", "weighted": "weighted", "borda": "borda"}
SETTINGS: Mapping[str, Sequence[str]] = {
    "beam": [f"beam:n={n},keep={k}" for n, k in ((2, 1), (4, 2), (8, 4))],
    "dvts": [f"dvts:n={n},width={w}" for n, w in ((2, 2), (4, 2), (8, 4))],
    "rebase": [f"rebase:n={n}" for n in (2, 4, 8)],
    "particles": [f"particles:n={n}" for n in (2, 4, 8)],
    "astar": [f"astar:k={k}" for k in (2, 3, 4, 6)],
    "astar-reopen": [f"astar:k=1,reopen={d},root=0.9" for d in (0.2, 0.1, 0.05, 0.025)],
    "astar-rises": ["astar:k=4,cost=rises"],
    "astar-greedy": ["astar:k=4,cost=greedy"],
    "first-finish": [f"first-finish:n={n},m={m}" for n, m in ((4, 2), (8, 3), (16, 7))],
}
PARTS = ("best-of-n", *SETTINGS)
Curves = dict[str, list[Point]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured, and from where."""

    problems: str
    verifier: str
    seeds: tuple[int, ...]
    database: str
    stored: bool = False  # read what is in the database, and run nothing

    def ids(self, strategy: str) -> list[str] | None:
        """The strategy's runs; None where they are not there and are not to be run."""
        if not self.stored:
            return runs(strategy, self.problems, self.verifier, self.seeds, self.database)
        specs = specs_of(strategy, self.problems, self.verifier, self.seeds)
        if whole(specs, self.database):
            return [each.id for each in specs]
        note(f"not there, or not whole: {strategy} on {self.problems}")
        return None


def measured(asked: Asked, only: Sequence[str]) -> tuple[Curves, list[Point]]:
    """The curves, and best-of-n at every n up to SAMPLES."""
    found: Curves = {}
    every: list[Point] = []
    if "best-of-n" in only and (ids := asked.ids(POOL)) is not None:
        have = pools(ids, asked.database)
        found = {name: have.points(name, Selector(of), SIZES) for name, of in SELECTORS.items()}
        every = have.points("best-of-n", Selector("best"), range(1, SAMPLES + 1))
    for name, strategies in SETTINGS.items():
        if name not in only:
            continue
        own = [(strategy, asked.ids(strategy)) for strategy in strategies]
        points = [point(strategy, ids, asked.database) for strategy, ids in own if ids is not None]
        if points:
            found[name] = points
    return found, every


def versus(curves: Curves, every: Sequence[Point]) -> Iterator[tuple[str, dict[str, Span]]]:
    """Each setting of A* with its ratios: what best-of-n costs at equal accuracy over what it costs."""
    if every:
        for name in ("astar", "astar-reopen", "astar-rises", "astar-greedy"):
            for each in curves.get(name, []):
                yield each.name, {what: ratio(every, each, what) for what in COSTS}


def recorded(asked: Asked, curves: Curves, ratios: Mapping[str, Mapping[str, Span]]) -> dict[str, Any]:
    """Everything that is printed, for a file."""
    told = {}
    for name, points in curves.items():
        told[name] = [
            {"name": p.name, "accuracy": list(span), **{what: float(getattr(p, what).mean()) for what in COSTS}}
            for p, span in zip(points, accuracies(points), strict=True)
        ]
    return {"problems": asked.problems, "verifier": asked.verifier, "seeds": asked.seeds, "curves": told, "ratios": ratios}


def show(title: str, curves: Curves, ratios: Mapping[str, Mapping[str, Span]]) -> None:
    out = console()
    made = table("strategy", ">accuracy", ">95%", ">tokens", ">passes", ">verifier tokens", title=f"\n{title}")
    for points in curves.values():
        for each, span in zip(points, accuracies(points), strict=True):
            costs = (number(float(getattr(each, w).mean()), d) for w, d in zip(COSTS, (0, 1, 0), strict=True))
            made.add_row(each.name, *said(span, 3), *costs)
    out.print(made)
    if ratios:
        columns = (f">{what.replace('_', ' ')}" for what in COSTS)
        beside = table(">best-of-n / A*", *(c for what in columns for c in (what, ">95%")), title="\nat equal accuracy")
        for name, of in ratios.items():
            beside.add_row(name, *(cell for what in COSTS for cell in said(of[what])))
        out.print(beside)
        out.print(f"inf: best-of-n of {SAMPLES} does not reach A*'s accuracy; below best-of-n of 1, the cost of one is taken")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["countdown", "word"], help="of problems")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--verifier", default="prm")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--plot-only", action="store_true", help="run nothing: read what is in the database")
    parser.add_argument("--plots", type=Path, default=Path("search"), help="folder; drawn where every part is asked for")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    records = {}
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        asked = Asked(problems, options.verifier, tuple(options.seeds), options.database, options.plot_only)
        curves, every = measured(asked, options.only)
        ratios = dict(versus(curves, every))
        title = f"{family}: {options.problems} held-out problems, {len(options.seeds)} seeds"
        show(title, curves, ratios)
        records[family] = recorded(asked, curves, ratios)
        if curves and set(options.only) == set(PARTS):
            draw(title, curves, options.plots / f"curves-{family}.svg")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()

__all__ = ["PARTS", "POOL", "ROUNDS", "Point", "measured", "point", "runs", "versus"]
