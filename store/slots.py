"""Slots: the moments at which a schedule is due, each recorded once and run by one process at a time.

Who notices a slot first inserts its row: (schedule, slot_utc) is the primary key, so of any number of schedulers one wins, and
the others find a duplicate. All that has come since the last recorded slot is recorded in one transaction, in order of time:
the rows of a schedule have no gap, and a clock that jumps back finds everything recorded.

A slot that is to be run is `queued` until a process takes it by a lease (`leases.py`), `running` while that is renewed, and
ends in the transaction that gives the lease up. One whose process died is taken over; the dead one's late writes are refused.
The slots of one schedule are run one after another, the earliest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, Row, func, select, update

from . import schema
from .database import Database, insert_new
from .errors import StoreError, Unreadable, one_of
from .leases import HASTE, STALE, Held, Lease, claim
from .schedules import Schedule, moment_of, schedule_of
from .values import clean

MOST = 1000  # slots that are recorded, or queued, in one go: an interval of minutes may have been left alone for a year
GRACE = 300.0  # seconds after which a slot counts as missed where catch_up is none
SLOT_TRIES = 5  # processes that may die over a slot before it has failed

_S, _T, _L = schema.slot.c, schema.schedule.c, schema.lease.c
Due = Callable[[Schedule, str], Sequence[str]]  # the slots of a schedule after a time and up to now, in order


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as it is recorded."""

    schedule: str
    slot_utc: str
    status: str
    reason: str = ""
    run_id: str | None = None
    noticed: str = ""
    begun: str | None = None
    ended: str | None = None
    tries: int = 0
    alarm: str | None = None

    @property
    def name(self) -> str:
        return f"{self.schedule}@{self.slot_utc}"


@dataclass(slots=True)
class Taken:
    """A slot that this process runs, until its lease is lost."""

    schedule: Schedule
    slot: Slot
    lease: Lease

    @property
    def name(self) -> str:
        return self.slot.name


def record_due(db: Database, name: str, due: Due, at: str) -> list[Slot]:
    """Records every slot that has come since the last one recorded, as the schedule's policies have it; those that this call
    recorded. `at` is now. None for a schedule that is paused or gone. Raises Unreadable for one that cannot be read."""

    known: dict[str, Sequence[str]] = {}  # by what it is after: counting a year's slots takes seconds, and is done once

    def coming(connection: Connection, lock: bool) -> list[Slot]:
        asked = select(schema.schedule).where(_T.name == name)
        row = connection.execute(asked.with_for_update() if lock else asked).mappings().one_or_none()
        if row is None or row["status"] != "active":
            return []
        schedule = schedule_of(row)
        last = connection.scalar(select(func.max(_S.slot_utc)).where(_S.schedule == name))
        after = max(schedule.since, last or "")
        if after not in known:
            known[after] = due(schedule, after)
        times = known[after]
        if not times:
            return []
        first = _earliest_open(connection, name)
        return planned(schedule, times, "" if first is None else first.slot_utc, at)

    def work(connection: Connection) -> list[Slot]:
        slots = coming(connection, lock=True)
        insert_new(connection, schema.slot, [_row(slot) for slot in slots])
        return slots

    # most of the time nothing is due, and nobody waits for a reader
    return db.transact(work) if db.consult(lambda connection: coming(connection, lock=False)) else []


def planned(schedule: Schedule, times: Sequence[str], before: str, at: str) -> list[Slot]:
    """What becomes of the slots that have come, in order of time. `before` is an earlier slot that is still open, '' = none.

    Catch-up tells which of them are to be run; overlap, what becomes of those where an earlier slot is still open.
    """
    late = schedule.catch_up == "none" and not _fresh(times[-1], at)
    chosen = set[str]() if late else set(times[-MOST:] if schedule.catch_up == "all" else times[-1:])
    kept = times[-MOST:]
    slots = []
    for time in kept:
        if time not in chosen:
            status, reason = "missed", f"noticed at {at}; catch_up is {schedule.catch_up}"
        elif before and schedule.overlap == "skip":
            status, reason = "skipped", f"the slot of {before} was still open; overlap is skip"
        else:
            status, reason = "queued", ""
        slots.append(Slot(schedule.name, time, status, reason, noticed=at))
    if len(kept) < len(times):
        left = f"noticed at {at}, with {len(times) - len(kept)} before it that are not recorded"
        slots[0] = replace(slots[0], status="missed", reason=left)
    return slots


