"""When schedules are due, what their slots evaluate, and what becomes of an evaluation that ends, fails or is stopped."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nightly import START, make_schedule
from sqlalchemy import update
from test_store_fakes import make_problems, make_spec, new_database, rows, stored_run

from flows import cli, hurry
from flows.cli import scheduling as verbs
from flows.schedule import alarm, specs
from flows.schedule.child import Children, Failed
from flows.schedule.scheduler import Later, Scheduler, Stopped, Touch
from flows.schedule.times import cron_of, due, every_of, midnight, over_change, upcoming, zone_of
from search.types import Part, RunSpec
from store import queries, schema, slots
from store.audit import audit
from store.database import Database
from store.errors import Unavailable
from store.runs import begin_run, end_run, get_run
from store.schedules import add_schedule, find_schedule, set_status, stamp
from store.slots import SLOT_TRIES, Slot, list_slots
from store.trend import latest_slot, trend

# ----------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("* * * * * *", "has a field for seconds"),
        ("*/1 * * * * *", "has a field for seconds"),
        ("0 2 * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("nightly", "has 1 fields"),
        ("61 * * * *", "bad minute"),
        ("0 25 * * *", "bad hour"),
        ("0 0 * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 31 2 *", "is never due"),
        ("0 0 30 2 *", "is never due"),
        ("0 0 31 4,6,9,11 *", "is never due"),
    ],
)
def test_a_cron_string_that_is_invalid_never_due_or_due_every_second_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        cron_of(text)
    assert "\n" not in str(raised.value)
    assert f"'{text}'" in str(raised.value)


@pytest.mark.parametrize("text", ["* * * * *", "0 2 * * 1-5", "0 0 29 2 *", "0 0 L * *", "0 9 * * MON#1", "0 0 31 2 1"])
def test_a_cron_string_that_is_due_now_and_then_is_kept_as_it_is(text: str) -> None:
    assert cron_of(f" {text} ") == text


def test_names_of_cron_are_written_out() -> None:
    assert cron_of("@daily") == "0 0 * * *"


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("6h", 21600), ("1d", 86400), ("1h30m", 5400), ("60s", 60)])
def test_an_interval_is_read(text: str, seconds: int) -> None:
    assert every_of(text) == seconds


@pytest.mark.parametrize("text", ["1s", "59s", "0m", "", "6", "h", "1.5h", "-1h", "3 days", "10000d"])
def test_an_interval_that_will_not_do_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=f"^interval '{text}'") as raised:
        every_of(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Berlin", "did you mean Europe/Berlin"),
        ("Europe/Berlim", "did you mean Europe/Berlin"),
        ("", "an example is"),
        ("../etc/passwd", ""),
        ("US", ""),
        ("a\0b", ""),
    ],
)
def test_a_time_zone_that_is_not_known_is_refused_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"unknown time zone .*{says}") as raised:
        zone_of(name)
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------------------------------------------- changes of clock


def hours(cron: str, zone: str, start: str, n: int) -> list[str]:
    """The next slots, UTC, as day and time."""
    found = upcoming(make_schedule(cron=cron, zone=zone), datetime.fromisoformat(start + "Z"), n)
    assert found == sorted(set(found)), "each later than the one before"
    return [f"{moment:%d %H:%M}" for moment in found]


@pytest.mark.parametrize(
    ("cron", "zone", "start", "wanted"),
    [
        # Europe, 29 March 2026: 02:00 to 03:00 are left out, 01:00 UTC is 03:00
        ("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", ["28 01:30", "29 01:00", "30 00:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 01:00", "30 00:00", "30 00:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", ["29 00:00", "29 01:00", "29 02:00"]),
        # 25 October 2026: 02:00 to 03:00 come twice, 00:00 and 01:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 00:30", "26 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45", ["26 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", ["25 00:00", "25 01:00", "25 02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00", ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]),
        # America, 8 March and 1 November 2026
        ("0 2 * * *", "America/New_York", "2026-03-07T12:00", ["08 07:00", "09 06:00"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["01 05:30", "02 06:30"]),
        # half an hour only: Lord Howe Island, 4 October 2026: 02:00 to 02:30 are left out
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00", ["03 15:30", "04 15:15"]),
        ("0 9 13 * 5", "UTC", "2026-03-07T12:00", ["13 09:00", "20 09:00"]),
    ],
)
def test_local_hours_that_are_left_out_or_come_twice(cron: str, zone: str, start: str, wanted: list[str]) -> None:
    assert hours(cron, zone, start, len(wanted)) == wanted


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"])
def test_over_a_year_a_daily_slot_comes_once_a_day_and_an_hourly_one_every_hour(zone: str) -> None:
    first, last = "2026-01-01T00:00:00Z", datetime(2027, 1, 1, tzinfo=UTC)
    for cron in ("30 2 * * *", "15 0 * * *"):
        daily = due(make_schedule(cron=cron, zone=zone), first, last)
        assert 364 <= len(daily) <= 366
        gaps = [datetime.fromisoformat(b) - datetime.fromisoformat(a) for a, b in pairwise(daily)]
        assert all(timedelta(hours=22) < gap < timedelta(hours=26) for gap in gaps)
    hourly = due(make_schedule(cron="0 * * * *", zone=zone), first, datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert 365 * 24 - 3 <= len(hourly) <= 365 * 24 + 1


def test_slots_found_bit_by_bit_are_those_found_in_one_go() -> None:
    """A scheduler that looks every few minutes and one that was away for a week record the same slots."""
    schedule = make_schedule(cron="10,40 1-3 * * *", zone="Europe/Berlin")
    begin, end = datetime(2026, 10, 23, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC)
    moment, found, last = begin, list[str](), stamp(begin)
    while moment < end:
        moment += timedelta(minutes=23)
        new = due(schedule, last, min(moment, end))
        found += new
        last = found[-1] if found else last
    assert found == due(schedule, stamp(begin), end)


def test_an_interval_counts_elapsed_time_from_midnight_of_its_zone() -> None:
    anchor = midnight("Europe/Berlin", datetime(2026, 3, 28, 15, 30, tzinfo=UTC))
    assert anchor == "2026-03-27T23:00:00Z"
    schedule = make_schedule(every=6 * 3600, anchor=anchor, zone="Europe/Berlin")
    found = upcoming(schedule, datetime(2026, 3, 28, 22, tzinfo=UTC), 3)
    assert [f"{moment:%d %H:%M}" for moment in found] == ["28 23:00", "29 05:00", "29 11:00"]
    assert due(schedule, "2026-03-28T05:00:00Z", datetime(2026, 3, 28, 11, tzinfo=UTC)) == ["2026-03-28T11:00:00Z"]


PREFECT = [
    # cron, zone, start, whether Prefect's scheduler has the same times
    ("0 9 * * 1-5", "Asia/Tokyo", "2026-03-07T12:00", True),
    ("0 9 13 * 5", "UTC", "2026-03-07T12:00", True),
    ("*/5 * * * *", "UTC", "2026-03-07T12:00", True),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", True),
    ("0 0 L * *", "Europe/Berlin", "2026-01-15T12:00", True),
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", False),  # it is an hour early
    ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", False),  # it leaves the second of the two hours out
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("cron", "zone", "start", "same"), PREFECT)
def test_prefects_own_scheduler_agrees_but_where_clocks_are_changed(cron: str, zone: str, start: str, same: bool) -> None:
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    after = datetime.fromisoformat(start + "Z")
    theirs = asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(n=5, start=after + timedelta(seconds=1)))
    ours = upcoming(make_schedule(cron=cron, zone=zone), after, 5)
    assert ([moment.astimezone(UTC) for moment in theirs] == ours) is same


@pytest.mark.parametrize(
    ("cron", "now", "seconds"),
    [
        ("30 2 * * *", "2026-03-29T00:30:05Z", 1795),  # Prefect's flow starts at 00:30, the slot is at 01:00
        ("0 * * * *", "2026-10-25T00:10:00Z", 3000),  # Prefect leaves the slot at 01:00 out
        ("0 * * * *", "2026-10-25T03:10:00Z", 0),
        ("30 2 * * *", "2026-03-28T20:00:00Z", 0),  # more than an hour away
    ],
)
def test_a_flow_waits_for_the_slot_that_prefect_has_wrong(cron: str, now: str, seconds: float) -> None:
    assert over_change(make_schedule(cron=cron, zone="Europe/Berlin"), datetime.fromisoformat(now)) == seconds


# ----------------------------------------------------------------------------------------------------------------- specs


@pytest.fixture
def unweighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "weights", lambda *parts: "1a2b")


@pytest.mark.usefixtures("unweighed")
def test_two_slots_of_one_spec_are_two_runs_over_the_same_problems_with_the_same_seed() -> None:
    schedule = make_schedule(spec=make_spec(seed=3))
    first, second = (specs.at_slot(schedule, stamp(START + timedelta(days=n))) for n in (0, 1))
    assert first.id != second.id
    assert (first.seed, second.seed, first.weights) == (3, 3, "1a2b")
    assert replace(first, slot="") == replace(second, slot="")
    assert specs.at_slot(schedule, stamp(START)) == first, "whoever takes it over has the same run"
    other = specs.at_slot(replace(schedule, name="weekly"), stamp(START))
    assert other.id != first.id, "a run is of one schedule"


@pytest.mark.usefixtures("unweighed")
def test_seeds_by_slot_differ_by_slot_and_by_the_specs_own() -> None:
    schedule = make_schedule(spec=make_spec(seed=3), seeds="slot")
    days = [stamp(START + timedelta(days=n)) for n in range(50)]
    seeds = {specs.at_slot(each, day).seed for day in days for each in (schedule, replace(schedule, spec=make_spec(seed=4)))}
    assert len(seeds) == 100


def test_paths_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.jsonl").write_text("{}")
    (tmp_path / "models/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    spec = RunSpec(
        Part("jsonl", {"file": "set.jsonl"}), Part("models/mine"), Part("prm", {"model": "hub/name"}), Part("greedy")
    )
    made = specs.anywhere(replace(spec, weights="1a2b", slot="a@b"))
    assert made.problems.params["file"] == str(tmp_path / "set.jsonl")
    assert made.generator.name == str(tmp_path / "models/mine")
    assert (made.verifier, made.strategy, made.weights, made.slot) == (spec.verifier, spec.strategy, "", "")


def test_the_default_database_is_that_of_every_other_command() -> None:
    assert verbs.DATABASE == cli.DATABASE


# ------------------------------------------------------------------------------------------------------------- scheduler


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """SQLite: what is asked of the database itself is tested on both kinds beside the store's tests, and under kills."""
    path = tmp_path / "a.db"
    path.touch()
    with new_database(str(path)) as opened:
        yield opened


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, **how: float) -> None:
        self.moment += timedelta(**how)


