"""How much of a run a worker takes on at a time: by the seconds that its problems take, not by their number.

The store keeps units of a few problems, each with a lease of its own; who works takes on as many units as fill a batch and keep
it busy for some time, and more of them while it works. So a unit never changes, whatever its size turns out to be, several
workers share a run without agreeing on anything, and a database whose units are larger is worked on as well.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from search.types import RunSpec

from . import schema
from .database import Database
from .leases import STALE, is_dead, standing

LOOKED = 200  # runs that are looked at for one of the same kind

_A, _R = schema.attempt.c, schema.run.c


@dataclass(frozen=True, slots=True)
class Share:
    """What one task is to have of a run."""

    seconds: float  # after which it takes on nothing more
    problems: int  # that it begins with
    known: float | None  # seconds a problem takes, as measured; None = not known yet


def share_of(db: Database, spec: RunSpec, seconds: float, batch: int, least: int) -> Share:
    """How many problems a task begins with: what fills its seconds at the measured pace, between `least` and `batch` (the most
    that are searched at once, and what is taken where nothing is measured), and no more than one worker's part of the rest."""
    known = pace(db, spec)
    wanted = batch if not known else min(batch, max(least, math.ceil(seconds / known)))
    part = math.ceil(_open(db, spec.id) / workers(db, spec.id))
    return Share(seconds, max(min(wanted, part), 1), known)


def pace(db: Database, spec: RunSpec) -> float | None:
    """Seconds a problem takes, as its ledger has them: its share of the time of generator, verifier, encoder and store.
    Measured in this run, or in the newest one of the same strategy, models, budget and limits. None where there is none."""
    seconds = sum((func.coalesce(_A[f"{what}_seconds"], 0.0) for what in ("generate", "verify", "embed", "store")), start=0.0)
    closed = _A.status.in_(schema.CLOSED), _A.generated_tokens.is_not(None)

    def measured(run_id: str) -> float | None:
        asked = select(func.avg(seconds)).where(_A.run_id == run_id, *closed)
        found = db.consult(lambda connection: connection.scalar(asked))
        return float(found) if found else None

    if (own := measured(spec.id)) is not None:  # but for its first task, a run tells of itself
        return own
    same = _kind(spec.json())
    asked = select(_R.id, _R.spec).where(_R.id != spec.id).order_by(_R.created.desc()).limit(LOOKED)
    rows = db.consult(lambda connection: connection.execute(asked).all())
    alike = next((row.id for row in rows if _kind(row.spec) == same), None)
    return None if alike is None else measured(alike)


def _kind(spec: str) -> str:
    """What must be equal for two runs to take the same time: all but the problems' number and the seed. '' = it is no spec."""
    try:
        raw = json.loads(spec)
        raw["problems"] = raw["problems"]["name"]
    except (ValueError, LookupError, TypeError):
        return ""
    return json.dumps({key: value for key, value in raw.items() if key not in ("seed", "slot")}, sort_keys=True)


def workers(db: Database, run_id: str) -> int:
    """Processes that are at a run now, or have just come: at least 1."""
    session = schema.session.c
    recent = (datetime.now(UTC) - timedelta(seconds=STALE)).isoformat(timespec="microseconds")
    asked = select(session.owner).where(session.run_id == run_id, session.started >= recent).distinct()
    came = {owner for owner in db.consult(lambda connection: connection.scalars(asked).all()) if not is_dead(owner)}
    _, held = standing(db, run_id, _shards(db, run_id))
    return max(len(came | {each.owner.rpartition("/")[0] for each in held}), 1)


def _shards(db: Database, run_id: str) -> list[int]:
    asked = select(_A.shard).where(_A.run_id == run_id, _A.status.not_in(schema.CLOSED)).distinct()
    return list(db.consult(lambda connection: connection.scalars(asked).all()))


def _open(db: Database, run_id: str) -> int:
    asked = select(func.count()).where(_A.run_id == run_id, _A.status.not_in(schema.CLOSED))
    return db.consult(lambda connection: connection.scalar(asked)) or 0


__all__ = ["Share", "pace", "share_of", "workers"]
