"""Schedules and slots in the database: each slot is recorded once, run by one at a time, and ended once, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Table, update
from test_store_fakes import dead_process, make_spec, new_database, rows, stored_run

from store import schema
from store.audit import audit
from store.database import Database
from store.errors import LeaseLost, StoreError, Unreadable
from store.runs import end_run, get_run
from store.schedules import (
    Schedule,
    add_schedule,
    find_schedule,
    list_schedules,
    remove_schedule,
    schedule_names,
    set_status,
)
from store.slots import (
    GRACE,
    MOST,
    Slot,
    Taken,
    add_slot,
    close,
    count_slots,
    give_back,
    list_slots,
    planned,
    record_due,
    set_run,
    take,
)

MADE = "2026-03-01T00:00:00Z"
NOW = "2026-03-01T05:00:00Z"


def at(hour: int, minute: int = 0) -> str:
    return f"2026-03-01T{hour:02}:{minute:02}:00Z"


def made(name: str = "nightly", **how: Any) -> Schedule:
    given: dict[str, Any] = {"every": 3600, "anchor": MADE, "created": MADE, "since": MADE, **how}
    return Schedule(name, make_spec(), **given)


def hourly(until: str = NOW) -> Any:
    """Every hour of the first of March after a time and up to another."""

    def due(schedule: Schedule, after: str) -> Sequence[str]:
        return [at(hour) for hour in range(24) if after < at(hour) <= until]

    return due


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


def taken(db: Database, now: str = NOW, **how: Any) -> Taken:
    found = take(db, now, **how)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------- schedules


def test_a_schedule_is_read_as_it_was_written_without_the_weights_of_that_day(db: Database) -> None:
    spec = replace(make_spec(), weights="1a2b3c4d", slot="other@time")
    schedule = replace(made(cron="0 2 * * *", every=None, zone="Europe/Berlin", bar=0.6, hook="tell"), spec=spec)
    add_schedule(db, schedule)
    found = find_schedule(db, "nightly")
    assert found == replace(schedule, spec=make_spec())
    assert list_schedules(db) == ([found], [])


def test_two_schedules_of_one_name_are_refused_in_one_line(db: Database) -> None:
    add_schedule(db, made())
    with pytest.raises(StoreError, match="there is a schedule 'nightly' already") as raised:
        add_schedule(db, made(bar=0.5))
    assert "\n" not in str(raised.value)
    assert find_schedule(db, "nightly").bar is None


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"name": "a b"}, "schedule name 'a b' must be of letters"),
        ({"name": ""}, "must be of letters"),
        ({"name": "x" * 65}, "64 at most"),
        ({"every": None}, "needs either a cron string or an interval"),
        ({"cron": "0 2 * * *"}, "needs either a cron string or an interval"),
        ({"catch_up": "some"}, r"unknown catch-up policy 'some' \(latest, all, none\)"),
        ({"overlap": "kill"}, r"unknown overlap policy 'kill' \(skip, queue\)"),
        ({"seeds": "new"}, "unknown choice of seeds 'new'"),
        ({"bar": 1.5}, "bar must be an accuracy between 0 and 1, not 1.5"),
        ({"bar": float("nan")}, "not nan"),
        ({"bar_by": "low"}, "unknown reading of the bar 'low'"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_line(how: dict[str, Any], says: str) -> None:
    with pytest.raises(StoreError, match=says) as raised:
        made(**how)
    assert "\n" not in str(raised.value)


def test_a_schedule_that_is_not_there_names_the_nearest(db: Database) -> None:
    with pytest.raises(StoreError, match="no schedule 'nightly': the database has none yet"):
        find_schedule(db, "nightly")
    add_schedule(db, made())
    with pytest.raises(StoreError, match="no schedule 'nigthly'; the nearest are nightly"):
        find_schedule(db, "nigthly")


def test_a_row_that_is_no_schedule_is_told_beside_the_others_and_can_be_paused_and_removed(db: Database) -> None:
    for name in ("broken", "nightly"):
        add_schedule(db, made(name))
    db.transact(lambda c: c.execute(update(schema.schedule).where(schema.schedule.c.name == "broken").values(spec="{")))
    found, faults = list_schedules(db)
    assert [each.name for each in found] == ["nightly"]
    assert [str(fault).partition(": ")[0] for fault in faults] == ["schedule 'broken' cannot be read"]
    set_status(db, "broken", "paused", NOW)
    with pytest.raises(Unreadable, match="broken"):
        set_status(db, "broken", "active", NOW)
    remove_schedule(db, "broken")
    assert schedule_names(db) == ["nightly"]


def test_what_comes_during_a_pause_is_nobodys(db: Database) -> None:
    add_schedule(db, made())
    record_due(db, "nightly", hourly(at(1)), at(1))
    set_status(db, "nightly", "paused", at(1))
    assert record_due(db, "nightly", hourly(), NOW) == []
    assert take(db, NOW) is None, "a paused schedule's queued slot waits too"
    set_status(db, "nightly", "active", at(3, 30))
    assert [slot.slot_utc for slot in record_due(db, "nightly", hourly(), NOW)] == [at(4), at(5)]
    set_status(db, "nightly", "active", at(9))
    assert find_schedule(db, "nightly").since == at(3, 30), "resuming what is active moves nothing"


def test_a_removed_schedule_leaves_its_runs_and_is_not_removed_while_one_is_under_way(db: Database) -> None:
    add_schedule(db, made())
    record_due(db, "nightly", hourly(at(1)), at(1))
    spec = replace(make_spec(), slot=f"nightly@{at(1)}")
    working = taken(db)
    set_run(db, working, spec.id)
    with pytest.raises(StoreError, match="a slot of schedule 'nightly' is being run"):
        remove_schedule(db, "nightly")
    stored_run(db, spec)
    end_run(db, spec.id, "done")
    close(db, working, "done", NOW)
    assert remove_schedule(db, "nightly") == 1
    assert (list_schedules(db), rows(db, schema.slot)) == (([], []), [])
    assert get_run(db, spec.id) is not None


# -------------------------------------------------------------------------------------------------------------- policies

FIVE = [at(1), at(2), at(3), at(4), at(5)]


@pytest.mark.parametrize(
    ("catch_up", "now", "statuses"),
    [
        ("latest", NOW, ["missed"] * 4 + ["queued"]),
        ("all", NOW, ["queued"] * 5),
        ("none", NOW, ["missed"] * 4 + ["queued"]),  # the last one is on time
        ("none", at(5, 6), ["missed"] * 5),
        ("latest", at(5, 59), ["missed"] * 4 + ["queued"]),
    ],
)
def test_what_was_missed_is_caught_up_as_the_policy_has_it(catch_up: str, now: str, statuses: list[str]) -> None:
    found = planned(made(catch_up=catch_up), FIVE, "", now)
    assert [slot.slot_utc for slot in found] == FIVE
    assert [slot.status for slot in found] == statuses
    assert all(bool(slot.reason) == (slot.status == "missed") for slot in found)
    assert GRACE == 300


@pytest.mark.parametrize(
    ("overlap", "before", "status"),
    [("skip", at(0), "skipped"), ("skip", "", "queued"), ("queue", at(0), "queued"), ("queue", "", "queued")],
)
def test_a_slot_that_comes_while_the_one_before_is_open_is_skipped_or_queued(overlap: str, before: str, status: str) -> None:
    [slot] = planned(made(overlap=overlap), [at(1)], before, at(1))
    assert slot.status == status
    assert (f"the slot of {before} was still open" in slot.reason) == (status == "skipped")


@pytest.mark.parametrize("catch_up", ["latest", "all"])
def test_an_interval_that_was_left_alone_for_long_fills_neither_the_table_nor_the_queue(catch_up: str) -> None:
    times = [f"{n:09}" for n in range(3 * MOST)]
    found = planned(made(catch_up=catch_up), times, "", NOW)
    assert [slot.slot_utc for slot in found] == times[-MOST:]
    assert found[0].status == "missed"
    assert f"with {2 * MOST} before it that are not recorded" in found[0].reason
    assert {slot.status for slot in found[1:]} == ({"queued"} if catch_up == "all" else {"missed", "queued"})


# ------------------------------------------------------------------------------------------------------------ recording


def test_slots_are_recorded_once_and_a_clock_that_jumps_back_finds_them_recorded(db: Database) -> None:
    add_schedule(db, made(catch_up="all", overlap="queue"))
    assert [slot.slot_utc for slot in record_due(db, "nightly", hourly(at(3)), at(3))] == [at(1), at(2), at(3)]
    for earlier in (at(3), at(1), at(0)):
        assert record_due(db, "nightly", hourly(earlier), earlier) == []
    assert [slot.slot_utc for slot in record_due(db, "nightly", hourly(at(4)), at(4))] == [at(4)]
    assert [slot.slot_utc for slot in list_slots(db, "nightly")] == [at(4), at(3), at(2), at(1)]
    assert count_slots(db) == {"nightly": {"queued": 4}}


def test_of_eight_that_find_a_slot_due_at_once_one_records_it(db: Database) -> None:
    add_schedule(db, made(catch_up="all"))
    barrier = threading.Barrier(8)

    def race(hour: int) -> int:
        barrier.wait()
        return len(record_due(db, "nightly", hourly(at(hour)), at(hour)))

    for hour in (1, 2, 3):
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(race, [hour] * 8)) == [0] * 7 + [1]
    assert len(list_slots(db, "nightly")) == 3


def test_of_eight_that_ask_for_one_slot_one_wins_and_seven_are_duplicates(db: Database) -> None:
    add_schedule(db, made())
    barrier = threading.Barrier(8)

    def race(_: int) -> bool:
        barrier.wait()
        return add_slot(db, "nightly", at(2), NOW)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(race, range(8))) == [False] * 7 + [True]
    assert [slot.status for slot in list_slots(db, "nightly")] == ["queued"]


def test_the_key_itself_refuses_a_second_row_of_a_slot(db: Database) -> None:
    """Whatever a future scheduler forgets to ask."""
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError

    add_schedule(db, made())
    add_slot(db, "nightly", at(2), NOW)
    [row] = rows(db, schema.slot)
    with pytest.raises(IntegrityError), db.write() as connection:
        connection.execute(insert(schema.slot).values({**row, "status": "running"}))


# --------------------------------------------------------------------------------------------------------- taking, ending


def test_the_earliest_open_slot_is_taken_by_one_and_the_next_when_it_has_ended(db: Database) -> None:
    add_schedule(db, made(catch_up="all"))
    record_due(db, "nightly", hourly(at(2)), at(2))
    first = taken(db)
    assert (first.slot.slot_utc, first.slot.status, first.slot.tries, first.slot.begun) == (at(1), "running", 1, NOW)
    assert take(db, NOW) is None, "the slots of one schedule are run one after another"
    close(db, first, "done", NOW)
    second = taken(db)
    assert second.slot.slot_utc == at(2)
    close(db, second, "failed", NOW, "no luck", "failed: no luck")
    assert take(db, NOW) is None
    found = list_slots(db, "nightly")
    assert [(slot.status, slot.reason, slot.alarm) for slot in found] == [
        ("failed", "no luck", "failed: no luck"),
        ("done", "", None),
    ]
    assert {row["owner"] for row in rows(db, schema.lease)} == {""}


def test_schedules_do_not_wait_for_each_other(db: Database) -> None:
    for name in ("a", "b"):
        add_schedule(db, made(name))
        add_slot(db, name, at(1), NOW)
    assert [taken(db).schedule.name, taken(db).schedule.name] == ["a", "b"]
    assert take(db, NOW) is None


def test_only_one_schedule_is_served_where_that_is_asked_and_busy_ones_are_left_out(db: Database) -> None:
    for name in ("a", "b"):
        add_schedule(db, made(name))
        add_slot(db, name, at(1), NOW)
    assert taken(db, only="b").schedule.name == "b"
    assert take(db, NOW, busy=["a"]) is None
    assert taken(db).schedule.name == "a"


def test_a_slot_whose_process_died_is_taken_over_and_the_dead_ones_late_writes_are_refused(db: Database) -> None:
    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    first = taken(db, owner=dead_process())
    second = taken(db)
    assert (second.slot.slot_utc, second.slot.tries) == (at(1), 2)
    for late in (
        lambda: close(db, first, "failed", NOW, "late"),
        lambda: set_run(db, first, "abc"),
        lambda: give_back(db, first, "late", counted=False),
    ):
        with pytest.raises(LeaseLost):
            late()
    set_run(db, second, "def")
    close(db, second, "done", NOW)
    with pytest.raises(LeaseLost):
        close(db, first, "failed", NOW, "later still")
    [slot] = list_slots(db, "nightly")
    assert (slot.status, slot.run_id, slot.tries) == ("done", "def", 2)


def test_a_slot_without_a_heartbeat_by_the_databases_clock_is_taken_over(db: Database) -> None:
    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    taken(db, owner="elsewhere/0/1/1")
    assert take(db, "2036-01-01T00:00:00Z") is None, "a scheduler's own clock does not make a lease old"
    with db.write() as connection:
        connection.execute(update(schema.lease).values(heartbeat=schema.lease.c.heartbeat - 61))
    assert taken(db).slot.tries == 2


def test_a_slot_that_is_given_back_is_the_next_ones_and_a_stop_is_no_try(db: Database) -> None:
    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    give_back(db, taken(db), "its scheduler was stopped", counted=False)
    [slot] = list_slots(db, "nightly")
    assert (slot.status, slot.tries, slot.reason) == ("queued", 0, "its scheduler was stopped")
    give_back(db, taken(db), "the server is away", counted=True)
    assert taken(db).slot.tries == 2


def test_closing_again_what_was_closed_changes_nothing(db: Database) -> None:
    """A transaction whose answer was lost with the connection is done again."""
    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    mine = taken(db)
    close(db, mine, "done", NOW, alarm="below: a little")
    before = rows(db, schema.slot)
    close(db, mine, "done", NOW, alarm="below: a little")
    assert rows(db, schema.slot) == before


def test_a_slot_that_ended_between_the_look_and_the_claim_is_not_run_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import store.slots

    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    stale = store.slots._candidates(db, "")
    close(db, taken(db), "done", NOW)
    monkeypatch.setattr(store.slots, "_candidates", lambda *_: stale)
    assert take(db, NOW) is None
    assert [slot.tries for slot in list_slots(db, "nightly")] == [1]
    assert {row["owner"] for row in rows(db, schema.lease)} == {""}


# ----------------------------------------------------------------------------------------------------------------- audit


def test_the_audit_sees_a_slot_without_its_run_and_two_slots_of_one_run(db: Database) -> None:
    add_schedule(db, made(catch_up="all"))
    record_due(db, "nightly", hourly(at(2)), at(2))
    spec = replace(make_spec(), slot=f"nightly@{at(1)}")
    stored_run(db, spec)
    end_run(db, spec.id, "done")
    mine = taken(db)
    set_run(db, mine, spec.id)
    close(db, mine, "done", NOW)
    assert audit(db).clean
    other = taken(db)
    set_run(db, other, spec.id)
    close(db, other, "done", NOW)
    found = {fault.what for fault in audit(db).faults}
    assert any("is another slot's too" in what for what in found)
    assert any(f"is of 'nightly@{at(1)}'" in what for what in found)
    with db.write() as connection:
        connection.execute(update(schema.slot).where(schema.slot.c.slot_utc == at(2)).values(run_id="000000000000"))
    assert [fault.what for fault in audit(db).faults] == ["it is done, and its run 000000000000 is not there"]


@pytest.mark.parametrize(
    ("table", "values", "says"),
    [
        (schema.schedule, {"spec": "{"}, "schedule 'nightly' cannot be read"),
        (schema.slot, {"status": "asleep"}, "unknown status asleep"),
        (schema.slot, {"status": "done", "ended": NOW}, "its run None is not there"),
        (schema.slot, {"status": "failed"}, "it is failed, and has no end"),
    ],
)
def test_the_audit_sees_a_schedule_and_a_slot_that_cannot_be(
    db: Database, table: Table, values: dict[str, Any], says: str
) -> None:
    add_schedule(db, made())
    add_slot(db, "nightly", at(1), NOW)
    assert audit(db).clean
    db.transact(lambda connection: connection.execute(update(table).values(values)))
    [fault] = audit(db).faults
    assert (fault.check, says in fault.what) == ("slots", True)


def test_a_slots_name_is_that_of_its_run() -> None:
    assert Slot("nightly", at(1), "done").name == f"nightly@{at(1)}"
