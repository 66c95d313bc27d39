"""First finish beside majority at equal n, on a family whose wrong solutions are longer and on one where they are not.

    python -m flows.figures.first_finish            # guess and word, n = 8, 200 problems, five seeds

Majority is replayed over the first n stored candidates of a pool of best-of-n: they are, seed by seed, the texts that first
finish began. Differences are first finish minus majority, paired by problem, with 95% intervals by a bootstrap over problems.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from flows.figures.curves import POOL
from flows.figures.measured import Point, accuracies, difference, point, ratio_of, runs, said
from flows.tables import console, number, table
from search.select import Selector
from search.types import order
from store import queries
from store.database import open_database
from store.runs import planned
from verifiers.grade import Graders, Verdict

RULES = ("first-finish:n=8,m=1", "first-finish:n=8,m=3", "first-finish:n=8,m=5")
N = 8


def majority(n: int, ids: Sequence[str], database: str) -> Point:
    """Majority of the first n candidates of stored pools: what a run with that n would have been, with no generation."""
    columns = []
    with open_database(database) as opened, Graders() as graders:
        for run_id in ids:
            problems = {a.attempt_id: a.problem for a in planned(opened, run_id)}
            rows = []
            for attempt, pool in queries.entries(opened, run_id).items():
                own = [entry for entry in pool if order(entry.path) < (n,)]
                right = graders.grade(problems[attempt], Selector("majority")(own).answer) is Verdict.CORRECT
                rows.append([float(right), float(sum(entry.tokens for entry in own)), 0.0])
            columns.append(rows)
    return Point(f"majority of {n}", *np.mean(columns, axis=0).T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["guess", "word"])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--verifier", default="prm", help="of the pools: neither rule reads it")
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        asked = (problems, options.verifier, options.seeds, options.database)
        base = majority(N, runs(POOL, *asked), options.database)
        found = [base, *(point(rule, runs(rule, *asked), options.database) for rule in RULES)]
        title = f"\n{problems}, seeds {options.seeds}"
        made = table("strategy", ">accuracy", ">95%", ">difference", ">95%", ">tokens", ">saved", ">95%", title=title)
        for one, span in zip(found, accuracies(found), strict=True):
            tokens = number(float(one.tokens.mean()))
            if one is base:
                made.add_row(one.name, *said(span, 3), "", "", tokens, "", "")
                continue
            saved, low, high = ratio_of(one, base, "tokens")
            cells = (f"{1 - saved:.0%}", f"[{1 - high:.0%}, {1 - low:.0%}]")
            made.add_row(one.name, *said(span, 3), *said(difference(one, base), 3, "+"), tokens, *cells)
        console().print(made)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