@pytest.fixture
def now() -> Now:
    return Now()


Making = Callable[..., Scheduler]


@pytest.fixture
def served(db: Database, now: Now, unweighed: None) -> Making:
    """Schedulers whose evaluations are runs of fakes, or what is given."""

    def made(evaluate: Callable[[RunSpec, str, Touch], None] | None = None, **how: Any) -> Scheduler:
        return Scheduler(db, evaluate or faked(db), now=now, say=said.append, later=how.pop("later", 0.0), **how)

    said: list[str] = []
    made.said = said  # type: ignore[attr-defined]
    return made


def faked(db: Database) -> Callable[[RunSpec, str, Touch], None]:
    def evaluate(spec: RunSpec, name: str, touch: Touch) -> None:
        if get_run(db, spec.id) is None:
            stored_run(db, spec)
        end_run(db, spec.id, "done")

    return evaluate


def statuses(db: Database) -> list[str]:
    """Of the slots, the earliest first."""
    return [slot.status for slot in reversed(list_slots(db, "nightly"))]


def test_each_slot_is_run_when_it_has_come_and_not_again(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, make_schedule())
    scheduler = served()
    assert not scheduler.once()
    for _ in range(3):
        now.pass_(minutes=5)
        assert dict(scheduler.once()) == {"done": 1}
        assert not scheduler.once()
    assert statuses(db) == ["done"] * 3
    assert len(rows(db, schema.run)) == 3
    assert audit(db).clean