def _fresh(time: str, at: str) -> bool:
    return (moment_of(at) - moment_of(time)).total_seconds() <= GRACE


def add_slot(db: Database, name: str, slot_utc: str, at: str, reason: str = "") -> bool:
    """Queues one slot; False where somebody has recorded it already: a duplicate."""
    slot = Slot(name, slot_utc, "queued", reason, noticed=at)

    def work(connection: Connection) -> bool:
        there = select(func.count()).where(_S.schedule == name, _S.slot_utc == slot_utc)
        connection.execute(select(_T.name).where(_T.name == name).with_for_update())
        if connection.scalar(there):
            return False
        insert_new(connection, schema.slot, [_row(slot)])
        return True

    return db.transact(work)


def take(
    db: Database, at: str, only: str = "", busy: Sequence[str] = (), owner: str = "", stale: float = STALE
) -> Taken | None:
    """The earliest open slot that nobody has, of the schedules that are active; None where there is none. `only`: a schedule's
    name; `busy`: names of schedules that are left out."""
    for schedule, slot in _candidates(db, only):
        if schedule.name in busy:
            continue
        lease = claim(db, f"slot {slot.name}", 0, owner, stale)
        if isinstance(lease, Held):
            continue
        taken = db.transact(partial(_begin, schedule=schedule, slot=slot, lease=lease, at=at))
        if taken is not None:
            return taken
    return None


def set_run(db: Database, taken: Taken, run_id: str) -> None:
    """Keeps which run is the slot's."""
    _write(db, taken, {"run_id": run_id})
    taken.slot = replace(taken.slot, run_id=run_id)


def give_back(db: Database, taken: Taken, reason: str, counted: bool) -> None:
    """The slot is queued again: this process stops, or it may work later. `counted`: as one of its tries."""
    tries = taken.slot.tries if counted else taken.slot.tries - 1
    _write(db, taken, {"status": "queued", "reason": clean(reason), "tries": tries}, release=True, patience=HASTE)


def close(db: Database, taken: Taken, status: str, at: str, reason: str = "", alarm: str | None = None) -> None:
    """Ends the slot. Raises LeaseLost where another process has taken it over."""
    one_of("slot status", status, schema.SLOT_STATUSES)
    values = {"status": status, "reason": clean(reason), "ended": at, "alarm": None if alarm is None else clean(alarm)}
    _write(db, taken, values, release=True)


def list_slots(db: Database, name: str, limit: int | None = None, statuses: Sequence[str] = schema.SLOT_STATUSES) -> list[Slot]:
    """A schedule's slots of these statuses, the latest first; at most `limit`."""
    asked = select(schema.slot).where(_S.schedule == name, _S.status.in_(statuses)).order_by(_S.slot_utc.desc()).limit(limit)
    return [slot_of(row) for row in db.consult(lambda connection: connection.execute(asked).mappings().all())]


def count_slots(db: Database) -> dict[str, dict[str, int]]:
    """How many slots of each status each schedule has."""
    asked = select(_S.schedule, _S.status, func.count()).group_by(_S.schedule, _S.status)
    found: dict[str, dict[str, int]] = {}
    for name, status, count in db.consult(lambda connection: connection.execute(asked).all()):
        found.setdefault(name, {})[status] = count
    return found


# ------------------------------------------------------------------------------------------------------------ internals


