"""Borda voting beside majority, over subsets of the stored pools of best-of-n: no run of its own where `curves` has been run.

    python -m flows.figures.votes                   # 32 samples of countdown, word and guess, 200 problems, five seeds

Both rules are given the same subsets of n of each pool, and the difference is paired by problem, with a 95% interval by a
bootstrap over problems. Ties are decided in two ways: split evenly among the answers, which is the vote alone; and by the rule
of a run (fewer tokens, then the earlier path), which helps the rule that has more ties.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.figures.curves import POOL, SAMPLES
from flows.figures.measured import Pools, Span, accuracies, difference, pools, runs, said
from flows.parts import part
from flows.tables import console, table
from search.select import Selector
from search.strategies import chosen

SIZES = (16, SAMPLES)
TIES = {"expected": "split", "by_rule": "by the rule"}
BASE = "majority"
Row = tuple[str, int, str, Span, Span]  # selector, n, ties, its accuracy, its difference from majority


def rows(have: Pools, selectors: Sequence[str], sizes: Sequence[int]) -> Iterator[Row]:
    """Majority, then each selector, at every size and under both ways with ties."""
    for ties, how in TIES.items():
        base = have.points(BASE, Selector(BASE), sizes, ties)
        for name in (BASE, *selectors):
            words = part(name)
            points = have.points(name, chosen(words.name, words.params), sizes, ties)
            for n, span, own, other in zip(sizes, accuracies(points), points, base, strict=True):
                yield name, n, how, span, difference(own, other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["countdown", "word", "guess"])
    parser.add_argument("--selectors", nargs="+", default=["borda", "borda:power=1.2"], help="beside majority")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--verifier", default="prm", help="of the pools: no vote reads it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    records = {}
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        have = pools(runs(POOL, problems, options.verifier, options.seeds, options.database), options.database)
        title = f"\n{problems}, seeds {options.seeds}, of {have.size} samples"
        made = table("selector", ">n", "ties", ">accuracy", ">95%", f">minus {BASE}", ">95%", title=title)
        found = list(rows(have, options.selectors, options.sizes))
        for name, n, how, span, apart in found:
            made.add_row(name, str(n), how, *said(span, 3), *(said(apart, 3, "+") if name != BASE else ("", "")))
        console().print(made)
        sys.stdout.flush()
        fields = ("selector", "n", "ties", "accuracy", "minus majority")
        records[family] = [dict(zip(fields, row, strict=True)) for row in found]
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