def test_a_clock_that_jumps_back_runs_no_slot_twice(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, make_schedule(catch_up="all"))
    for minutes in (15, -60, 30, 30, -3000, 3015):  # in the end 30 minutes on
        now.pass_(minutes=minutes)
        served().once()
    assert statuses(db) == ["done"] * 6
    assert len(rows(db, schema.run)) == 6


def test_after_an_outage_only_the_latest_slot_is_run_and_the_others_are_on_record(
    db: Database, now: Now, served: Making
) -> None:
    add_schedule(db, make_schedule())
    now.pass_(hours=1)
    assert dict(served().once()) == {"done": 1, "missed": 11}
    assert statuses(db) == ["missed"] * 11 + ["done"]


@pytest.mark.parametrize(("overlap", "wanted"), [("skip", ["done", "skipped", "done"]), ("queue", ["done", "done", "done"])])
def test_a_slot_that_comes_while_another_runs(db: Database, now: Now, served: Making, overlap: str, wanted: list[str]) -> None:
    add_schedule(db, make_schedule(overlap=overlap))
    rival = served()

    def slow(spec: RunSpec, name: str, touch: Touch) -> None:
        if name.endswith(stamp(START + timedelta(minutes=5))):
            now.pass_(minutes=5)
            rival.notice()
            assert rival.take() is None
        faked(db)(spec, name, touch)

    scheduler = served(slow)
    now.pass_(minutes=5)
    scheduler.once()
    now.pass_(minutes=5)
    scheduler.once()
    assert statuses(db) == wanted
    assert audit(db).clean


