"""What one database takes from several writers at once: candidates/s through the journal, each with a shard and its lease.

    python -m flows.figures.writers                              # SQLite, a new file
    python -m flows.figures.writers --database URL               # PostgreSQL

A writer is a process that hands over a commit of so many candidates as soon as the one before is written, for `--seconds`; rows
are made beforehand. Steps are those of the bundled generator in length: 12 tokens, 40 characters. The CPU that the server takes
is that of the same machine, as is that of the writers.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flows.figures.durable import _extension, _problems, _spec
from flows.tables import console, number, table
from search.packing import rounded
from search.types import Join
from store.database import open_database
from store.journal import StoreJournal
from store.leases import Lease, claim
from store.runs import begin_run, planned

MADE = 2_000  # candidates made beforehand; written again and again under new paths


class Rate(NamedTuple):
    """What the writers of one round got through."""

    candidates: float  # a second, all writers together
    commits: float  # likewise
    worst: float  # seconds, of the slowest commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writer", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=16, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer >= 0:
        write(options.database, options.writer, options.batch, options.seed, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        where = options.database or str(Path(folder) / "figures.db")
        made = table("candidates a commit", "writers", ">candidates/s", ">least", ">most", ">commits/s", ">slowest commit, s")
        for b, batch in enumerate((16, 64, 256)):
            for w, writers in enumerate((1, 2, 4, 8)):
                found = [rate(where, writers, batch, 1000 * (4 * b + w) + i, options.seconds) for i in range(options.rounds)]
                rates = [each.candidates for each in found]
                cells = (number(f(rates)) for f in (statistics.median, min, max))
                commits = number(statistics.median(each.commits for each in found))
                made.add_row(f"{batch}", f"{writers}", *cells, commits, number(max(each.worst for each in found), 2))
        console().print(made)


def rate(where: str, writers: int, batch: int, seed: int, seconds: float) -> Rate:
    """One round: the writers begin when all of them are up."""
    with open_database(where) as database:
        begin_run(database, _spec(seed), _problems(writers), {}, shard=1)
    command = [sys.executable, "-m", "flows.figures.writers", "--database", where, "--batch", str(batch), "--seed", str(seed)]
    command += ["--seconds", str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([*command, "--writer", str(i)], text=True, **pipes) for i in range(writers)]  # type: ignore[call-overload]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in processes]
    return Rate(sum(float(one[0]) for one in said), sum(float(one[1]) for one in said), max(float(one[2]) for one in said))


def write(where: str, shard: int, batch: int, seed: int, seconds: float) -> None:
    """A writer: prints its candidates/s, commits/s and slowest commit."""
    spec, rng = _spec(seed), np.random.default_rng(shard)
    replies = [_extension(rng, [str(i) for i in range(batch)]) for _ in range(max(1, MADE // batch))]
    with open_database(where) as database:
        lease = claim(database, spec.id, shard)
        assert isinstance(lease, Lease)
        (attempt,) = (each.attempt_id for each in planned(database, spec.id, shard))
        with StoreJournal(database, {attempt: attempt}, "equation", Join.MIN, lease=lease) as journal:
            journal.started(attempt)
            journal.written(journal.commit())
            sys.stdout.write("up\n")
            sys.stdout.flush()
            sys.stdin.readline()
            began, commits, worst = time.perf_counter(), 0, 0.0
            while time.perf_counter() - began < seconds:
                at = time.perf_counter()
                request, reply = replies[commits % len(replies)]
                rows = tuple(replace(row, path=str(commits * batch + i)) for i, row in enumerate(request.rows))
                steps = tuple(rounded(reply.steps))
                journal.answered(attempt, replace(request, rows=rows), replace(reply, steps=steps))
                journal.written(journal.commit())
                commits, worst = commits + 1, max(worst, time.perf_counter() - at)
            took = time.perf_counter() - began
        sys.stdout.write(f"{commits * batch / took} {commits / took} {worst}\n")


if __name__ == "__main__":
    main()
