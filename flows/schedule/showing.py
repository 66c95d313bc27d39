"""`ponderosa schedule list`, `schedule show` and `trend`: what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flows import records
from flows.progress import said
from flows.schedule.alarm import is_below
from flows.schedule.editing import local, readable, stored, told
from flows.schedule.scheduler import utc_now
from flows.schedule.times import upcoming
from flows.tables import console, number, table
from search.types import RunSpec
from store.compare import FEW, Interval
from store.schedules import Schedule, find_schedule, stamp
from store.slots import Slot, count_slots, list_slots
from store.trend import Point, latest_slot
from store.trend import trend as series


def listed(database: str, json: bool) -> None:
    """A line a schedule; those that cannot be read are told of on standard error."""
    with stored(database) as opened:
        found, faults = readable(opened)
        counts = count_slots(opened)
        last = {each.name: next(iter(list_slots(opened, each.name, 1)), None) for each in found}
    for fault in faults:
        said(str(fault))
    if json:
        records.tell(*({**told(each), "slots": counts.get(each.name, {}), "last": _slot(last[each.name])} for each in found))
        return
    if not found and not faults:
        console().print("no schedules; ponderosa schedule add makes one")
        return
    made = table("schedule", "when", "next", "last slot", "so far")
    for each in found:
        due = stamp(upcoming(each, utc_now(), 1)[0]) if each.status == "active" else each.status
        final = last[each.name]
        count = ", ".join(f"{n} {status}" for status, n in sorted(counts.get(each.name, {}).items()))
        made.add_row(each.name, each.rule, due, "–" if final is None else f"{final.slot_utc} {final.status}", count or "–")
    console().print(made)


def shown(database: str, name: str, limit: int, json: bool) -> None:
    """One schedule with its last slots."""
    with stored(database) as opened:
        schedule, slots = find_schedule(opened, name), list_slots(opened, name, limit)
    if json:
        records.tell({**told(schedule), "slots": [_slot(slot) for slot in slots]})
        return
    out, bar = console(), "none" if schedule.bar is None else f"{schedule.bar:g} (by {schedule.bar_by})"
    out.print(f"schedule  {schedule.name}, {schedule.status} since {schedule.since}")
    out.print(f"when      {schedule.rule}")
    out.print(f"evaluates {_words(schedule.spec)}")
    out.print(f"policies  catch_up {schedule.catch_up}, overlap {schedule.overlap}, seeds {schedule.seeds}")
    out.print(f"bar       {bar}, hook {schedule.hook or 'none'}")
    for i, moment in enumerate(upcoming(schedule, utc_now(), 3) if schedule.status == "active" else []):
        out.print(("next      " if i == 0 else "          ") + local(moment, schedule.zone))
    made = table("slot", "status", "run", "begun", "ended", ">tries")
    for slot in slots:
        made.add_row(slot.slot_utc, slot.status, slot.run_id or "–", slot.begun or "–", slot.ended or "–", str(slot.tries))
    out.print()
    out.print(made)
    for slot in slots:
        if why := slot.alarm or slot.reason:
            out.print(f"{slot.slot_utc}  {why}")


def trend(database: str, name: str, bar: float | None, last: int | None, json: bool) -> int:
    """The series; 1 where the latest run is below the bar, or the latest slot has failed."""
    if bar is not None and not 0 <= bar <= 1:
        raise ValueError(f"--bar must be an accuracy between 0 and 1, not {bar}")
    with stored(database) as opened:
        schedule = find_schedule(opened, name)
        points, latest = series(opened, schedule, last), latest_slot(opened, name)
    bar = schedule.bar if bar is None else bar
    under = bool(points) and bar is not None and is_below(bar, schedule.bar_by, points[-1].found)
    failed = latest is not None and latest.status == "failed"
    if json:
        facts = {"schedule": name, "bar": bar, "bar_by": schedule.bar_by, "below": under, "failed": failed}
        records.tell({**facts, "points": [_point(point) for point in points]})
        return int(under or failed)
    _print_series(schedule, points)
    if bar is not None and points:
        which = "the interval's upper end" if schedule.bar_by == "upper" else "the accuracy"
        console().print(f"bar       {bar:g}: {which} of the latest run is {'BELOW' if under else 'not below'} it")
    if failed and latest is not None:
        console().print(f"failed    the latest slot, {latest.slot_utc}: {latest.reason}")
    return int(under or failed)


def _print_series(schedule: Schedule, points: Sequence[Point]) -> None:
    out = console()
    if not points:
        out.print(f"schedule {schedule.name} has no finished run yet")
        return
    out.print(f"{schedule.name}: {schedule.spec.strategy} on {schedule.spec.problems}, {len(points)} runs, {schedule.rule}")
    made = table(
        "slot", "run", ">accuracy", ">95% interval", ">tokens", ">seconds", ">from the first", ">from the last", "change"
    )
    for point in points:
        found = point.found
        made.add_row(
            point.slot.slot_utc[:16] + "Z",
            point.run.id,
            number(found.accuracy, 3),
            f"[{found.low:.3f}, {found.high:.3f}]",
            number(found.generated_tokens),
            number(point.seconds, 1),
            _span(point.first),
            _span(point.previous),
            ", ".join(point.changed) or "–",
        )
    out.print(made)
    few = f"; fewer than {FEW} problems, so the intervals say little" if points[-1].found.problems < FEW else ""
    out.print(f"differences are paired over the problems that both have, with a bootstrap's 95% interval{few}")


def _span(of: Interval | None) -> str:
    return "–" if of is None else f"{of[0]:+.3f} [{of[1]:+.3f}, {of[2]:+.3f}]"


def _words(spec: RunSpec) -> str:
    return f"{spec.strategy} on {spec.problems}, generator {spec.generator}, verifier {spec.verifier}, seed {spec.seed}"


def _slot(slot: Slot | None) -> dict[str, Any] | None:
    return None if slot is None else asdict(slot)


def _point(point: Point) -> dict[str, Any]:
    found = point.found
    return {
        "slot": point.slot.slot_utc,
        "run": point.run.id,
        "accuracy": found.accuracy,
        "low": found.low,
        "high": found.high,
        "problems": found.problems,
        "failed": found.failed,
        "tokens": found.generated_tokens,
        "seconds": point.seconds,
        "since_first": point.first,
        "since_last": point.previous,
        "paired": point.problems,
        "changed": point.changed,
        "alarm": point.slot.alarm,
    }


__all__ = ["listed", "shown", "trend"]
