"""First finish beside majority at equal n, on a family whose wrong solutions are longer and on one where they are not.

    python -m flows.figures.first_finish            # guess and word, n = 8, 200 problems, two seeds

Differences are first-finish minus majority, paired by problem, with 95% intervals by bootstrap.
"""

from __future__ import annotations

import argparse

import numpy as np

from flows.figures.curves import point, runs
from flows.tables import console, number, table
from store.stats import paired_bootstrap

RULES = ("best-of-n:n=8,select=majority", "first-finish:n=8,m=1", "first-finish:n=8,m=3", "first-finish:n=8,m=5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["guess", "word"])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        found = []
        for rule in RULES:
            ids = runs(rule, problems, "logprob", options.seeds, options.database)
            found.append(point(rule, ids, options.database))
        made = table("strategy", ">accuracy", ">difference", ">95%", ">tokens", ">saved", title=f"\n{problems}")
        for one in found:
            estimate, low, high = paired_bootstrap(one.right.tolist(), found[0].right.tolist())
            saved = 1 - float(np.mean(one.tokens)) / float(np.mean(found[0].tokens))
            cells = (f"{estimate:+.3f}", f"[{low:+.3f}, {high:+.3f}]") if one is not found[0] else ("", "")
            made.add_row(one.name, number(float(one.right.mean()), 3), *cells, number(float(one.tokens.mean())), f"{saved:.0%}")
        console().print(made)


if __name__ == "__main__":
    main()
