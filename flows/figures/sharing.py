"""What it saves that a sweep generates once what its runs have in common: best-of-n at several sizes with several selectors,
with and without sharing, in turn, and whether the rows are the same.

    python -m flows.figures.sharing [--problems 40] [--rounds 3]

In plain Python; the models are warm. `rows`: the candidates' tokens, statistics, states and answers, the choices and verdicts.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from flows import work
from flows.parts import spec
from flows.stretch import biggest_first
from flows.tables import console, number, table
from pipelines.problems.load import load_problems
from search.types import RunSpec
from store import queries, schema
from store.database import Database, open_database

SIZES = (4, 8, 16)
SELECTORS = ("majority", "self-certainty", "weighted", "best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    problems = f"word:split=test,count={options.problems},seed=1"
    specs = [spec(problems, f"best-of-n:n={n},select={selector}") for selector in SELECTORS for n in SIZES]
    list(work.solve(list(enumerate(load_problems(specs[0].problems)[:4])), specs[0]))  # warm
    seconds: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    rows: dict[bool, str] = {}
    generated: dict[bool, float] = {}
    for turn in range(options.rounds):
        for share in (True, False) if turn % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder, open_database(Path(folder) / "figures.db") as database:
                began, worked = time.perf_counter(), time.process_time()
                for each in biggest_first(specs, share):
                    work.evaluate(database, each, share=share)
                seconds[share].append(time.perf_counter() - began)
                cpu[share].append(time.process_time() - worked)
                rows[share], generated[share] = _rows(database), _generated(database, specs)
    made = table(
        "",
        ">seconds",
        ">least",
        ">most",
        ">CPU seconds",
        ">tokens generated",
        title=f"\n{len(specs)} runs of {options.problems} problems",
    )
    for share, name in ((False, "each run for itself"), (True, "shared")):
        own = seconds[share]
        cells = (number(rate(own), 1) for rate in (statistics.median, min, max))
        made.add_row(name, *cells, number(statistics.median(cpu[share]), 1), number(generated[share]))
    out = console()
    out.print(made)
    wall, worked = (statistics.median(b / a for a, b in zip(of[False], of[True], strict=True)) for of in (seconds, cpu))
    out.print(f"shared / for itself: {wall:.2f} of the wall time, {worked:.2f} of the CPU's (median of {options.rounds} pairs)")
    out.print(f"rows are {'the same' if rows[True] == rows[False] else 'NOT THE SAME'}")


def _generated(database: Database, specs: list[RunSpec]) -> float:
    found = [queries.summary(database, each.id) for each in specs]
    return sum((each.generated_tokens or 0.0) * each.problems - each.shared_tokens for each in found)


def _rows(database: Database) -> str:
    """A digest of what was stored, whatever the order in which runs were done."""
    a, c, p = schema.attempt.c, schema.candidate.c, schema.problem.c
    names = (c.path, c.packed, c.extra, c.text, c.finish, c.state, c.answer, c.logprob, c.certainty)
    candidates = select(a.run_id, p.id, *names).join_from(schema.candidate, schema.attempt).join(schema.problem)
    results = select(a.run_id, p.id, a.path, a.answer, a.votes, a.verdict, a.generated_tokens, a.verifier_passes)
    digest = hashlib.blake2b()
    with database.read() as connection:
        for asked in (candidates, results.join_from(schema.attempt, schema.problem)):
            for row in sorted(map(repr, connection.execute(asked))):
                digest.update(row.encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
