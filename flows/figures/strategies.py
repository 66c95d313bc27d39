"""Every registered strategy at one comparable size, about eight solutions where it has a size: one table a family.

    python -m flows.figures.strategies              # countdown, word and guess, 50 problems, one seed

Runs are in a database, and the same command goes on with them. A strategy that cannot run, or of which every search failed, has
its reason in place of figures. Costs are means a problem; seconds are generating, verifying and embedding. Intervals are a
bootstrap over problems.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flows.figures.measured import Span, accuracies, point, runs, said
from flows.sizes import words
from flows.tables import console, number, table
from search.strategies import STRATEGIES
from store import queries
from store.database import open_database

WIDTH = 150  # of the table
COSTS = ("generated_tokens", "sequential_tokens", "verifier_passes", "embedding_tokens", "small_tokens")


@dataclass(frozen=True, slots=True)
class Line:
    """One strategy: figures, or why there are none."""

    strategy: str
    accuracy: Span | None = None
    costs: tuple[float, ...] = ()  # COSTS, then seconds
    reason: str = ""


def line(strategy: str, problems: str, verifier: str, seeds: Sequence[int], database: str) -> Line:
    """Runs what is missing and reads it."""
    try:
        ids = runs(strategy, problems, verifier, seeds, database)
    except Exception as error:  # whatever it is: the table says it, and the others go on
        return Line(strategy, reason=f"{type(error).__name__}: {error}")
    with open_database(database) as opened:
        found = [queries.summary(opened, run_id) for run_id in ids]
        errors = [row.error for run_id in ids for row in queries.attempts(opened, run_id) if row.status == "failed"]
        costs = [queries.costs(opened, run_id, COSTS) for run_id in ids]
    total = sum(each.problems for each in found)
    if len(errors) == total:
        return Line(strategy, reason=f"every search failed: {errors[0]}")
    seconds = sum(each.generate_seconds + each.verify_seconds + each.embed_seconds for each in found) / total
    span = accuracies([point(strategy, ids, database)])[0]
    reason = f"{len(errors)} of {total} searches failed: {errors[0]}" if errors else ""
    return Line(strategy, span, (*np.mean(costs, axis=(0, 1)).tolist(), seconds), reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["countdown", "word", "guess"])
    parser.add_argument("--strategies", nargs="+", choices=[*STRATEGIES], metavar="NAME", default=[*STRATEGIES])
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--verifier", default="prm")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--database", default=".ponderosa/strategies.db")
    options = parser.parse_args()
    out, records = console(), {}
    out.width = max(out.width, WIDTH)
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        columns = (">tokens", ">sequential", ">passes", ">embedding", ">small", ">seconds")
        made = table("strategy", ">accuracy", ">95%", *columns, title=f"\n{problems}, seeds {options.seeds}")
        wanted = [each for each in words() if each.partition(":")[0] in options.strategies]
        found = [line(each, problems, options.verifier, options.seeds, options.database) for each in wanted]
        for each in found:
            if each.accuracy is not None:
                digits = (0, 0, 1, 0, 0, 2)
                cells = (number(cost, d) for cost, d in zip(each.costs, digits, strict=True))
                made.add_row(each.strategy, *said(each.accuracy, 3), *cells)
        out.print(made)
        for each in found:
            if each.reason:
                out.print(f"{each.strategy}: {each.reason}")
        sys.stdout.flush()
        records[family] = [asdict(each) for each in found]
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
