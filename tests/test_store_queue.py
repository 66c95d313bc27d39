"""Runs that wait for workers, and runs that are called off: who takes what, and what an end leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import update
from test_store_fakes import dead_process, make_problems, make_spec, new_database, rows

from store import queue, schema
from store.audit import audit
from store.database import Database
from store.errors import Cancelled, StoreError
from store.leases import Lease, claim, standing
from store.runs import begin_run, close_run, find_run, join_run, run_status

SPEC = make_spec("beam", n=4, keep=2)


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


def planned(db: Database, seed: int = 0) -> str:
    spec = replace(SPEC, seed=seed)
    begin_run(db, spec, make_problems(4), {}, shard=2)
    return spec.id


def close_all(db: Database, run_id: str) -> None:
    with db.write() as connection:
        closed = update(schema.attempt).where(schema.attempt.c.run_id == run_id)
        connection.execute(closed.values(status="done"))


def status(db: Database, run_id: str) -> str:
    return find_run(db, run_id).status


def wanted(db: Database) -> list[str]:
    return [run.id for run in queue.wanted(db)]


def test_workers_take_what_is_queued_or_running_and_leave_what_a_person_ended(db: Database) -> None:
    runs = [planned(db, seed) for seed in range(5)]
    queue.enqueue(db, runs[0])
    close_run(db, runs[1])  # a person's, interrupted
    queue.cancel(db, runs[2])
    close_all(db, runs[3])
    close_run(db, runs[3])
    assert [status(db, run) for run in runs] == ["queued", "interrupted", "cancelled", "done", "running"]
    assert wanted(db) == [runs[0], runs[4]]
    assert run_status(db, find_run(db, runs[0])) == "queued"  # and not 'interrupted', though nobody is at it


def test_a_run_with_nothing_left_is_not_queued_again(db: Database) -> None:
    run_id = planned(db)
    close_all(db, run_id)
    close_run(db, run_id)
    assert not queue.enqueue(db, run_id)
    assert status(db, run_id) == "done"


def test_submitting_a_run_that_somebody_is_at_leaves_it_running(db: Database) -> None:
    run_id = planned(db)
    claim(db, run_id, 0)
    assert queue.enqueue(db, run_id)
    assert status(db, run_id) == "running"


def test_a_cancelled_run_stays_cancelled_when_its_workers_end_and_keeps_its_open_attempts(db: Database) -> None:
    run_id = planned(db)
    lease = claim(db, run_id, 0)
    assert isinstance(lease, Lease)
    assert queue.cancel(db, run_id)
    assert not queue.cancel(db, run_id)  # the second time says so
    lease.release()
    assert close_run(db, run_id) == "cancelled"
    assert close_run(db, run_id, resting="queued") == "cancelled"
    assert {row["status"] for row in rows(db, schema.attempt)} == {"pending"}
    assert audit(db).clean
    with pytest.raises(Cancelled, match="ponderosa resume"):
        queue.refuse_cancelled(db, run_id)


def test_who_resumes_a_cancelled_run_sets_it_running_and_a_worker_does_not(db: Database) -> None:
    run_id = planned(db)
    queue.cancel(db, run_id)
    queue.begin(db, run_id, of=("queued",))  # a worker that has looked just before
    assert status(db, run_id) == "cancelled"
    queue.begin(db, run_id)
    assert status(db, run_id) == "running"
    assert not queue.is_cancelled(db, run_id)


def test_a_run_whose_last_attempt_was_done_in_spite_of_the_cancelling_is_done(db: Database) -> None:
    run_id = planned(db)
    queue.cancel(db, run_id)
    close_all(db, run_id)
    assert close_run(db, run_id) == "done"
    with pytest.raises(StoreError, match="nothing to cancel"):
        queue.cancel(db, run_id)


def test_the_shards_that_a_living_worker_has_are_not_free_and_those_of_a_dead_one_are(db: Database) -> None:
    run_id = planned(db)
    assert standing(db, run_id, [0, 1])[0] == [0, 1]
    claim(db, run_id, 0)
    assert standing(db, run_id, [0, 1])[0] == [1]
    claim(db, run_id, 1, owner=dead_process())
    assert standing(db, run_id, [0, 1])[0] == [1]
    assert len(queue.owners(db, run_id)) == 1
    assert standing(db, run_id, [0, 1], stale=0.0)[0] == [0, 1]  # or of one whose heart has stopped


def test_a_submitted_run_has_the_environment_of_the_first_worker_that_joins_it(db: Database) -> None:
    run_id = planned(db)
    for commit in ("first", "second"):
        join_run(db, run_id, "host/boot/1/1", {"commit": commit})
    assert find_run(db, run_id).environment == {"commit": "first"}
