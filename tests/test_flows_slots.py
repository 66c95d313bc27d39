"""Schedulers side by side, killed at random: every slot is run once, and what is stored is whole. Figures are printed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from nightly import PROBLEMS, START, Clock, Town, done, make_schedule, town
from sqlalchemy import func, select

from search.types import RunSpec
from store import schema
from store.audit import audit
from store.database import Database, open_database
from store.leases import is_dead
from store.schedules import add_schedule, stamp

pytestmark = pytest.mark.crash

LIMIT = 1800.0  # seconds; a minute or two where nothing else runs


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with open_database(where) as opened:
        yield opened


def until(reached: Callable[[], bool], each: Callable[[], None]) -> None:
    end = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < end, f"not done within {LIMIT} s"
        each()


def check_whole(db: Database, slots: int, every: timedelta) -> Counter[int]:
    """Each slot has been run once, by a run of its own that is whole; how many were begun how often."""
    report = audit(db)
    assert report.clean, report.faults
    with db.read() as connection:
        rows = connection.execute(select(schema.slot).order_by(schema.slot.c.slot_utc)).all()
        runs = connection.execute(select(schema.run.c.id, schema.run.c.spec, schema.run.c.status)).all()
        attempts = connection.scalar(select(func.count()).select_from(schema.attempt))
        held = connection.execute(select(schema.lease.c.owner).where(schema.lease.c.shard.startswith("slot "))).scalars().all()
    assert [row.slot_utc for row in rows] == [stamp(START + (n + 1) * every) for n in range(slots)]
    assert {row.status for row in rows} == {"done"}
    assert len(runs) == slots
    assert {run.id for run in runs} == {row.run_id for row in rows}
    assert {RunSpec.from_json(run.spec).slot for run in runs} == {f"nightly@{row.slot_utc}" for row in rows}
    assert {run.status for run in runs} == {"done"}
    assert attempts == slots * PROBLEMS
    assert all(not owner or is_dead(owner) for owner in held)  # one who died with a slot that another had ended keeps it
    return Counter(row.tries for row in rows)


def test_of_50_slots_and_8_schedulers_at_once_come_exactly_50_runs(
    where: str, db: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every, began = timedelta(minutes=1), time.monotonic()
    add_schedule(db, make_schedule(every=60, catch_up="all", overlap="queue"))
    with town(where, Clock(120, 50 * every, tmp_path / "began")) as made:  # a slot in half a second, for which all of them wait
        made.open(8)
        made.begin()
        until(lambda: done(db) == 50, lambda: time.sleep(0.3))
    check_whole(db, 50, every)
    said = made.said()
    noticed = [slot for report in said for line in report for slot in line["noticed"]]
    ended = [line["ended"] for report in said for line in report if line["ended"]]
    assert sorted(noticed) == [stamp(START + (n + 1) * every) for n in range(50)], "a slot was recorded twice, or by nobody"
    assert sorted(ended) == [[slot, "done"] for slot in sorted(noticed)], "a slot was run twice"
    recorded = [sum(len(line["noticed"]) for line in report) for report in said]
    assert sum(count > 0 for count in recorded) >= 3, "they had no rivals"
    with capsys.disabled():
        print(f"\n50 slots, 8 schedulers, 50 runs, {time.monotonic() - began:.0f} s; recorded by each: {recorded}")  # noqa: T201


def test_24_hours_of_five_minute_slots_under_random_kills_lose_no_slot_and_run_none_twice(
    where: str, db: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every, slots, began = timedelta(minutes=5), 288, time.monotonic()
    add_schedule(db, make_schedule(catch_up="all", overlap="queue"))
    random, faults = Random(0), Counter[str]()
    clock = Clock(24 * 60, slots * every, tmp_path / "began")  # a day in a minute
    with town(where, clock, stale=2.0, beat=0.2, pause=0.12) as made:  # so long at least is a slot under way
        made.open(3)
        made.begin()

        def disturb() -> None:
            """After a few slots, somewhere in the middle of another."""
            made.open(3)
            enough, patience = done(db) + random.randint(1, 5), time.monotonic() + 60
            until(lambda: done(db) >= min(enough, slots) or time.monotonic() > patience, lambda: time.sleep(0.02))
            time.sleep(random.uniform(0, 0.15))
            busy = [each for each in made.living if each.pid in at_work(db)]
            victim = random.choice(busy if busy and random.random() < 0.5 else made.living)
            if not db.is_sqlite and random.random() < 0.1:  # one that stops with SQLite's lock would stop all
                faults["stopped for seconds"] += 1
                pause(victim.pid or 0, random.uniform(0.5, 4.0))
            else:
                faults["killed"] += 1
                made.kill(victim)

        until(lambda: done(db) == slots, disturb)
    begun = check_whole(db, slots, every)
    again = sum(count * (tries - 1) for tries, count in begun.items())
    assert faults["killed"] >= 50
    assert again >= 20, "hardly a slot was cut off in the middle"
    assert not refused(made)
    told = ", ".join(f"{count} {what}" for what, count in faults.items())
    with capsys.disabled():
        print(f"\n{slots} slots, {time.monotonic() - began:.0f} s; {told}; {again} slots taken over; audit clean")  # noqa: T201


def at_work(db: Database) -> set[int]:
    """The processes that have a slot."""
    asked = select(schema.lease.c.owner).where(schema.lease.c.shard.startswith("slot "), schema.lease.c.owner != "")
    with db.read() as connection:
        return {int(owner.split("/")[2]) for owner in connection.scalars(asked)}


def pause(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)  # a child that has ended is there until it is waited for


def refused(made: Town) -> list[object]:
    """What schedulers met that is neither an end nor a takeover."""
    words = [line["ended"] for report in made.said() for line in report if line["ended"]]
    return [each for each in words if each[1] not in ("done", "")]
