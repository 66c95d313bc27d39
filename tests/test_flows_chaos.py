"""What may happen around a run: its server comes and goes, the disk is full, it is told to stop. It ends, or stops in one line
and goes on later, and its rows are those of a run that nobody disturbed. The long form is `make soak`.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from crashes import (
    Child,
    FakeModel,
    Files,
    Nursery,
    Server,
    Setting,
    Stage,
    contents,
    first_difference,
    in_order,
    lease_rows,
    restarted_at_random,
    stored,
)
from fakes import FakeGenerator, FakeVerifier, boxed, by_text
from postgres import Postgres
from sqlalchemy import Connection, NullPool, create_engine, event, func, select

from flows import work
from search.types import Join
from store import database as store_database
from store.database import open_database
from store.runs import begin_run, find_run

pytestmark = pytest.mark.crash

WORKERS = 4


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


def test_a_server_that_is_stopped_and_started_under_four_workers_costs_no_row(nursery: Nursery, postgres: Postgres) -> None:
    stage = Stage(nursery, Server(postgres.url("chaos")), Setting.fake("beam", 64, shard=4, n=4, keep=2))
    where = stage.fresh()
    workers = [stage.start(where, pause=0.1) for _ in range(WORKERS)]
    for worker in workers:
        worker.until("point")
    stops = restarted_at_random(postgres, workers, Random(0), between=(1, 3), down=(0, 1))
    endings = [worker.wait() for worker in workers]
    for ending in endings:
        assert ending.code == 0, ending.traceback
    after = stored(where)
    assert not after.faults
    stage.check_end(where)
    in_order(endings)
    assert stops >= 4
    assert sum(sum(ending.made.values()) for ending in endings) == after.tokens  # nothing was generated twice


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_full_disk_stops_the_run_in_one_line_and_it_goes_on_when_there_is_room(
    nursery: Nursery, tmp_path: Path, share: float
) -> None:
    place = Files(tmp_path)
    stage = Stage(nursery, place, Setting.fake("beam", 24, n=8, keep=4))
    least, most = pages(str(place.folder / "planned.db")), pages(next(map(str, place.folder.glob("run-*.db"))))
    assert most > least + 10
    where = stage.fresh()
    before = stored(where)
    full = stage.start(where, most_pages=int(least + share * (most - least))).wait()
    assert (full.error[0], full.code) == ("WriteError", 74), full.traceback
    assert full.error[1].endswith("database or disk is full; free some disk space and run the same command again")
    assert "\n" not in full.error[1]
    assert stage.check(where, [full], before).replies  # and what is there is whole
    stage.run(where)
    stage.check_end(where)


def test_a_connection_that_is_lost_at_any_statement_or_commit_of_a_run_costs_no_row(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in its turn, so that none is left to chance: from the run's plan to what is derived after its last search."""
    monkeypatch.setattr(work, "generator_of", lambda part: FakeModel(FakeGenerator(width=3, order="mixed")))
    monkeypatch.setattr(work, "verifier_of", lambda part: (FakeVerifier(by_text), Join.MIN))
    monkeypatch.setattr(work, "extractor_for", lambda meta: boxed)
    monkeypatch.setattr(work, "environment", lambda spec: {})
    monkeypatch.setattr(work, "fingerprint", lambda name, role: name)
    monkeypatch.setattr(store_database, "_FIRST_PAUSE", 0.001)
    place = Server(postgres.url("lost"))
    settings = [Setting.fake("best-of-n", 1, n=n) for n in (2, 3)]  # the second takes what the first has
    settings = [replace(each, spec=replace(each.spec, weights="known")) for each in settings]
    for each in settings:
        place.plan(each)
    admin = create_engine(place.url, poolclass=NullPool)

    def run(lose_at: int | None) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """What is in the database at the end, and at how many places a connection could have been lost."""
        place.fresh()
        places = itertools.count(1)

        def reached(connection: Connection) -> None:
            if next(places) == lose_at:
                own = connection.connection.dbapi_connection
                assert own is not None
                with admin.connect() as other:
                    other.execute(select(func.pg_terminate_backend(own.info.backend_pid, 5000)))

        with open_database(place.url) as database:
            event.listen(database.engine, "before_cursor_execute", lambda connection, *_: reached(connection))
            event.listen(database.engine, "commit", reached)
            for each in settings:
                begin_run(database, each.spec, each.problems, {})
                work.resume(database, each.spec, share=True)
        return contents(place.url), next(places) - 1

    whole, _ = run(None)
    count = min(run(None)[1] for _ in range(3))  # a slow one may have had a beat of its lease too
    assert count > 100
    assert sum(row["shared_tokens"] for row in whole["attempt"]) > 0
    for lose_at in range(1, count + 1):
        found, reached = run(lose_at)
        assert reached > count, lose_at  # it was lost, and something was done again
        difference = first_difference(found, whole)
        assert not difference, f"{lose_at}: {difference}"


def pages(path: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("replies", [1, 5, 12])
def test_a_run_that_is_told_to_stop_gives_its_shard_back_and_goes_on_later(
    nursery: Nursery, tmp_path: Path, name: str, replies: int
) -> None:
    stage = Stage(nursery, Files(tmp_path), Setting.fake("beam", 4, n=4, keep=2))
    where = stage.fresh()
    before = stored(where)
    worker = stage.start(where, pause=0.1)
    worker.until("made", replies)
    told = time.monotonic()
    worker.send(getattr(signal, name))
    ending = worker.wait()
    assert time.monotonic() - told < 10
    assert ending.error == ("_Stopped", str(int(getattr(signal, name)))), ending.traceback
    stage.check(where, [ending], before)
    assert {row["owner"] for row in lease_rows(where)} == {""}
    with open_database(where) as database:
        assert find_run(database, "latest").status == "interrupted"
    stage.run(where)
    stage.check_end(where)


def test_a_worker_that_is_told_to_stop_twice_stops_at_once(nursery: Nursery, tmp_path: Path) -> None:
    stage = Stage(nursery, Files(tmp_path), Setting.fake("beam", 4, n=4, keep=2))
    where = stage.fresh()
    worker: Child = stage.start(where, pause=0.5)  # it meets the first signal at the end of its sleep
    worker.until("made")
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGTERM)
    assert worker.wait(10).code in (-signal.SIGTERM, 1)
    stage.run(where)
    stage.check_end(where)
