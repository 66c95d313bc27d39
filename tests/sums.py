"""What tests hold the ledger against: the sum over the rows, in SQL and nothing else."""

from __future__ import annotations

from sqlalchemy import func, select

from store import schema
from store.database import Database

_A, _C = schema.attempt.c, schema.candidate.c


def tokens_match(db: Database, run_id: str) -> list[tuple[int, int, int]]:
    """The closed attempts whose ledger is not the sum over their candidates, with both; none, if nothing was lost."""
    rows = func.coalesce(func.sum(_C.tokens), 0)
    asked = (
        select(_A.id, _A.generated_tokens, rows)
        .outerjoin_from(schema.attempt, schema.candidate)
        .where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
        .group_by(_A.id, _A.generated_tokens)
        .having(rows != _A.generated_tokens)
        .order_by(_A.id)
    )
    with db.read() as connection:
        return [(attempt_id, ledger, int(total)) for attempt_id, ledger, total in connection.execute(asked)]
