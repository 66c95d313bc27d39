"""`ponderosa serve`: one process that runs what is due, each slot in a child of its own."""

from __future__ import annotations

import threading

from flows import records
from flows.progress import said
from flows.schedule.child import Children
from flows.schedule.editing import local, readable, stored
from flows.schedule.scheduler import Scheduler, utc_now
from flows.schedule.times import upcoming
from store.database import Database
from store.errors import Unreadable
from store.schedules import find_schedule


def run(database: str, once: bool, only: str, at_once: int, plain: bool, hooks: bool, json: bool = False) -> int:
    """Serves; the exit code."""
    children = Children(database, plain)
    with stored(database, create=True) as opened:
        if only:
            find_schedule(opened, only)
        tell = records.tell if json else records.nothing
        scheduler = Scheduler(opened, children.evaluate, only, hooks, halt=children.halt, tell=tell)
        if once:
            return _once(scheduler, children)
        _say_what(opened, only)
        scheduler.forever(threading.Event(), at_once)
    return 0


def _once(scheduler: Scheduler, children: Children) -> int:
    try:
        ended = scheduler.once()
    finally:
        children.halt()
    said(", ".join(f"{count} {status}" for status, count in sorted(ended.items())) or "nothing is due")
    if ended["left"] or ended["queued"]:
        return 75
    return 1 if scheduler.alarms else Unreadable.exit_code if scheduler.unread else 0


def _say_what(opened: Database, only: str) -> None:
    found, faults = readable(opened)  # the scheduler says what is wrong with a schedule
    for schedule in (each for each in found if not only or each.name == only):
        due = local(upcoming(schedule, utc_now(), 1)[0], schedule.zone) if schedule.status == "active" else schedule.status
        said(f"serves {schedule.name}: {schedule.rule}; next {due}")
    if not found and not faults:
        said("there is no schedule yet; ponderosa schedule add makes one, and it is served from then on")


__all__ = ["run"]