def _candidates(db: Database, only: str) -> list[tuple[Schedule, Slot]]:
    """The earliest open slot of each active schedule that can be read, the earliest first."""
    first = select(_S.schedule, func.min(_S.slot_utc).label("slot_utc")).where(_S.status.in_(schema.OPEN_SLOTS))
    first_of = first.group_by(_S.schedule).subquery()
    here = (_S.schedule == first_of.c.schedule) & (_S.slot_utc == first_of.c.slot_utc)
    asked = select(schema.schedule, schema.slot).select_from(schema.slot).join(first_of, here).join(schema.schedule)
    asked = asked.where(_T.status == "active").order_by(_S.slot_utc, _S.schedule)
    asked = asked.set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    if only:
        asked = asked.where(_T.name == only)
    rows = db.consult(lambda connection: connection.execute(asked).mappings().all())
    found = []
    for row in rows:
        with suppress(Unreadable):
            found.append((schedule_of(_part(row, "schedule")), slot_of(_part(row, "slot"))))
    return found


def _part(row: Mapping[Any, Any], table: str) -> dict[str, Any]:
    return {column.name: row[f"{table}_{column.name}"] for column in schema.metadata.tables[table].columns}


def _begin(connection: Connection, schedule: Schedule, slot: Slot, lease: Lease, at: str) -> Taken | None:
    """Within a transaction that holds the lease: marks the slot as running, unless another has ended it meanwhile."""
    lease.fence(connection, 0)
    asked = select(schema.slot).where(_S.schedule == slot.schedule, _S.slot_utc == slot.slot_utc)
    row = connection.execute(asked).mappings().one_or_none()
    first = _earliest_open(connection, slot.schedule)
    if row is None or first is None or first.slot_utc != slot.slot_utc:
        _free(connection, lease)
        return None
    values = {"status": "running", "begun": at, "tries": row["tries"] + 1}
    connection.execute(update(schema.slot).where(_S.schedule == slot.schedule, _S.slot_utc == slot.slot_utc).values(values))
    return Taken(schedule, slot_of({**row, **values}), lease)


def _earliest_open(connection: Connection, name: str) -> Row[Any] | None:
    asked = select(_S.slot_utc).where(_S.schedule == name, _S.status.in_(schema.OPEN_SLOTS)).order_by(_S.slot_utc).limit(1)
    return connection.execute(asked).one_or_none()


def _write(db: Database, taken: Taken, values: Mapping[str, Any], release: bool = False, patience: float | None = None) -> None:
    """Changes the slot's row in a transaction of its lease's owner; with `release`, the lease ends in it."""
    lease, slot = taken.lease, taken.slot
    here = (_S.schedule == slot.schedule, _S.slot_utc == slot.slot_utc)

    def work(connection: Connection) -> None:
        if release and connection.scalar(select(_L.owner).where(_L.shard == lease.shard, _L.epoch == lease.epoch)) == "":
            known = connection.execute(select(schema.slot).where(*here)).mappings().one_or_none()
            if known is not None and all(known[name] == value for name, value in values.items()):
                return  # this transaction has been done, and its answer was lost
        lease.fence(connection, 0)
        if connection.execute(update(schema.slot).where(*here).values(values)).rowcount != 1:
            raise StoreError(f"slot {slot.name} is not there any more; its schedule was removed")
        if release:
            _free(connection, lease)

    db.transact(work) if patience is None else db.transact(work, patience=patience)


def _free(connection: Connection, lease: Lease) -> None:
    """The lease is nobody's. Its row stays, since others may be about to lock it."""
    connection.execute(update(schema.lease).where(_L.shard == lease.shard, _L.owner == lease.owner).values(owner=""))


def _row(slot: Slot) -> dict[str, Any]:
    return {column.name: getattr(slot, column.name) for column in schema.slot.columns}


def slot_of(row: Mapping[Any, Any]) -> Slot:
    """A row of the table as a Slot."""
    return Slot(**{column.name: row[column.name] for column in schema.slot.columns})


__all__ = [
    "GRACE",
    "MOST",
    "SLOT_TRIES",
    "Due",
    "Slot",
    "Taken",
    "add_slot",
    "close",
    "count_slots",
    "give_back",
    "list_slots",
    "planned",
    "record_due",
    "set_run",
    "slot_of",
    "take",
]
