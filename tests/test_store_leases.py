"""Leases: one owner at a time, a lost one is refused whatever it writes, and a problem that kills its workers ends."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import OperationalError
from sums import tokens_match
from test_store_fakes import (
    FakeGenerator,
    dead_process,
    drive_all,
    everything,
    make_journal,
    make_problems,
    make_search,
    make_spec,
    new_database,
    rows,
    saved,
)

from search.types import Extend
from store import leases, queries, schema
from store.costs import summed
from store.database import Database, insert_new
from store.errors import LeaseLost, Unavailable
from store.leases import HASTE, Held, Lease, claim, is_dead, this_process
from store.runs import Planned, begin_run

SPEC = make_spec("beam", n=4, keep=2)


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


def taken(db: Database, owner: str = "", shard: int = 0, stale: float = leases.STALE) -> Lease:
    lease = claim(db, SPEC.id, shard, owner, stale)
    assert isinstance(lease, Lease), lease
    return lease


def held(db: Database, owner: str = "", shard: int = 0, stale: float = leases.STALE) -> Held:
    lease = claim(db, SPEC.id, shard, owner, stale)
    assert isinstance(lease, Held), lease
    return lease


def of_shard(db: Database, shard: int = 0) -> dict[str, Any]:
    [row] = [row for row in rows(db, schema.lease) if row["shard"] == f"{SPEC.id}/{shard}"]
    return row


def set_back(db: Database, seconds: float) -> None:
    """As if all heartbeats were that much older."""
    with db.write() as connection:
        connection.execute(update(schema.lease).values(heartbeat=schema.lease.c.heartbeat - seconds))


# ---------------------------------------------------------------------------------------------------------------- claims


def test_a_free_shard_is_claimed_by_the_clock_of_the_database(db: Database) -> None:
    lease = taken(db, "me")
    assert (lease.shard, lease.owner, lease.epoch, lease.lost) == (f"{SPEC.id}/0", "me", 1, False)
    row = of_shard(db)
    assert abs(row["heartbeat"] - time.time()) < 5
    assert {name: row[name] for name in ("owner", "epoch", "progress")} == {"owner": "me", "epoch": 1, "progress": 0}
    assert taken(db, "me", shard=1).epoch == 1, "another shard is another lease"
    assert taken(db, shard=2).owner.startswith(this_process() + "/")


def test_claiming_again_what_one_has_changes_nothing(db: Database) -> None:
    """A claim whose answer was lost with the connection is made again."""
    first = taken(db, "me")
    first.database.transact(lambda connection: first.fence(connection, 3))
    before = everything(db)
    again = taken(db, "me", stale=0)
    assert (again.epoch, again.owner) == (first.epoch, "me")
    assert everything(db) == before


def test_what_another_has_is_not_given_and_says_whose_it_is(db: Database) -> None:
    taken(db, "you")
    set_back(db, 7)
    found = held(db, "me")
    assert (found.shard, found.owner) == (f"{SPEC.id}/0", "you")
    assert 7 <= found.age < 20
    assert of_shard(db)["epoch"] == 1


def test_a_lease_without_a_heartbeat_is_taken_over(db: Database) -> None:
    taken(db, "you")
    held(db, "me", stale=1)
    set_back(db, 1)
    lease = taken(db, "me", stale=1)
    assert lease.epoch == 2
    set_back(db, leases.STALE - 5)
    held(db, "third")
    set_back(db, 5)
    assert taken(db, "third").epoch == 3


def test_a_clock_that_was_set_back_keeps_a_lease_and_no_age_is_below_zero(db: Database) -> None:
    taken(db, "you")
    set_back(db, -1000)
    assert held(db, "me").age == 0


def test_what_a_dead_process_of_this_machine_had_is_taken_over_at_once(db: Database) -> None:
    taken(db, dead_process())
    lease = taken(db, "me")
    assert lease.epoch == 2
    held(db, "another")


def test_what_was_given_back_is_free_at_once(db: Database) -> None:
    lease = taken(db, "you")
    lease.release()
    assert of_shard(db)["owner"] == ""
    assert taken(db, "me").epoch == 2
    lease.release()
    assert of_shard(db)["owner"] == "me", "it is no longer theirs to give"


def test_whoever_claims_sets_what_was_running_to_pending_and_charges_nobody_for_a_release(db: Database) -> None:
    plan = begin_run(db, SPEC, make_problems(3), {}, shard=2)
    first = taken(db, "you")
    running(db, plan)
    first.release()
    taken(db, "me")
    assert [(row["status"], row["tries"]) for row in rows(db, schema.attempt)] == [("pending", 0)] * 2 + [("running", 0)]


def test_two_that_claim_at_once_are_one_owner_and_one_that_waits(db: Database) -> None:
    barrier = threading.Barrier(6)

    def race(owner: str) -> Lease | Held:
        barrier.wait()
        return claim(db, SPEC.id, 0, owner, stale=50.0)

    with ThreadPoolExecutor(6) as pool:
        for epoch in (1, 2, 3):
            found = list(pool.map(race, [f"{epoch}-{i}" for i in range(6)]))
            [lease] = [each for each in found if isinstance(each, Lease)]
            assert {each.owner for each in found} == {lease.owner}, "a loser was told of another winner"
            assert (lease.epoch, of_shard(db)["owner"]) == (epoch, lease.owner)
            set_back(db, 60)


# --------------------------------------------------------------------------------------------------------------- fencing


def test_a_transaction_of_an_old_owner_leaves_nothing(db: Database) -> None:
    old = taken(db, "old")
    taken(db, "new", stale=0)
    before = everything(db)

    def work(connection: Connection) -> None:
        row = {"key": "k", "id": "p", "prompt": "", "answer": "", "source": "", "meta": "{}"}
        insert_new(connection, schema.problem, [row])
        old.fence(connection, 1)

    with pytest.raises(LeaseLost, match=f"shard {SPEC.id}/0 was taken over by another process; this one stops") as raised:
        db.transact(work)
    assert everything(db) == before
    assert (old.lost, raised.value.exit_code) == (True, 75)
    with pytest.raises(LeaseLost):
        old.touch()


def test_an_old_owner_is_refused_though_it_wakes_up_in_the_same_process(db: Database) -> None:
    """The name alone does not tell: it claimed, hung, lost the shard, and another of its threads has it again."""
    old = taken(db, "me")
    taken(db, "you", stale=0)
    again = taken(db, "me", stale=0)
    assert (old.epoch, again.epoch) == (1, 3)
    with pytest.raises(LeaseLost):
        db.transact(lambda connection: old.fence(connection, 0))
    db.transact(lambda connection: again.fence(connection, 0))


def test_a_fence_renews_the_heartbeat_and_counts(db: Database) -> None:
    lease = taken(db, "me")
    set_back(db, 100)
    for progress in (2, 0, 3):
        db.transact(lambda connection, progress=progress: lease.fence(connection, progress))  # type: ignore[misc]
    assert abs(of_shard(db)["heartbeat"] - time.time()) < 5
    assert of_shard(db)["progress"] == 5
    assert taken(db, "you", stale=0).epoch == 2
    assert of_shard(db)["progress"] == 0, "another owner has not done that"


# ------------------------------------------------------------------------------------------------------------ heartbeats


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_a_heart_beats_while_the_work_goes_on_and_the_shard_is_given_back_at_the_end(db: Database) -> None:
    lease = taken(db, "me")
    with lease.kept(beat=0.01):
        for _ in range(3):
            set_back(db, 1000)
            until(lambda: time.time() - of_shard(db)["heartbeat"] < 500)
        held(db, "you")
    assert of_shard(db)["owner"] == ""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat")]


def test_the_shard_is_given_back_too_where_the_work_fails(db: Database) -> None:
    lease = taken(db, "me")
    with pytest.raises(ZeroDivisionError), lease.kept(beat=0.01):
        raise ZeroDivisionError
    assert of_shard(db)["owner"] == ""


def test_a_heart_finds_that_the_shard_is_lost_and_does_not_give_it_back(db: Database) -> None:
    lease = taken(db, "old")
    with lease.kept(beat=0.01):
        lease.touch()
        taken(db, "new", stale=0)
        until(lambda: lease.lost)
        with pytest.raises(LeaseLost):
            lease.touch()
    assert of_shard(db)["owner"] == "new"


def test_a_heart_stops_while_the_work_hangs_and_goes_on_after(db: Database) -> None:
    """A worker that is alive and does nothing keeps nobody out for ever."""
    lease = taken(db, "me")
    with lease.kept(beat=0.01, hang=0.05):
        time.sleep(0.2)
        set_back(db, 1000)
        time.sleep(0.2)
        assert time.time() - of_shard(db)["heartbeat"] > 500, "it beats on"

        def beats_again() -> bool:
            lease.touch()  # each time: on a busy machine the heart may come too late for one
            return time.time() - of_shard(db)["heartbeat"] < 500

        until(beats_again)


def test_a_heart_outlives_a_database_that_is_away(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, away = taken(db, "me"), [0]
    write = Database.transact

    def failing(self: Database, *of: Any, **named: Any) -> Any:
        if threading.current_thread().name.startswith("heartbeat") and away[0] < 3:
            away[0] += 1
            raise Unavailable("the server is away")
        return write(self, *of, **named)

    monkeypatch.setattr(Database, "transact", failing)
    set_back(db, 1000)
    with lease.kept(beat=0.01):
        until(lambda: time.time() - of_shard(db)["heartbeat"] < 500)
    assert away == [3]


# ---------------------------------------------------------------------------------------------------------------- charges


def running(db: Database, plan: list[Planned], lease: Lease | None = None, replies: int = 0) -> None:
    """What a worker leaves that has begun with these, and has written so many replies of each."""
    generator = FakeGenerator()
    with make_journal(db, plan, lease=lease) as journal:
        for attempt in plan:
            search = make_search(attempt, SPEC)
            asking = search.strategy.search(search.tree)
            journal.started(attempt.attempt_id)
            for _ in range(replies):
                request = next(asking)
                assert isinstance(request, Extend)
                journal.answered(attempt.attempt_id, request, generator.answer(request))
        saved(journal)


def died(db: Database, owner: str, plan: list[Planned], replies: int = 0) -> None:
    """A worker takes the shard, begins, and is never heard of again."""
    lease = taken(db, owner, stale=0)
    running(db, plan, lease, replies)


def tries(db: Database) -> list[tuple[str, int]]:
    return [(row["status"], row["tries"]) for row in rows(db, schema.attempt)]


def test_a_worker_that_dies_before_it_wrote_anything_is_held_against_what_it_was_at(db: Database) -> None:
    plan = begin_run(db, SPEC, make_problems(5), {}, shard=4)
    died(db, "worker 1", plan[:2])
    running(db, plan[4:])
    assert tries(db) == [("running", 0), ("running", 0), ("pending", 0), ("pending", 0), ("running", 0)]
    taken(db, "worker 2", stale=0)
    assert tries(db) == [("pending", 1), ("pending", 1), ("pending", 0), ("pending", 0), ("running", 0)]
    assert [row["error"] for row in rows(db, schema.attempt)][:3] == ["its worker died or hung (worker 1)"] * 2 + [None]


def test_a_worker_that_wrote_something_is_held_against_nobody(db: Database) -> None:
    """It got further: whoever comes next does too."""
    plan = begin_run(db, SPEC, make_problems(2), {})
    died(db, "worker 1", plan, replies=1)
    assert of_shard(db)["progress"] == 2
    taken(db, "worker 2", stale=0)
    assert tries(db) == [("pending", 0)] * 2
    assert len(queries.tree(db, plan[0].attempt_id)) == 4, "and what it got is there"


def test_a_problem_that_kills_three_workers_has_failed_and_costs_what_it_left(db: Database) -> None:
    plan = begin_run(db, SPEC, make_problems(3), {})
    died(db, "worker 0", plan, replies=1)
    for i in range(1, 4):
        assert tries(db)[1][1] == max(i - 2, 0), "the charge comes with the next claim"
        died(db, f"worker {i}", plan[1:2])
    taken(db, "worker 4", stale=0)
    assert tries(db) == [("pending", 0), ("failed", 3), ("pending", 0)]
    failed = rows(db, schema.attempt)[1]
    assert failed["error"] == "its worker died or hung (worker 3)"
    assert (failed["verdict"], failed["correct"], failed["replies"]) == ("none", False, 1)
    with db.read() as connection:
        [(_, usage, count)] = summed(connection, schema.attempt.c.id == plan[1].attempt_id)
    assert {name: failed[name] for name in schema.LEDGER} == usage.asdict()
    assert (usage.candidates, count) == (4, 1)
    assert failed["generated_tokens"] == sum(row.tokens for row in queries.tree(db, plan[1].attempt_id)) > 0
    assert tokens_match(db, SPEC.id) == []
    drive_all(db, SPEC, plan, generator=FakeGenerator())
    assert [status for status, _ in tries(db)] == ["done", "failed", "done"]
    assert queries.summary(db, SPEC.id).failed == 1


def test_what_has_ended_is_charged_nothing(db: Database) -> None:
    plan = begin_run(db, SPEC, make_problems(2), {})
    taken(db, "worker 1")
    drive_all(db, SPEC, plan[:1])
    before = rows(db, schema.attempt)
    taken(db, "worker 2", stale=0)
    assert rows(db, schema.attempt) == before


# ------------------------------------------------------------------------------------------------------------- processes


def test_this_process_has_a_name_of_its_own_and_is_not_dead() -> None:
    me = this_process()
    assert me == this_process()
    assert str(os.getpid()) in me.split("/")
    assert not is_dead(me)


def test_a_process_that_has_ended_is_dead_and_one_that_runs_is_not() -> None:
    child = subprocess.Popen(["sleep", "60"])
    host, boot, _, _ = this_process().split("/")
    name = f"{host}/{boot}/{child.pid}/{leases._start(child.pid)}"
    assert not is_dead(name)
    child.kill()
    until(lambda: is_dead(name))  # also while nobody has asked for its status: a zombie does nothing any more
    child.wait()
    assert is_dead(name)


def test_a_number_that_another_process_has_now_is_not_the_owner() -> None:
    host, boot, pid, start = this_process().split("/")
    assert is_dead(f"{host}/{boot}/{pid}/{int(start) - 1}")


def test_a_process_of_before_the_last_start_of_this_machine_is_dead() -> None:
    host, boot, pid, start = this_process().split("/")
    assert is_dead(f"{host}/{'0' * len(boot)}/{pid}/{start}")


@pytest.mark.parametrize("owner", ["", "me", "a/b", "elsewhere/12345678/1/1", "/12345678/1/1"])
def test_of_others_only_the_heartbeat_tells(owner: str) -> None:
    assert not is_dead(owner)


def test_without_the_kernels_word_nobody_is_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Linux, or a container without /proc: two processes still have two names."""
    monkeypatch.setattr(leases, "_boot", lambda: "")
    monkeypatch.setattr(leases, "_start", lambda pid: "")
    assert len(this_process().split("/")) == 4
    assert this_process().split("/")[3] != ""
    assert not is_dead(this_process())


def test_a_claim_is_made_again_where_the_server_was_away(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [OperationalError("SELECT 1", None, Exception("server closed the connection unexpectedly"))] * 2
    monkeypatch.setattr(time, "sleep", lambda _: None)
    charge = leases._now

    def away(connection: Connection) -> Any:
        if faults:
            raise faults.pop()
        return charge(connection)

    monkeypatch.setattr(leases, "_now", away)
    assert taken(db, "me").epoch == 1
    assert faults == []
    with db.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.lease)) == 1
    assert replace(taken(db, "me"), _touched=0.0).epoch == 1


def test_ending_does_not_wait_long_for_a_database_that_is_away(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the server is down: neither the heartbeat nor the release holds the process up."""
    lease = taken(db, "me")
    asked: list[float] = []

    def away(self: Database, work: object, reading: bool = False, patience: float = 60.0) -> None:
        asked.append(patience)
        raise Unavailable("it is away")

    monkeypatch.setattr(Database, "transact", away)
    with lease.kept(beat=0.01):
        while not asked:
            time.sleep(0.01)
    assert len(asked) >= 2
    assert set(asked) == {HASTE}
