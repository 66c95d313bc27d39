"""How much of a run a task takes on, and that further shards are leased as safely as the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from test_store_fakes import make_problems, make_spec

from search.types import RunSpec
from store import schema
from store.database import Database, open_database
from store.errors import LeaseLost
from store.extents import pace, share_of, workers
from store.leases import Held, Lease, claim, standing
from store.runs import begin_run, join_run

SPEC = make_spec()


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with open_database(where) as database:
        yield database


def taken(db: Database, shard: int, owner: str = "") -> Lease:
    lease = claim(db, SPEC.id, shard, owner)
    assert isinstance(lease, Lease)
    return lease


def measured(db: Database, spec: RunSpec, problems: int, seconds: float) -> None:
    """A run whose ledger says how long each of its problems took."""
    begin_run(db, spec, make_problems(problems), {})
    attempt = schema.attempt
    closed = {"status": "done", "generated_tokens": 1, "generate_seconds": seconds, "verify_seconds": 0.0}
    with db.write() as connection:
        connection.execute(update(attempt).where(attempt.c.run_id == spec.id).values(closed))


def test_a_lease_takes_on_what_is_free_and_no_more_than_it_is_told(db: Database) -> None:
    begin_run(db, SPEC, make_problems(40), {}, shard=8)
    other = taken(db, 2)
    mine = taken(db, 0)
    assert mine.extend([0, 1, 2, 3, 4], 2) == [1, 3], "its own first one and another's are not to be had"
    assert set(mine.more) == {f"{SPEC.id}/1", f"{SPEC.id}/3"}
    assert isinstance(claim(db, SPEC.id, 3), Held)
    free, held = standing(db, SPEC.id, [0, 1, 2, 3, 4])
    assert (free, [each.shard for each in held]) == ([4], [f"{SPEC.id}/{n}" for n in (0, 1, 2, 3)])
    mine.release()
    assert standing(db, SPEC.id, [0, 1, 2, 3, 4])[0] == [0, 1, 3, 4]
    other.release()


def test_who_loses_one_of_its_shards_writes_to_none_of_them(db: Database) -> None:
    begin_run(db, SPEC, make_problems(16), {}, shard=8)
    mine = taken(db, 0)
    assert mine.extend([1], 1) == [1]
    thief = claim(db, SPEC.id, 1, stale=-1.0)
    assert isinstance(thief, Lease)
    with pytest.raises(LeaseLost), db.write() as connection:
        mine.fence(connection, 1)
    mine.release()
    assert isinstance(claim(db, SPEC.id, 0), Lease), "what was still its own is given back"
    assert isinstance(claim(db, SPEC.id, 1), Held), "and what is another's is not"


def test_a_heartbeat_is_of_all_shards_that_it_has(db: Database) -> None:
    begin_run(db, SPEC, make_problems(24), {}, shard=8)
    mine = taken(db, 0)
    mine.extend([1, 2], 2)
    with db.write() as connection:
        connection.execute(update(schema.lease).values(heartbeat=0.0))
    with db.write() as connection:
        mine.fence(connection, 3)
    assert standing(db, SPEC.id, [0, 1, 2])[0] == []
    with db.read() as connection:
        assert set(connection.scalars(schema.lease.select().with_only_columns(schema.lease.c.progress))) == {3}


def test_a_pace_is_of_the_run_itself_else_of_the_newest_of_its_kind_else_not_known(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pace(db, SPEC) is None
    measured(db, make_spec(seed=5), 4, 7.0)
    begin_run(db, SPEC, make_problems(4), {})
    assert pace(db, SPEC) == 7.0, "another seed takes as long"
    other = make_spec(n=31)
    begin_run(db, other, make_problems(4), {})
    assert pace(db, other) is None, "another width does not"
    with db.write() as connection:
        mine = update(schema.attempt).where(schema.attempt.c.run_id == SPEC.id)
        connection.execute(mine.values(status="done", generated_tokens=1, generate_seconds=2.0, verify_seconds=1.0))
    looked: list[str] = []
    monkeypatch.setattr("store.extents._kind", looked.append)
    assert (pace(db, SPEC), looked) == (3.0, []), "no other run is looked at"


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(None, 64), (0.1, 64), (2.0, 30), (10.0, 16)],
    ids=["unknown", "quick", "some seconds", "long"],
)
def test_a_task_begins_with_what_fills_its_time_and_no_less_than_a_batch_needs(
    db: Database, seconds: float | None, wanted: int
) -> None:
    if seconds is not None:
        measured(db, make_spec(seed=5), 4, seconds)
    begin_run(db, SPEC, make_problems(200), {})
    assert share_of(db, SPEC, 60.0, batch=64, least=16).problems == wanted


def test_workers_that_come_together_leave_each_other_their_part(db: Database) -> None:
    begin_run(db, SPEC, make_problems(40), {}, shard=8)
    assert workers(db, SPEC.id) == 1
    for name in ("elsewhere/1/1/a", "elsewhere/1/2/b"):
        join_run(db, SPEC.id, name, {})
    assert workers(db, SPEC.id) == 2
    assert share_of(db, SPEC, 60.0, batch=64, least=16).problems == 20
    with db.write() as connection:
        connection.execute(update(schema.session).values(started="2026-01-01T00:00:00"))
    assert workers(db, SPEC.id) == 1, "who came long ago and has nothing is not waited for"


def test_an_old_runs_shards_are_worked_on_as_they_are(tmp_path: Path) -> None:
    from flows import work
    from flows.parts import spec
    from pipelines.problems.load import load_problems
    from store import queries

    asked = spec("word:count=20,levels=2", "greedy")
    with open_database(tmp_path / "old.db") as database:
        begin_run(database, asked, load_problems(asked.problems), work.environment(asked), shard=64)
        work.evaluate(database, asked)
        assert queries.summary(database, asked.id).done == 20


@pytest.mark.parametrize(("seconds", "done"), [(0.0, 8), (600.0, 30)])
def test_a_task_takes_on_more_shards_while_it_has_time_and_none_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, done: int
) -> None:
    from flows import work
    from flows.parts import spec
    from store import queries
    from store.runs import open_shards

    monkeypatch.setattr(work, "CONCURRENCY", 8)
    asked = spec("word:count=30,levels=2", "greedy")
    with open_database(tmp_path / "runs.db") as database:
        work.plan(database, asked)
        assert open_shards(database, asked.id) == [0, 1, 2, 3]
        work.work_extent(database, asked, [0, 1, 2, 3], seconds=seconds)
        assert queries.summary(database, asked.id).done == done
        assert standing(database, asked.id, [0, 1, 2, 3])[0] == [0, 1, 2, 3], "its shards are given back"
