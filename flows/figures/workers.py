"""How soon workers stop, and how little they leave.

    python -m flows.figures.workers cancel      # from `cancel` to the last token of every worker, and to the last lease
    python -m flows.figures.workers terminate   # from SIGTERM to the end of a worker, and its exit code

`--workers` how many work on one run; `--rounds` how often; `--database` a path (default: a new file) or a PostgreSQL URL. The
run is one long generation: solutions of up to 2,000 tokens at a temperature at which they hardly ever end by themselves.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from flows.tables import console, number, table
from search.types import RunSpec
from store import queue
from store.database import Database, open_database
from store.leases import is_dead

LONG = {"problems": "word:count=64,seed=7", "strategy": "best-of-n:n=8,select=majority"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cancel", "terminate", "work"])
    parser.add_argument("--database", default="")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ticks", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.database or str(Path(folder) / "figures.db")
        if options.what == "work":
            work(where, options.ticks)
        elif options.what == "cancel":
            cancelled(where, folder, options.workers, options.rounds)
        else:
            terminated(where, folder, options.workers, options.rounds)


def long_run(seed: int) -> RunSpec:
    from flows.parts import spec
    from search.types import Sampling

    return spec(
        LONG["problems"], LONG["strategy"], verifier="logprob", sampling=Sampling(temperature=4.0), tokens=2000, seed=seed
    )


def work(where: str, ticks: str) -> None:
    """A worker as the command has it, that writes down when its engine has made a token."""
    from flows import work as working
    from flows.cli import entry

    engine = working.generator_of(long_run(0).generator).engine
    advance = engine.advance
    out = os.open(ticks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def ticking() -> object:
        try:
            return advance()
        finally:
            os.write(out, f"{time.monotonic()}\n".encode())

    engine.advance = ticking  # type: ignore[method-assign, assignment]
    sys.argv = ["ponderosa", "worker", "-d", where, "--slots", "64"]
    entry.main()


@contextmanager
def workers(where: str, folder: str, count: int) -> Iterator[list[tuple[subprocess.Popen[bytes], Path]]]:
    started = []
    for i in range(count):
        ticks = Path(folder) / f"ticks-{time.monotonic_ns()}-{i}"
        command = [sys.executable, "-m", "flows.figures.workers", "work", "--database", where, "--ticks", str(ticks)]
        started.append((subprocess.Popen(command, stderr=subprocess.DEVNULL), ticks))
    try:
        yield started
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


def last(ticks: Path) -> float:
    """When a worker's engine made its last token; 0 before its first."""
    lines = ticks.read_text().split("\n")[:-1] if ticks.exists() else []
    return float(lines[-1]) if lines else 0.0


def busy(started: Sequence[tuple[subprocess.Popen[bytes], Path]], since: float) -> None:
    """Waits until every worker generates."""
    until = time.monotonic() + 300
    while not all(last(ticks) > since for _, ticks in started):
        if time.monotonic() > until:
            raise TimeoutError("the workers do not generate")
        time.sleep(0.1)


def begun(database: Database, seed: int) -> str:
    from flows import work as working

    spec = long_run(seed)
    working.submit(database, spec, "long", shard=4)
    return spec.id


def children(pid: int) -> int:
    import psutil  # type: ignore[import-untyped]

    return len(psutil.Process(pid).children(recursive=True))


def cancelled(where: str, folder: str, count: int, rounds: int) -> None:
    tokens, leases, left, waves = [], [], 0, []
    with open_database(where) as database, workers(where, folder, count) as started:
        for seed in range(rounds):
            since = time.monotonic()
            run_id = begun(database, seed)
            busy(started, since)
            time.sleep(2.0)
            asked = time.monotonic()
            queue.cancel(database, run_id)
            while queue.owners(database, run_id):
                time.sleep(0.02)
            leases.append(time.monotonic() - asked)
            time.sleep(1.0)
            tokens += [last(ticks) - asked for _, ticks in started]
            left += sum(children(process.pid) for process, _ in started)
            waves += [wave(ticks) for _, ticks in started]
    heads = ">to the last token, s: median", ">most", ">to the last lease: median", ">most"
    made = table("database", "workers", ">cancellations", *heads, ">children left", ">a wave, s: median")
    kind = "PostgreSQL" if "://" in where else "SQLite"
    seconds = (number(f(each), 2) for each in (tokens, leases) for f in (statistics.median, max))
    made.add_row(kind, f"{count}", f"{rounds}", *seconds, f"{left}", number(statistics.median(waves), 3))
    console().print(made)


def wave(ticks: Path) -> float:
    """Seconds from a token of all rows to the next, median of the last 50."""
    times = [float(line) for line in ticks.read_text().split("\n")[-52:-1]]
    return statistics.median(b - a for a, b in pairwise(times))


def terminated(where: str, folder: str, count: int, rounds: int) -> None:
    seconds, codes, held = [], set(), 0
    with open_database(where) as database:
        for seed in range(rounds):
            with workers(where, folder, count) as started:
                since = time.monotonic()
                run_id = begun(database, seed)
                busy(started, since)
                time.sleep(1.0)
                asked = time.monotonic()
                for process, _ in started:
                    process.send_signal(signal.SIGTERM)
                for process, _ in started:
                    codes.add(process.wait(60))
                    seconds.append(time.monotonic() - asked)
                held += sum(not is_dead(owner) for owner in _leases(database, run_id))
                queue.cancel(database, run_id)
    made = table("database", "workers", ">signals", ">to its end, s: median", ">most", ">exit codes", ">leases not given back")
    kind = "PostgreSQL" if "://" in where else "SQLite"
    ends = (number(f(seconds), 2) for f in (statistics.median, max))
    made.add_row(kind, f"{count}", f"{len(seconds)}", *ends, ", ".join(map(str, sorted(codes))), f"{held}")
    console().print(made)


def _leases(database: Database, run_id: str) -> list[str]:
    from sqlalchemy import select

    from store import schema

    held = select(schema.lease.c.owner).where(schema.lease.c.shard.startswith(f"{run_id}/"), schema.lease.c.owner != "")
    return list(database.consult(lambda connection: connection.scalars(held).all()))


if __name__ == "__main__":
    main()
