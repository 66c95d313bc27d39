"""Kills a worker at a chosen commit point, and compares what databases hold.

The worker is a forked child that runs the real `work_shard` over a database, with the small language of the fakes or the bundled
model. Commit points are numbered as they come: just before each transaction commits, and just after.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fakes import FakeGenerator, FakeVerifier, boxed, by_text, question
from sqlalchemy import Connection, select

from flows import work
from search.types import Join, Part, Problem, RunSpec
from store import schema
from store.database import Database, open_database
from store.leases import Held
from store.runs import begin_run, close_run

# what differs between two runs of one spec, whoever did them: times, and who did it
TIMES = {"created", "ended", "seconds", "queue_seconds", "generate_seconds", "verify_seconds", "embed_seconds", "store_seconds"}
HOW_IT_WENT = {"tries", "error"}  # a worker that died before it wrote anything is held against what it was at
SKIPPED = {"lease", "session"}


@dataclass(frozen=True)
class FakeModel:
    """What `work` needs of a generator, over the small language."""

    engine: FakeGenerator

    def encode(self, text: str) -> tuple[int, ...]:
        return question(text).tokens


def fake_spec(strategy: str, **params: object) -> RunSpec:
    return RunSpec(Part("fake"), Part("fake"), Part("fake"), Part(strategy, params))


def fake_problems(n: int) -> list[Problem]:
    return [Problem(f"p{i}", f"question p{i}", str(question(f"question p{i}").tokens[1] % 4), "fake") for i in range(n)]


def with_fakes() -> None:
    """In a child: `work` searches the small language."""
    work.generator_of = lambda part: FakeModel(FakeGenerator(width=3, order="mixed"))  # type: ignore[assignment, return-value]
    work.verifier_of = lambda part: (FakeVerifier(by_text), Join.MIN)  # type: ignore[assignment]
    work.extractor_for = lambda meta: boxed  # type: ignore[assignment]


def planned_run(where: str, spec: RunSpec, problems: int) -> None:
    with open_database(where) as database:
        begin_run(database, spec, fake_problems(problems), {})


@contextmanager
def _counted(crash_at: int) -> Iterator[Callable[[], int]]:
    """Numbers the commit points, and kills this process at one of them."""
    seen = 0
    write = Database.write

    def point() -> None:
        nonlocal seen
        seen += 1
        if seen == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def counting(self: Database) -> Iterator[Connection]:
        with write(self) as connection:
            yield connection
            point()
        point()

    Database.write = counting  # type: ignore[method-assign]
    try:
        yield lambda: seen
    finally:
        Database.write = write  # type: ignore[method-assign]


def worker(where: str, spec: RunSpec, crash_at: int = 0, prepare: Callable[[], None] = with_fakes) -> int | None:
    """A child process works on the run until nothing is left; how many commit points it passed, None where it was killed."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            prepare()
            with open_database(where) as database, _counted(crash_at) as seen:
                work.through(database, spec.id, lambda shard: work.work_shard(database, spec, shard))
                close_run(database, spec.id)
                os.write(writer, str(seen()).encode())
                code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as said:
        points = said.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.waitstatus_to_exitcode(status) == 0, "the worker failed; its traceback is above"
    return int(points)


def contents(where: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without times and without who wrote it."""
    out = {}
    with open_database(where) as database, database.read() as connection:
        for name, table in schema.metadata.tables.items():
            if name in SKIPPED:
                continue
            rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            out[name] = [_timeless(row) for row in rows]
    return out


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in TIMES | HOW_IT_WENT}
    if "cost" in kept:
        kept["cost"] = {name: value for name, value in json.loads(kept["cost"]).items() if name not in TIMES}
    return kept


__all__ = ["Held", "contents", "fake_spec", "planned_run", "worker"]
