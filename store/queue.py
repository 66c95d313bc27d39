"""Runs that wait for workers, and runs that are called off: what their status says to every process of every machine.

A run that was submitted is queued: nobody has begun with it. Workers take what is queued and what runs; what a person has
interrupted, cancelled, or seen to its end, they leave alone. Cancelling keeps all that is stored: attempts that are not
finished stay open with their journals, and who resumes the run goes on from there.
"""

from __future__ import annotations

from sqlalchemy import select, update

from . import schema
from .database import AWAY_SECONDS, Database
from .errors import Cancelled, StoreError
from .leases import is_dead
from .runs import Run, now, open_shards, readable

WANTED = ("queued", "running")  # what workers take
RESTING = ("queued", "interrupted", "cancelled", "failed")  # what is set running by who begins with it


def enqueue(db: Database, run_id: str) -> bool:
    """Gives a run to the workers; whether there is anything left to do. One that is at work somewhere stays as it is."""
    if not open_shards(db, run_id):
        return False
    table = schema.run
    queued = update(table).where(table.c.id == run_id).values(status="queued", ended=None)
    if not owners(db, run_id):
        db.transact(lambda connection: connection.execute(queued))
    return True


def begin(db: Database, run_id: str, of: tuple[str, ...] = RESTING) -> None:
    """Sets a run that rests, and has something left to do, to running."""
    if not open_shards(db, run_id):
        return
    table = schema.run
    begun = update(table).where(table.c.id == run_id, table.c.status.in_(of)).values(status="running", ended=None)
    db.transact(lambda connection: connection.execute(begun))


def cancel(db: Database, run_id: str) -> bool:
    """Calls a run off: its workers end within seconds. Whether it was not called off before. Raises StoreError for a run that
    has nothing left to do."""
    table = schema.run
    if not open_shards(db, run_id):
        raise StoreError(f"run '{run_id}' is done; there is nothing to cancel")
    off = update(table).where(table.c.id == run_id, table.c.status != "cancelled")
    ended = off.values(status="cancelled", ended=now())
    return bool(db.transact(lambda connection: connection.execute(ended).rowcount))


def is_cancelled(db: Database, run_id: str, patience: float = AWAY_SECONDS) -> bool:
    """Whether a run is called off, as it is now."""
    status = select(schema.run.c.status).where(schema.run.c.id == run_id)
    found = db.transact(lambda connection: connection.scalar(status), reading=True, patience=patience)
    return bool(found == "cancelled")


def refuse_cancelled(db: Database, run_id: str) -> None:
    """Raises Cancelled for a run that is called off."""
    if is_cancelled(db, run_id):
        raise called_off(run_id)


def called_off(run_id: str) -> Cancelled:
    return Cancelled(f"run {run_id} was cancelled; what it has is kept, and `ponderosa resume {run_id}` goes on with it")


def owners(db: Database, run_id: str) -> list[str]:
    """Who has a shard of a run now, those that are known to be dead left out."""
    lease = schema.lease.c
    held = select(lease.owner).where(lease.shard.startswith(f"{run_id}/", autoescape=True), lease.owner != "")
    return [each for each in db.consult(lambda connection: connection.scalars(held).all()) if not is_dead(each)]


def wanted(db: Database) -> list[Run]:
    """The runs that workers are to take, the oldest first."""
    run, attempt = schema.run, schema.attempt.c
    left = select(attempt.id).where(attempt.run_id == run.c.id, attempt.status.not_in(schema.CLOSED)).exists()
    asked = select(run).where(run.c.status.in_(WANTED), left).order_by(run.c.created, run.c.id)
    return readable(db.consult(lambda connection: connection.execute(asked).all()))


__all__ = [
    "begin",
    "called_off",
    "cancel",
    "enqueue",
    "is_cancelled",
    "owners",
    "refuse_cancelled",
    "wanted",
]
