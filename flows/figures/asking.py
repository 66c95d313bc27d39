"""What questions and reports cost.

    python -m flows.figures.asking million     # every named question, and the report, over 1,000,000 candidates
    python -m flows.figures.asking sweep       # the report of a sweep of 200 problems on the bundled models
    python -m flows.figures.asking export      # 100,000 candidates in every format that holds so many

`--database` keeps the database (default: a new file in a temporary folder); one that is there is asked as it is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from flows import solved
from flows.figures.durable import WIDTH, command, fill, made_problems, made_spec
from flows.launch import launch
from flows.parts import spec
from flows.sizes import ASTAR
from flows.tables import console, number, table
from store.database import open_database
from store.questions import QUESTIONS
from store.runs import begin_run, close_run, list_runs

FORMATS = ("parquet", "jsonl", "lm-eval", "prm", "preferences")  # inspect's writer takes minutes
# what is made has one length and few scores, which questions would go through faster than a model's
SPREAD = """
UPDATE solution SET tokens = 20 + (number * 7919 + attempt_id * 104729) % 300,
                    value = ((number * 7919 + attempt_id * 104729) % 9973) / 9973.0
"""
PROBLEMS = "countdown:split=test,count=200,seed=5"
STRATEGIES = (
    "greedy",
    "best-of-n:n=16,select=majority",
    "best-of-n:n=16,select=weighted",
    "beam:n=8,keep=4,select=weighted",
    "dvts:n=8,width=4",
    "rebase:n=8",
    "mcts:k=4,simulations=16",
    ASTAR,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["million", "sweep", "export"])
    parser.add_argument("--database", default="")
    parser.add_argument("--candidates", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.database or str(Path(folder) / "figures.db")
        there = Path(where).exists()
        if options.what == "million":
            if not there:
                _fill(where, options.candidates or 1_000_000)
            _questions(where)
        elif options.what == "export":
            if not there:
                _fill(where, options.candidates or 100_000)
            _exports(where, folder)
            return
        elif not there:
            launch([spec(PROBLEMS, each) for each in STRATEGIES], STRATEGIES, where, plain=True)
        _report(where, folder)


def _fill(where: str, candidates: int) -> None:
    with open_database(where) as database:
        made = made_spec(0)
        fill(database, begin_run(database, made, made_problems(candidates // WIDTH), {}))
        close_run(database, made.id)
        began = time.perf_counter()
        count = solved.ensure(database, [made.id])
        console().print(f"{count:,} solutions derived in {time.perf_counter() - began:.1f} s, once")
        database.transact(lambda connection: connection.execute(text(SPREAD)))


def _questions(where: str) -> None:
    with open_database(where) as database:
        runs = list_runs(database)
        made = table("question", ">seconds", ">least", ">most", ">rows", title="\nmedian of five")
        for name, question in QUESTIONS.items():
            seconds, rows = [], 0
            for _ in range(5):
                began = time.perf_counter()
                rows = len(question.ask(database, runs))
                seconds.append(time.perf_counter() - began)
            cells = (statistics.median(seconds), min(seconds), max(seconds))
            made.add_row(name, *(number(each, 2) for each in cells), number(rows))
        console().print(made)


def _exports(where: str, folder: str) -> None:
    """Each in a process of its own, from its start."""
    made = table("format", ">seconds", ">MB of memory")
    for format in FORMATS:
        words = ["export", "latest", "--format", format, "-o", str(Path(folder) / format), "--database", where]
        seconds, megabytes = command(words)
        made.add_row(format, number(seconds, 1), number(megabytes))
    console().print(made)


def _report(where: str, folder: str) -> None:
    """In a process of its own, from its start."""
    page = str(Path(folder) / "report.html")
    with open_database(where) as database:
        ids = [run.id for run in list_runs(database)][::-1]
    seconds, megabytes = command(["report", *ids, "-o", page, "--force", "--database", where])
    size = Path(page).stat().st_size / 1e6
    console().print(
        f"\nponderosa report of {len(ids)} runs: {seconds:.1f} s, {megabytes:,.0f} MB of memory, a page of {size:.1f} MB"
    )


if __name__ == "__main__":
    main()
