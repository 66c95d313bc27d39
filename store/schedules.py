"""Schedules: what is to be evaluated, and when. Their slots are in `slots.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from search.types import RunSpec

from . import schema
from .database import Database
from .errors import StoreError, Unreadable, one_of, why
from .values import clean

CATCH_UP = ("latest", "all", "none")
OVERLAP = ("skip", "queue")
SEEDS = ("same", "slot")
BAR_BY = ("point", "upper")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_T = schema.schedule.c


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. Times are as `stamp` writes them. Exactly one of `cron` and `every` is given."""

    name: str
    spec: RunSpec  # weights and slot are the slot's own
    cron: str | None = None
    every: int | None = None  # seconds
    anchor: str = ""  # what intervals are counted from
    zone: str = "UTC"
    seeds: str = "same"
    catch_up: str = "latest"
    overlap: str = "skip"
    bar: float | None = None
    bar_by: str = "point"
    hook: str = ""
    status: str = "active"
    created: str = ""
    since: str = ""  # slots up to this time are not its own

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise StoreError(f"schedule name '{self.name[:80]}' must be of letters, digits, '.', '_' and '-', 64 at most")
        if (self.cron is None) == (self.every is None):
            raise StoreError(f"schedule '{self.name}' needs either a cron string or an interval")
        if self.every is not None and self.every < 1:
            raise StoreError(f"interval must be at least a second, not {self.every}")
        one_of("catch-up policy", self.catch_up, CATCH_UP)
        one_of("overlap policy", self.overlap, OVERLAP)
        one_of("choice of seeds", self.seeds, SEEDS)
        one_of("reading of the bar", self.bar_by, BAR_BY)
        one_of("schedule status", self.status, schema.SCHEDULE_STATUSES)
        if self.bar is not None and not (math.isfinite(self.bar) and 0 <= self.bar <= 1):
            raise StoreError(f"bar must be an accuracy between 0 and 1, not {self.bar}")

    @property
    def rule(self) -> str:
        """When, for people."""
        if self.cron is not None:
            return f"cron '{self.cron}' {self.zone}"
        return f"every {_span(self.every or 0)} from {self.anchor}"


def stamp(moment: datetime) -> str:
    """A time as slots are named: UTC, whole seconds, sorting as text as it does in time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: str) -> datetime:
    """The time that `stamp` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def add_schedule(db: Database, schedule: Schedule) -> None:
    """Stores a new schedule. Raises StoreError where its name is taken."""

    def work(connection: Connection) -> bool:
        known = connection.scalar(select(_T.spec).where(_T.name == schedule.name))
        if known is None:
            connection.execute(insert(schema.schedule).values(_row(schedule)))
        return known is None

    if not db.transact(work):
        raise StoreError(
            f"there is a schedule '{schedule.name}' already; give this one another name, or remove that one: "
            f"ponderosa schedule remove {schedule.name}"
        )


def find_schedule(db: Database, name: str) -> Schedule:
    """Raises StoreError with the nearest names where there is none of this one, Unreadable where its row is no schedule."""
    return schedule_of(_row_of(db, name))


def _row_of(db: Database, name: str) -> RowMapping:
    asked, every = select(schema.schedule).where(_T.name == name), select(_T.name).order_by(_T.name)
    found = db.consult(lambda connection: connection.execute(asked).mappings().one_or_none())
    if found is None:
        raise StoreError(_missing(name, list(db.consult(lambda connection: connection.scalars(every).all()))))
    return found


def _missing(name: str, names: list[str]) -> str:
    if not names:
        return f"there is no schedule '{name}': the database has none yet; ponderosa schedule add makes one"
    near = get_close_matches(name, names, 3, 0.0)
    return f"there is no schedule '{name}'; the nearest are {', '.join(near)}"


def list_schedules(db: Database) -> tuple[list[Schedule], list[Unreadable]]:
    """All that can be read, by name, and what is wrong with the others."""
    asked = select(schema.schedule).order_by(_T.name)
    found: list[Schedule] = []
    faults: list[Unreadable] = []
    for row in db.consult(lambda connection: connection.execute(asked).mappings().all()):
        try:
            found.append(schedule_of(row))
        except Unreadable as fault:
            faults.append(fault)
    return found, faults


def schedule_names(db: Database) -> list[str]:
    """Of all of them, those that cannot be read too."""
    asked = select(_T.name).order_by(_T.name)
    return list(db.consult(lambda connection: connection.scalars(asked).all()))


def remove_schedule(db: Database, name: str) -> int:
    """Deletes a schedule and what is recorded of its slots; how many runs of it stay. Refused while one is under way."""
    _row_of(db, name)  # one that cannot be read goes too
    slot = schema.slot.c

    def work(connection: Connection) -> int:
        running = select(func.count()).where(slot.schedule == name, slot.status == "running")
        if connection.scalar(running):
            raise StoreError(f"a slot of schedule '{name}' is being run; stop that first, or pause the schedule and wait")
        runs = connection.scalar(select(func.count()).where(slot.schedule == name, slot.run_id.is_not(None)))
        connection.execute(delete(schema.slot).where(slot.schedule == name))
        connection.execute(delete(schema.schedule).where(_T.name == name))
        return int(runs or 0)

    return db.transact(work)


def set_status(db: Database, name: str, status: str, at: str) -> None:
    """Pauses or resumes. What came during a pause is nobody's: a schedule that is resumed has slots from then on."""
    one_of("schedule status", status, schema.SCHEDULE_STATUSES)
    known = _row_of(db, name)
    values: dict[str, Any] = {"status": status}
    if status == "active" and schedule_of(known).status != "active":  # one that cannot be read may be paused only
        values["since"] = max(at, known["since"])
    db.transact(lambda connection: connection.execute(update(schema.schedule).where(_T.name == name).values(values)))


# ------------------------------------------------------------------------------------------------------------ internals


def _row(schedule: Schedule) -> dict[str, Any]:
    row = {column.name: getattr(schedule, column.name) for column in schema.schedule.columns}
    return {**row, "spec": replace(schedule.spec, weights="", slot="").json(), "hook": clean(schedule.hook)}


def schedule_of(row: RowMapping | Mapping[str, Any]) -> Schedule:
    """A row of the table as a Schedule. Raises Unreadable for one that another program, or another version, has written."""
    kept = {column.name: row[column.name] for column in schema.schedule.columns}
    try:
        return Schedule(**{**kept, "spec": RunSpec.from_json(kept["spec"])})
    except (StoreError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise unreadable(kept["name"], error) from None


def unreadable(name: str, error: Exception) -> Unreadable:
    """What is wrong with a schedule, in one line with the remedy."""
    remedy = f"mend its row, or remove it: ponderosa schedule remove {name}"
    return Unreadable(f"schedule '{name}' cannot be read: {why(error)}; {remedy}")


def _span(seconds: int) -> str:
    """90061 -> '1d 1h 1m 1s'."""
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


__all__ = [
    "BAR_BY",
    "CATCH_UP",
    "OVERLAP",
    "SEEDS",
    "Schedule",
    "add_schedule",
    "find_schedule",
    "list_schedules",
    "moment_of",
    "remove_schedule",
    "schedule_names",
    "schedule_of",
    "set_status",
    "stamp",
    "unreadable",
]
