"""Cancelling: the work ends at its next turn, or is broken off where it makes none, and what it has is gone on with."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import audit, cancelling, work
from flows.cancelling import heeding
from flows.parts import spec
from search.types import RunSpec
from store import queue
from store.database import Database, open_database
from store.errors import Cancelled
from store.runs import begin_run, find_run

PROBLEMS = "word:count=6,levels=2-4,seed=3"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "LOOK", 0.05)
    monkeypatch.setattr(cancelling, "GRACE", 0.2)


def submitted(database: Database, strategy: str = "beam:n=4,keep=2", shard: int = 64) -> RunSpec:
    asked = spec(PROBLEMS, strategy)
    work.submit(database, asked, shard=shard)
    return asked


def test_work_that_makes_turns_ends_at_one_of_them(database: Database) -> None:
    asked, turns = submitted(database), list[int]()

    def worked() -> None:
        with heeding(database, asked.id) as pulse:
            queue.cancel(database, asked.id)
            while len(turns) < 1000:
                turns.append(1)
                pulse()
                time.sleep(0.01)

    with pytest.raises(Cancelled, match=asked.id):
        worked()
    assert 1 < len(turns) < 500


def test_work_that_makes_no_turn_is_broken_off_even_while_it_sleeps(database: Database) -> None:
    asked, began = submitted(database), time.monotonic()

    def worked() -> None:
        with heeding(database, asked.id):
            queue.cancel(database, asked.id)
            time.sleep(30)

    with pytest.raises(Cancelled):
        worked()
    assert time.monotonic() - began < 10


def test_work_in_a_thread_is_broken_off_too(database: Database) -> None:
    asked, ends = submitted(database), list[str]()

    def working() -> None:
        try:
            with heeding(database, asked.id):
                queue.cancel(database, asked.id)
                until = time.monotonic() + 30
                while time.monotonic() < until:
                    time.sleep(0.01)
        except Cancelled:
            ends.append("cancelled")

    thread = threading.Thread(target=working)
    thread.start()
    thread.join(10)
    assert ends == ["cancelled"]


def test_a_signal_that_comes_when_the_work_is_over_means_nothing(database: Database) -> None:
    with heeding(database, submitted(database).id):
        os.kill(os.getpid(), signal.SIGUSR1)  # somebody else's; the default action would end this process
        assert signal.getsignal(signal.SIGUSR1) is cancelling._on_signal
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    assert signal.getsignal(signal.SIGUSR1) is cancelling._on_signal
    assert cancelling._watches == []


def test_a_run_that_is_called_off_is_not_begun_with(database: Database) -> None:
    asked = submitted(database)
    queue.cancel(database, asked.id)
    with pytest.raises(Cancelled):
        work.work_extent(database, asked, [0])
    assert queue.owners(database, asked.id) == []


def test_a_cancelled_run_gives_its_lease_back_frees_the_engine_and_ends_as_if_nothing_had_been(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = submitted(database)
    engine = work.generator_of(asked.generator).engine
    advance, tokens = engine.advance, [0]

    def slow() -> object:
        tokens[0] += 1
        if tokens[0] == 30:
            queue.cancel(database, asked.id)
        time.sleep(0.01)
        return advance()

    monkeypatch.setattr(engine, "advance", slow)
    with pytest.raises(Cancelled):
        work.resume(database, asked)
    monkeypatch.undo()
    assert 30 <= tokens[0] < 200
    assert not engine.busy
    assert queue.owners(database, asked.id) == []
    assert find_run(database, asked.id).status == "cancelled"
    work.resume(database, asked)
    with open_database(tmp_path / "whole.db") as other:
        work.evaluate(other, asked)
        assert texts(database) == texts(other)
    assert audit.run(database, asked.id, None, False) == 0
    assert find_run(database, asked.id).status == "done"


def texts(database: Database) -> list[tuple[object, ...]]:
    from sqlalchemy import select

    from store import schema

    c, a = schema.candidate.c, schema.attempt.c
    asked = select(a.position, c.path, c.text, c.state).join_from(schema.candidate, schema.attempt).order_by(a.position, c.path)
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(asked)]


def test_cancelling_says_who_is_still_at_it(database: Database) -> None:
    from store.leases import claim

    asked, said = submitted(database), list[str]()
    claim(database, asked.id, 0)
    assert not cancelling.cancel(database, asked.id, said.append, seconds=0.2)
    assert said[0] == f"run {asked.id} is cancelled"
    assert f"process {os.getpid()}" in said[1]


def test_a_run_that_another_process_waits_for_ends_there_too(database: Database) -> None:
    """`through` waits for shards that others have: of a run that is called off they may never come."""
    asked = submitted(database)
    begin_run(database, asked, [a.problem for a in work.planned(database, asked.id)], {})
    queue.cancel(database, asked.id)
    with pytest.raises(Cancelled):
        work.through(database, asked.id, lambda shard: None)
