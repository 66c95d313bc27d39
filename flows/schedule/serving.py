"""`ponderosa serve`: one process that runs what is due, each slot in a child of its own."""

from __future__ import annotations

import threading

from flows.progress import said
from flows.schedule.child import Children
from flows.schedule.editing import local, stored
from flows.schedule.scheduler import Scheduler, Stopped, utc_now
from flows.schedule.times import upcoming
from store.database import Database
from store.schedules import find_schedule, list_schedules
from store.slots import list_slots


def run(database: str, once: bool, only: str, at_once: int, plain: bool, hooks: bool) -> int:
    """Serves; the exit code."""
    children = Children(database, plain)
    with stored(database, create=True) as opened:
        if only:
            find_schedule(opened, only)
        scheduler = Scheduler(opened, children.evaluate, only, hooks, halt=children.halt)
        if once:
            return _once(opened, scheduler, children)
        _say_what(opened, only)
        scheduler.forever(threading.Event(), at_once)
    return 0


def _once(opened: Database, scheduler: Scheduler, children: Children) -> int:
    began = scheduler.now()
    try:
        ended = scheduler.once()
    except Stopped:  # pragma: no cover  halted from elsewhere
        return 1
    finally:
        children.halt()
    told = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    said(told or "nothing is due")
    alarmed = any(
        slot.alarm is not None and slot.ended is not None and slot.ended >= f"{began:%Y-%m-%dT%H:%M:%SZ}"
        for schedule in list_schedules(opened)
        if not scheduler.only or schedule.name == scheduler.only
        for slot in list_slots(opened, schedule.name, 100)
    )
    return 1 if alarmed or ended["failed"] else 0


def _say_what(opened: Database, only: str) -> None:
    found = [schedule for schedule in list_schedules(opened) if not only or schedule.name == only]
    for schedule in found:
        due = local(upcoming(schedule, utc_now(), 1)[0], schedule.zone) if schedule.status == "active" else schedule.status
        said(f"serves {schedule.name}: {schedule.rule}; next {due}")
    if not found:
        said("there is no schedule yet; ponderosa schedule add makes one, and it is served from then on")


__all__ = ["run"]
