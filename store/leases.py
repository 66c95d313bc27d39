"""Who works on a shard: an owner, an epoch that rises with each, and a heartbeat by the database's clock.

A worker claims a shard, may take on more of the run's while it works, renews their leases while it is alive and going on, and
gives them back. A lease without a heartbeat for STALE seconds, or one whose process is known to be dead, may be taken over; the
epoch then rises, and every transaction of the old owner is refused, whenever it wakes up. So two workers may at worst generate
the same twice, and never write it twice.

A worker that died or hung before it wrote anything is held against the attempts it was at: that is how a problem that
kills its worker comes to an end, after TRIES, without the others.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Dialect, Double, literal_column, select, tuple_, update

from . import schema
from .costs import summed
from .database import Database, insert_new
from .errors import LeaseLost, StoreError

STALE = 60.0  # seconds without a heartbeat after which a shard may be taken over
BEAT = 10.0  # seconds between heartbeats
HASTE = 5.0  # seconds that a heartbeat or a release waits for a database that is away
HANG = 600.0  # seconds without a turn of the work after which a worker hangs, and its heart stops

_L = schema.lease.c


@dataclass(frozen=True, slots=True)
class Held:
    """Another process has the shard."""

    shard: str
    owner: str
    age: float  # seconds since its last heartbeat


@dataclass(slots=True)
class Lease:
    """This process has the shard, and `more` of the same run, until `lost`."""

    database: Database
    shard: str
    owner: str
    epoch: int
    lost: bool = False
    more: Mapping[str, int] = field(default_factory=dict)  # further shards and their epochs; replaced, never changed
    _touched: float = field(default_factory=time.monotonic)

    def fence(self, connection: Connection, progress: int) -> None:
        """Makes the transaction one of this owner: renews the heartbeat, counts what it writes. Raises LeaseLost where another
        has taken over; nothing of the transaction is written then."""
        _bounded(connection)
        own = self._own()
        values = {"heartbeat": _now(connection), "progress": _L.progress + progress}
        if connection.execute(update(schema.lease).where(*self._rows(own)).values(values)).rowcount != len(own):
            self.lost = True
            raise LeaseLost(f"shard {self.shard} was taken over by another process; this one stops, and nothing is lost")

    def _own(self) -> list[tuple[str, int]]:
        return [(self.shard, self.epoch), *self.more.items()]

    def _rows(self, own: Sequence[tuple[str, int]]) -> tuple[ColumnElement[bool], ...]:
        if len(own) == 1:
            return _L.shard == self.shard, _L.epoch == self.epoch, _L.owner == self.owner
        return tuple_(_L.shard, _L.epoch).in_(own), _L.owner == self.owner

    def extend(self, shards: Sequence[int], most: int, stale: float = STALE) -> list[int]:
        """Takes on further shards of the same run, `most` at most and in the order given, in one transaction; those it got."""
        run_id = self.shard.rpartition("/")[0]

        def work(connection: Connection) -> dict[int, Lease]:
            got: dict[int, Lease] = {}
            for shard in shards:
                if len(got) < most and f"{run_id}/{shard}" not in dict(self._own()):
                    found = _claimed(connection, self.database, run_id, shard, self.owner, stale)
                    if isinstance(found, Lease):
                        got[shard] = found
            return got

        got = self.database.transact(work) if most > 0 and shards else {}
        self.more = {**self.more, **{lease.shard: lease.epoch for lease in got.values()}}
        return list(got)

    def touch(self) -> None:
        """Says that the work goes on. Raises LeaseLost where the heartbeat has found that the shard is another's."""
        self._touched = time.monotonic()
        if self.lost:
            raise LeaseLost(f"shard {self.shard} was taken over by another process; this one stops, and nothing is lost")

    @contextmanager
    def kept(self, beat: float = BEAT, hang: float = HANG) -> Iterator[None]:
        """Renews the lease from a thread while the block runs and touches it, and gives it back at its end."""
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(beat) and not self.lost:
                if time.monotonic() - self._touched < hang:
                    try:
                        # no longer than until the next beat: who ends the block waits for this
                        self.database.transact(lambda connection: self.fence(connection, 0), patience=HASTE)
                    except LeaseLost:
                        return
                    except StoreError:
                        continue  # the database is away: the work itself will say so

        thread = threading.Thread(target=renew, name=f"heartbeat {self.shard}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if not self.lost or self.more:  # of several, some may still be this one's
                with suppress(StoreError):  # the database is away: the shard is free when the heartbeat is old, or at once
                    self.release()  # where this process is known to be dead

    def release(self) -> None:
        """Gives back what it has; another may have it at once."""
        given = update(schema.lease).where(*self._rows(self._own()))
        self.database.transact(lambda connection: connection.execute(given.values(owner="")), patience=HASTE)


def claim(database: Database, run_id: str, shard: int, owner: str = "", stale: float = STALE) -> Lease | Held:
    """The shard, if nobody has it or its owner is gone; else who has it. Idempotent for one owner."""
    owner = owner or f"{this_process()}/{uuid.uuid4().hex[:8]}"  # no two claims are one's
    return database.transact(lambda connection: _claimed(connection, database, run_id, shard, owner, stale))


def standing(database: Database, run_id: str, shards: Sequence[int], stale: float = STALE) -> tuple[list[int], list[Held]]:
    """Of the shards, in their order, those that may be had (nobody's, or of an owner who is gone), and those that others have.
    It takes no lock: a claim may find otherwise."""

    def work(connection: Connection) -> dict[str, tuple[str, float]]:
        asked = select(_L.shard, _L.owner, (_now(connection) - _L.heartbeat).label("age"))
        mine = _L.shard.startswith(f"{run_id}/", autoescape=True)
        return {row.shard: (row.owner, max(row.age, 0.0)) for row in connection.execute(asked.where(mine, _L.owner != ""))}

    had = database.consult(work)
    held = [Held(key, *had[key]) for key in (f"{run_id}/{shard}" for shard in shards) if key in had]
    held = [each for each in held if each.age < stale and not is_dead(each.owner)]
    taken = {each.shard for each in held}
    return [shard for shard in shards if f"{run_id}/{shard}" not in taken], held


def _claimed(connection: Connection, database: Database, run_id: str, shard: int, owner: str, stale: float) -> Lease | Held:
    """Within a transaction."""
    key = f"{run_id}/{shard}"
    _bounded(connection)
    insert_new(connection, schema.lease, [{"shard": key, "owner": "", "epoch": 0, "heartbeat": 0.0, "progress": 0}])
    now = _now(connection)
    # the row is locked from here on: who else claims it waits, and then sees our epoch
    found = connection.execute(select(schema.lease, now.label("now")).where(_L.shard == key).with_for_update()).one()
    if found.owner == owner:
        return Lease(database, key, owner, found.epoch)
    age = max(found.now - found.heartbeat, 0.0)
    if found.owner:
        if age < stale and not is_dead(found.owner):
            return Held(key, found.owner, age)
        _charge(connection, run_id, shard, found.owner, progress=found.progress)
    running = update(schema.attempt).where(*_of(run_id, shard), schema.attempt.c.status == "running")
    connection.execute(running.values(status="pending"))
    taken = {"owner": owner, "epoch": found.epoch + 1, "heartbeat": now, "progress": 0}
    connection.execute(update(schema.lease).where(_L.shard == key).values(taken))
    return Lease(database, key, owner, found.epoch + 1)


def _bounded(connection: Connection) -> None:
    """A worker that is paused in the middle of a transaction must not keep the lease's row for longer."""
    version = connection.dialect.server_version_info if connection.dialect.name == "postgresql" else None
    if version is not None and version >= (17,):
        connection.exec_driver_sql("SET LOCAL transaction_timeout = '30s'")


def _of(run_id: str, shard: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return schema.attempt.c.run_id == run_id, schema.attempt.c.shard == shard


def _charge(connection: Connection, run_id: str, shard: int, owner: str, progress: int) -> None:
    """Counts a try of what a lost worker was at, unless it had written something since it began: then it is not known to be
    the problem's fault, and the next worker is further in any case."""
    if progress:
        return
    attempt = schema.attempt
    said = f"its worker died or hung ({readable(owner)})"
    tried = update(attempt).where(*_of(run_id, shard), attempt.c.status == "running")
    connection.execute(tried.values(tries=attempt.c.tries + 1, error=said))
    out = (*_of(run_id, shard), attempt.c.status == "running", attempt.c.tries >= schema.TRIES)
    ids = connection.scalars(select(attempt.c.id).where(*out)).all()
    for attempt_id, usage, replies in summed(connection, attempt.c.id.in_(ids)):
        result = {"reason": "the search failed", "votes": "[]", "verdict": "none", "correct": False}
        closed = {"status": "failed", "replies": replies, **result, **usage.asdict()}
        connection.execute(update(attempt).where(attempt.c.id == attempt_id).values(closed))


def _now(connection: Connection) -> ColumnElement[float]:
    return server_clock(connection.dialect)


def server_clock(dialect: Dialect) -> ColumnElement[float]:
    """The database's clock, seconds since 1970."""
    if dialect.name == "postgresql":
        return literal_column("extract(epoch from clock_timestamp())::double precision", Double)
    return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)


# ------------------------------------------------------------------------------------------------------------ processes


def this_process() -> str:
    """A name for this process that no other has: host, boot, process id and its start."""
    return f"{socket.gethostname()}/{_boot()}/{os.getpid()}/{_start(os.getpid()) or _token()}"


def readable(owner: str) -> str:
    """An owner for people."""
    host, _, pid = (*owner.split("/"), "", "")[:3]
    return f"process {pid} on {host}" if pid.isdigit() else owner


def is_dead(owner: str) -> bool:
    """Whether a process is known to be gone: one of this host that has ended, or that ran before its last start."""
    host, boot, pid, start = (*owner.split("/"), "", "", "", "")[:4]
    if host != socket.gethostname() or not boot or not pid.isdigit():
        return False
    return boot != _boot() or _start(int(pid)) != start


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""  # no Linux: only the heartbeat tells


@cache
def _token() -> str:
    return uuid.uuid4().hex[:8]


def _start(pid: int) -> str:
    """When a process began, in ticks since the host's start; '' for one that is not there or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


__all__ = ["BEAT", "HANG", "STALE", "Held", "Lease", "claim", "is_dead", "readable", "server_clock", "standing", "this_process"]
