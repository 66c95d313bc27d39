"""What one database takes from several writers at once: candidates/s through the journal, each with a shard and its lease.

    python -m flows.figures.writers                              # SQLite, a new file
    python -m flows.figures.writers --database URL               # PostgreSQL

A writer is a process that hands over a commit of so many candidates as soon as the one before is written, for `--seconds`; rows
are made beforehand, of `--tokens` tokens and 10 characters for every three of them. The server's CPU is the writers' machine's.
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

from flows.figures.durable import made_problems, made_spec
from flows.tables import console, number, table
from search.packing import rounded
from search.types import Extend, Extension, Finish, Join, Row, Sampling, Step, Until
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
    parser.add_argument("--tokens", type=int, default=12, help="of a step")
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 64, 256], help="candidates a commit")
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--writer", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=16, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer >= 0:
        write(options.database, options.writer, options.batch, options.seed, options.seconds, options.tokens)
        return
    with tempfile.TemporaryDirectory() as folder:
        where = options.database or str(Path(folder) / "figures.db")
        made = table("candidates a commit", "writers", ">candidates/s", ">least", ">most", ">commits/s", ">slowest commit, s")
        for b, batch in enumerate(options.batches):
            for w, writers in enumerate(options.writers):
                seed = 1000 * (10 * b + w) + 100_000 * options.tokens
                found = [rate(where, writers, batch, seed + i, options.seconds, options.tokens) for i in range(options.rounds)]
                rates = [each.candidates for each in found]
                cells = (number(f(rates)) for f in (statistics.median, min, max))
                commits = number(statistics.median(each.commits for each in found))
                made.add_row(f"{batch}", f"{writers}", *cells, commits, number(max(each.worst for each in found), 2))
        console().print(made)


def rate(where: str, writers: int, batch: int, seed: int, seconds: float, tokens: int) -> Rate:
    """One round: the writers begin when all of them are up."""
    with open_database(where) as database:
        begin_run(database, made_spec(seed), made_problems(writers), {}, shard=1)
    command = [sys.executable, "-m", "flows.figures.writers", "--database", where, "--batch", str(batch), "--seed", str(seed)]
    command += ["--seconds", str(seconds), "--tokens", str(tokens)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([*command, "--writer", str(i)], text=True, **pipes) for i in range(writers)]  # type: ignore[call-overload]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in processes]
    return Rate(sum(float(one[0]) for one in said), sum(float(one[1]) for one in said), max(float(one[2]) for one in said))


def write(where: str, shard: int, batch: int, seed: int, seconds: float, tokens: int) -> None:
    """A writer: prints its candidates/s, commits/s and slowest commit."""
    spec, rng = made_spec(seed), np.random.default_rng(shard)
    replies = [reply_of(rng, batch, tokens) for _ in range(max(1, MADE // batch))]
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


def reply_of(rng: np.random.Generator, rows: int, tokens: int) -> tuple[Extend, Extension]:
    asked = tuple(Row(str(i), 1, (1, 2, 3), tokens) for i in range(rows))
    steps = tuple(step_of(rng, tokens) for _ in range(rows))
    return Extend(asked, Until.END, Sampling()), Extension(steps, 30, 400, flops=1e9, queue_seconds=1e-3, seconds=0.1)


def step_of(rng: np.random.Generator, tokens: int) -> Step:
    logprobs = -rng.exponential(0.3, tokens).astype(np.float32)
    ids, words = rng.integers(3, 500, tokens, dtype=np.int32), " ".join(map(str, rng.integers(0, 1000, tokens)))
    text = words[: tokens * 10 // 3]
    certainty, entropy = (rng.exponential(scale, tokens).astype(np.float32) for scale in (5, 1))
    return Step(ids, text, logprobs, certainty, entropy, Finish.END, logprobs)


if __name__ == "__main__":
    main()