def test_an_evaluation_that_fails_ends_its_slot_and_the_next_is_run(db: Database, now: Now, served: Making) -> None:
    def broken(spec: RunSpec, name: str, touch: Touch) -> None:
        raise RuntimeError("no luck\ntoday")

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    scheduler = served(broken)
    assert dict(scheduler.once()) == {"failed": 1}
    [slot] = list_slots(db, "nightly")
    assert slot.reason == "RuntimeError: no luck today"
    assert slot.alarm == "failed: RuntimeError: no luck today"
    assert [told.event for told in scheduler.alarms] == ["failed"]
    now.pass_(minutes=5)
    assert dict(served().once()) == {"done": 1}


def test_what_may_work_later_is_tried_again_and_has_failed_after_five_tries(db: Database, now: Now, served: Making) -> None:
    tried: list[str] = []

    def away(spec: RunSpec, name: str, touch: Touch) -> None:
        tried.append(name)
        if len(tried) != 3:
            raise Later("the server is away")
        faked(db)(spec, name, touch)

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    assert dict(served(away).once()) == {"queued": 2, "done": 1}
    assert len(set(tried)) == 1
    now.pass_(minutes=5)
    assert dict(served(away).once()) == {"queued": SLOT_TRIES - 1, "failed": 1}
    assert len(rows(db, schema.run)) == 1


def test_a_schedule_that_is_to_be_tried_later_is_left_alone_until_then(db: Database, now: Now, served: Making) -> None:
    def away(spec: RunSpec, name: str, touch: Touch) -> None:
        raise Later("the server is away")

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    assert dict(served(away, later=60.0).once()) == {"queued": 1}
    assert [slot.tries for slot in list_slots(db, "nightly")] == [1]


