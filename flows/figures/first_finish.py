"""First finish beside majority at equal n, on a family whose wrong solutions are longer and on one where they are not.

    python -m flows.figures.first_finish            # guess and word, n = 8, 200 problems, five seeds

Majority votes over all n solutions, which are, seed by seed, the texts that first finish began. Differences are first finish
minus majority, paired by problem, with 95% intervals by a bootstrap over problems.
"""

from __future__ import annotations

import argparse
import sys

from flows.figures.measured import accuracies, difference, point, ratio_of, runs, said
from flows.tables import console, number, table

RULES = ("first-finish:n=8,m=1", "first-finish:n=8,m=3", "first-finish:n=8,m=5")
BASE = "best-of-n:n=8,select=majority"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["guess", "word"])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--verifier", default="prm", help="of the runs: no rule reads it")
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        asked = (problems, options.verifier, options.seeds, options.database)
        base = point(BASE, runs(BASE, *asked), options.database)
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
