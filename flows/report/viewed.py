"""`ponderosa view`: the page of some runs from the database as it is now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from sqlalchemy import func, select

from flows.asking import EVERY, runs_of
from flows.report.assemble import document, tree_of
from flows.report.live import serve
from store import schema
from store.database import Database

_A, _R = schema.attempt.c, schema.run.c


def run(opened: Database, wanted: Sequence[str], port: int, started: Callable[[str], None]) -> None:
    """Serves until it is interrupted. Of "all", the runs that there are when the page is made."""
    ids = [run.id for run in runs_of(opened, wanted)]  # a run that is not there is said before anything is served
    words = list(wanted) if EVERY in wanted else ids
    serve(
        lambda: document(opened, runs_of(opened, words), f"ponderosa view {' '.join(words)}", trees=False),
        lambda attempt: tree_of(opened, attempt),
        lambda: version(opened, [run.id for run in runs_of(opened, words)]),
        port,
        started,
    )


def version(opened: Database, ids: Sequence[str]) -> str:
    """Changes with what is closed, graded, scored later, or ended."""
    counts = select(_A.run_id, _A.status, func.count(), func.count(_A.verdict), func.count(_A.solutions), func.max(_A.id))
    asked = counts.where(_A.run_id.in_(ids)).group_by(_A.run_id, _A.status).order_by(_A.run_id, _A.status)
    statuses = select(_R.id, _R.status, _R.ended).where(_R.id.in_(ids)).order_by(_R.id)
    with opened.read() as connection:
        rows = [tuple(row) for row in (*connection.execute(asked), *connection.execute(statuses))]
    return hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest()


__all__ = ["run", "version"]