def test_a_scheduler_that_is_stopped_gives_its_slot_back_and_another_ends_the_same_run(
    db: Database, now: Now, served: Making
) -> None:
    begun: list[str] = []

    def stopped(spec: RunSpec, name: str, touch: Touch) -> None:
        begun.append(spec.id)
        stored_run(db, spec)
        raise Stopped

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    with pytest.raises(Stopped):
        served(stopped).once()
    [slot] = list_slots(db, "nightly")
    assert (slot.status, slot.tries, slot.run_id) == ("queued", 0, begun[0])
    assert {row["owner"] for row in rows(db, schema.lease)} == {""}
    assert dict(served().once()) == {"done": 1}
    assert [run["id"] for run in rows(db, schema.run)] == begun


@pytest.mark.parametrize("error", [ValueError, Later])
def test_an_error_that_a_signal_became_fails_no_slot(
    db: Database, now: Now, served: Making, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def stopped(spec: RunSpec, name: str, touch: Touch) -> None:
        monkeypatch.setattr(hurry, "heard", lambda: 15)
        raise error("Error calling function `serialize`: _Stopped: 15")

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    with pytest.raises(error):
        served(stopped).once()
    [slot] = list_slots(db, "nightly")
    assert (slot.status, slot.tries) == ("queued", 0)


def test_a_slot_that_was_begun_with_other_weights_is_ended_with_those_of_its_run(
    db: Database, now: Now, served: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of one slot would be one too many."""

    def stopped(spec: RunSpec, name: str, touch: Touch) -> None:
        stored_run(db, spec)
        raise Stopped

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    with pytest.raises(Stopped):
        served(stopped).once()
    monkeypatch.setattr(specs, "weights", lambda *parts: "3c4d")
    served().once()
    [run] = rows(db, schema.run)
    assert RunSpec.from_json(run["spec"]).weights == "1a2b"


def test_a_database_that_is_away_in_the_middle_leaves_the_slot_to_whoever_comes_next(
    db: Database, now: Now, served: Making
) -> None:
    def away(spec: RunSpec, name: str, touch: Touch) -> None:
        raise Unavailable("the database is away")

    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    assert dict(served(away, later=60.0).once()) == {"left": 1}
    assert statuses(db) == ["running"]
    assert dict(served().once()) == {"done": 1}


def test_one_schedule_that_cannot_be_read_holds_up_no_other(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, replace(make_schedule("broken", cron="0 * * * *"), zone="Not/Here"))
    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    assert dict(served().once()) == {"done": 1}
    served().once()
    assert any("schedule 'broken' cannot be read: unknown time zone" in line for line in served.said)  # type: ignore[attr-defined]


BROKEN: list[dict[str, Any]] = [
    {"spec": "{"},
    {"spec": "[]"},
    {"spec": "{}"},
    {"spec": make_spec().json().replace('"tokens":', '"tokenz":')},
    {"cron": "0 0 31 2 *", "every": None},
    {"cron": "every night", "every": None},
    {"every": -60},
    {"zone": "Not/Here"},
    {"anchor": "noon"},
    {"since": "yesterday"},
    {"catch_up": "some"},
]


@pytest.mark.parametrize("values", BROKEN, ids=lambda values: ",".join(values))
def test_a_schedule_whose_row_is_broken_is_said_once_with_the_remedy_and_left_out(
    values: dict[str, Any], db: Database, now: Now, served: Making
) -> None:
    for name in ("broken", "nightly"):
        add_schedule(db, make_schedule(name))
    db.transact(lambda c: c.execute(update(schema.schedule).where(schema.schedule.c.name == "broken").values(values)))
    scheduler = served()
    for _ in range(2):
        now.pass_(minutes=5)
        assert dict(scheduler.once()) == {"done": 1}
    assert scheduler.unread == {"broken"}
    [line] = [line for line in served.said if "cannot be read" in line]  # type: ignore[attr-defined]
    assert line.startswith("schedule 'broken' cannot be read: ")
    assert line.endswith("; mend its row, or remove it: ponderosa schedule remove broken")
    assert "\n" not in line


def test_a_slot_of_a_schedule_that_was_broken_meanwhile_holds_up_no_other(db: Database, now: Now, served: Making) -> None:
    for name in ("broken", "nightly"):
        add_schedule(db, make_schedule(name))
    now.pass_(minutes=5)
    scheduler = served()
    scheduler.notice()
    db.transact(lambda c: c.execute(update(schema.schedule).where(schema.schedule.c.name == "broken").values(spec="{")))
    assert dict(scheduler.once()) == {"done": 1}


def test_serving_goes_on_until_it_is_stopped_and_sees_what_is_added_meanwhile(db: Database, now: Now, served: Making) -> None:
    stop = threading.Event()
    halted: list[bool] = []
    scheduler = served(look=0.01, halt=lambda: halted.append(True))
    thread = threading.Thread(target=scheduler.forever, args=(stop, 2))
    thread.start()
    try:
        for name in ("nightly", "weekly"):
            add_schedule(db, make_schedule(name, overlap="queue"))
        for count in (1, 2):
            now.pass_(minutes=5)
            wait_for(lambda count=count: statuses(db) == ["done"] * count)
        wait_for(lambda: len(rows(db, schema.run)) == 4)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert halted == [True]
    assert audit(db).clean


def wait_for(done: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


# ----------------------------------------------------------------------------------------------------------------- alarms


def accuracy_of(db: Database) -> float:
    found = trend(db, find_schedule(db, "nightly"))[-1].found.accuracy
    assert found is not None
    return found


def graded(db: Database, right: int, n: int = 3) -> Callable[[RunSpec, str, Touch], None]:
    """Runs of n problems, so many of them right."""
    from store.runs import grade, planned

    def evaluate(spec: RunSpec, name: str, touch: Touch) -> None:
        stored_run(db, spec, n=n)
        end_run(db, spec.id, "done")
        ids = [attempt.attempt_id for attempt in planned(db, spec.id)]
        grade(db, [(i, "correct" if n < right else "wrong", n < right, "g") for n, i in enumerate(ids)])

    return evaluate


@pytest.mark.parametrize(
    ("bar", "bar_by", "right", "raised"),
    [
        (0.5, "point", 1, True),
        (0.5, "point", 2, False),
        (2 / 3, "point", 2, False),  # one that is equal to the bar holds it
        (0.5, "upper", 1, False),  # a third of three problems may well be a half
        (0.6, "upper", 0, True),
        (None, "point", 0, False),
    ],
)
def test_an_alarm_is_raised_below_the_bar_and_only_there(
    db: Database, now: Now, served: Making, bar: float | None, bar_by: str, right: int, raised: bool
) -> None:
    add_schedule(db, make_schedule(bar=bar, bar_by=bar_by))
    now.pass_(minutes=5)
    scheduler = served(graded(db, right))
    scheduler.once()
    [slot] = list_slots(db, "nightly")
    assert slot.status == "done"
    assert (slot.alarm is not None) is raised
    assert [told.event for told in scheduler.alarms] == ["below"] * raised


HOOK = "import json, os, sys; json.dump({k: v for k, v in os.environ.items() if 'PONDEROSA_' in k}, open(sys.argv[1], 'w'))"


def test_a_hook_is_told_the_facts_in_its_environment(db: Database, now: Now, served: Making, tmp_path: Path) -> None:
    out = tmp_path / "a file"
    hook = f'{sys.executable} -c "{HOOK}" "{out}"'
    add_schedule(db, make_schedule(bar=0.5, hook=hook))
    now.pass_(minutes=5)
    served(graded(db, 1)).once()
    told = json.loads(out.read_text())
    [slot] = list_slots(db, "nightly")
    assert told["PONDEROSA_EVENT"] == "below"
    assert (told["PONDEROSA_SCHEDULE"], told["PONDEROSA_SLOT"]) == ("nightly", slot.slot_utc)
    assert (told["PONDEROSA_RUN"], told["PONDEROSA_BAR"]) == (slot.run_id, "0.5")
    assert float(told["PONDEROSA_ACCURACY"]) == pytest.approx(1 / 3, abs=1e-5)
    assert float(told["PONDEROSA_LOW"]) < 1 / 3 < float(told["PONDEROSA_HIGH"])
    assert slot.alarm is not None
    assert slot.alarm.endswith("below the bar of 0.5; its hook ended with 0")


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("/nowhere/at/all", "its hook could not be started: No such file"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"the post is closed\")'", "its hook ended with 1 (the post is closed)"),
    ],
)
def test_a_hook_that_fails_is_on_record_and_fails_nothing_else(
    db: Database, now: Now, served: Making, hook: str, says: str
) -> None:
    add_schedule(db, make_schedule(bar=0.5, hook=hook))
    now.pass_(minutes=5)
    assert dict(served(graded(db, 0)).once()) == {"done": 1}
    assert says in (list_slots(db, "nightly")[0].alarm or "")


def test_a_hook_that_hangs_is_ended_with_what_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(alarm, "SECONDS", 0.5)
    left = tmp_path / "left"
    hook = f"sh -c 'sh -c \"sleep 3; touch {left}\"; true'"
    told = alarm.failed(make_schedule(), Slot("nightly", stamp(START), "failed"), "why")
    assert alarm.raised(told, hook) == "failed: why; its hook was ended after 0 s"
    time.sleep(3.5)
    assert not left.exists()


def test_a_run_of_which_nothing_was_graded_is_below_no_bar(db: Database) -> None:
    spec = make_spec()
    begin_run(db, spec, make_problems(2), {})
    found = queries.summary(db, spec.id)
    wrong, ungraded = replace(found, done=2, graded=2, accuracy=0.0), replace(found, done=2, graded=0, accuracy=0.0)
    assert (alarm.is_below(0.5, "point", wrong), alarm.is_below(0.5, "point", ungraded)) == (True, False)


def test_no_hook_is_run_where_that_is_asked(db: Database, now: Now, served: Making, tmp_path: Path) -> None:
    add_schedule(db, make_schedule(bar=0.5, hook=f"touch {tmp_path / 'out'}"))
    now.pass_(minutes=5)
    served(graded(db, 0), hooks=False).once()
    assert list_slots(db, "nightly")[0].alarm
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("hook", ["mail 'me", " "])
def test_a_hook_that_is_no_command_line_is_refused(hook: str) -> None:
    with pytest.raises(ValueError, match="hook"):
        alarm.checked_hook(hook)


# ------------------------------------------------------------------------------------------------------------------ trend


def test_a_trend_has_paired_differences_from_the_first_and_from_the_last(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, make_schedule())
    for right in (2, 2, 0, 3):
        now.pass_(minutes=5)
        served(graded(db, right)).once()
    points = trend(db, find_schedule(db, "nightly"))
    assert [point.found.correct for point in points] == [2, 2, 0, 3]
    assert (points[0].first, points[0].previous, points[0].changed) == (None, None, ())
    assert points[1].first == points[1].previous == (0.0, 0.0, 0.0), "what has not changed differs by exactly nothing"
    assert points[2].first is not None
    assert points[2].first[0] == pytest.approx(-2 / 3)
    assert points[2].first[1] < -2 / 3 < points[2].first[2]
    assert points[3].previous == (1.0, 1.0, 1.0)
    assert points[3].problems == 3
    assert [point.slot.slot_utc for point in trend(db, find_schedule(db, "nightly"), last=2)] == [
        point.slot.slot_utc for point in points[2:]
    ]


def test_a_trend_reads_no_more_slots_than_are_asked_for(
    db: Database, now: Now, served: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_schedule(db, make_schedule())
    for _ in range(4):
        now.pass_(minutes=5)
        served().once()
    read: list[str] = []
    slot_of = slots.slot_of
    monkeypatch.setattr(slots, "slot_of", lambda row: read.append(row["slot_utc"]) or slot_of(row))
    assert len(trend(db, find_schedule(db, "nightly"), last=2)) == len(read) == 2
    latest = latest_slot(db, "nightly")
    assert latest is not None
    assert read[2:] == [latest.slot_utc]


def test_a_trend_over_problems_that_have_changed_is_paired_over_those_in_common(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, make_schedule())
    for evaluate in (graded(db, 2), graded(db, 2, n=5), graded(db, 2, n=5)):
        now.pass_(minutes=5)
        served(evaluate).once()
    assert [point.problems for point in trend(db, find_schedule(db, "nightly"))] == [None, 3, 5]


def test_a_trend_names_what_has_changed(db: Database, now: Now, served: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    add_schedule(db, make_schedule())
    for here in ("1a2b", "3c4d", "3c4d"):
        monkeypatch.setattr(specs, "weights", lambda *parts, here=here: here)
        now.pass_(minutes=5)
        served().once()
    assert [point.changed for point in trend(db, find_schedule(db, "nightly"))] == [(), ("weights",), ()]


def test_the_trend_agrees_with_compare(db: Database, now: Now, served: Making) -> None:
    from store.compare import paired, side

    add_schedule(db, make_schedule())
    for right in (1, 2):
        now.pass_(minutes=5)
        served(graded(db, right)).once()
    first, second = trend(db, find_schedule(db, "nightly"), resamples=500)
    sides = [side(db, [point.run]) for point in (first, second)]
    assert paired(sides[0], sides[1], list(sides[0].right), 500).difference == pytest.approx(second.first)


def test_a_paused_schedule_has_its_trend(db: Database, now: Now, served: Making) -> None:
    add_schedule(db, make_schedule())
    now.pass_(minutes=5)
    served().once()
    set_status(db, "nightly", "paused", stamp(now()))
    assert len(trend(db, find_schedule(db, "nightly"))) == 1


# --------------------------------------------------------------------------------------------------------------- children


def child(code: str, tmp_path: Path) -> tuple[Children, list[str]]:
    """Children that are this code instead of an evaluation."""
    lines: list[str] = []
    return Children(str(tmp_path / "a.db"), command=(sys.executable, "-c", code), say=lines.append), lines


def evaluate(children: Children) -> None:
    children.evaluate(make_spec(), "nightly@now", lambda: None)


def test_a_child_gets_its_job_and_the_database_by_no_argument(tmp_path: Path) -> None:
    told = "json.loads(sys.stdin.readline())['name'], os.environ['PONDEROSA_DATABASE']"
    code = f"import json, os, sys; print({told}, file=sys.stderr)"
    children, lines = child(code, tmp_path)
    evaluate(children)
    assert lines == [f"nightly@now {tmp_path / 'a.db'}"]


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("import sys; sys.stderr.write('ponderosa: no such model\\n'); sys.exit(65)", Failed, "no such model (exit code 65)"),
        ("import sys; sys.stderr.write('ponderosa: the server is away\\n'); sys.exit(75)", Later, "the server is away"),
        ("import os; os.kill(os.getpid(), 9)", Later, "its process was ended by signal 9"),
        ("import sys; sys.exit(143)", Later, "its process was ended by signal 15"),
        ("raise KeyError('x')", Failed, "KeyError: 'x' (exit code 1)"),
        ("import sys; sys.exit(3)", Failed, "it said nothing (exit code 3)"),
    ],
)
def test_how_a_child_ended_tells_whether_to_try_again(code: str, kind: type[Exception], says: str, tmp_path: Path) -> None:
    with pytest.raises(kind) as raised:
        evaluate(child(code, tmp_path)[0])
    assert str(raised.value) == says


@pytest.mark.parametrize("ignores", [False, True])
def test_children_that_are_halted_end_within_seconds(ignores: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.schedule.child.PATIENCE", 1.0)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignores else ""
    children, lines = child(f"{deaf}import sys, time; sys.stderr.write('up\\n'); sys.stderr.flush(); time.sleep(60)", tmp_path)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            evaluate(children)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: lines == ["up"])
    began = time.monotonic()
    children.halt()
    thread.join(10)
    assert time.monotonic() - began < 5
    assert [type(error) for error in raised] == [Stopped]
    with pytest.raises(Stopped):
        evaluate(children)
