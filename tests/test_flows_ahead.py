"""A run that begins before Prefect is there: it is the same run, and gives its shard back when it is stopped."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from flows import extent, work
from flows.ahead import Ahead, done_ahead, hand_over, is_ahead
from flows.parts import spec
from search.types import RunSpec
from store.database import Database, open_database
from store.extents import Share
from store.leases import claim
from store.runs import open_shards

JOINED = "candidate c join attempt a on a.id = attempt_id"
ROWS = f"select a.position, c.path, c.text, c.state, a.verdict from {JOINED} order by 1, 2"
SPEC = spec("word:count=6,levels=2-4,seed=3", "beam:n=4,keep=2")


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def test_what_is_done_ahead_is_what_the_flow_would_have_done(tmp_path: Path) -> None:
    begun = Ahead(SPEC, "a", str(tmp_path / "a.db")).start()
    try:
        begun.await_token(600)  # a busy machine loads the models for a minute
        hand_over(SPEC.id)
        assert done_ahead([SPEC.id]) == 6
        assert not is_ahead(SPEC.id), "it is waited for once"
    finally:
        begun.stop()
    with open_database(tmp_path / "b.db") as database:
        work.evaluate(database, SPEC, "b")
    assert ask(tmp_path / "a.db", ROWS) == ask(tmp_path / "b.db", ROWS)


def test_after_the_hand_over_no_further_shard_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LEAST", 1)  # problems that it begins with
    begun = Ahead(SPEC, "a", str(tmp_path / "a.db"), size=2)
    monkeypatch.setattr(extent, "share_of", lambda *_: Share(60.0, 1, None))
    extents: list[list[int]] = []
    work_extent = work.work_extent

    def handed_over(database: Database, asked: RunSpec, shards: list[int], *what: object, **how: object) -> object:
        extents.append(shards)
        begun._handed = True
        return work_extent(database, asked, shards, *what, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "work_extent", handed_over)
    begun.start()
    try:
        assert done_ahead([SPEC.id]) == 2
    finally:
        begun.stop()
    assert extents == [[0, 1, 2]]
    with open_database(tmp_path / "a.db") as database:
        assert open_shards(database, SPEC.id) == [1, 2]


def test_what_is_stopped_gives_its_shard_back_and_leaves_the_run_interrupted(tmp_path: Path) -> None:
    asked = spec("word:count=24,levels=2-4,seed=5", "beam:n=8,keep=4")
    begun = Ahead(asked, "a", str(tmp_path / "a.db")).start()
    begun.await_token(600)
    time.sleep(0.2)
    began = time.monotonic()
    begun.stop()
    assert time.monotonic() - began < 10
    assert ask(tmp_path / "a.db", "select distinct owner from lease") == [("",)]
    assert ask(tmp_path / "a.db", "select status from run") == [("interrupted",)]
    with open_database(tmp_path / "a.db") as database:
        work.evaluate(database, asked)
    assert ask(tmp_path / "a.db", "select status, count(*) from attempt group by 1") == [("done", 24)]


def test_a_shard_that_another_process_has_is_left_to_the_flow(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as database:
        work.plan(database, SPEC)
        claim(database, SPEC.id, 0, "elsewhere/boot/1/1")
    begun = Ahead(SPEC, "a", str(tmp_path / "a.db")).start()
    try:
        begun.await_token(600)
        hand_over(SPEC.id)
        assert done_ahead([SPEC.id]) == 0
    finally:
        begun.stop()


def test_what_fails_ahead_is_raised_where_the_flow_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(work, "work_extent", broken)
    begun = Ahead(SPEC, "a", str(tmp_path / "a.db")).start()
    try:
        begun.await_token(600)
        hand_over(SPEC.id)
        with pytest.raises(OSError, match="no disk"):
            done_ahead([SPEC.id])
    finally:
        begun.stop()
