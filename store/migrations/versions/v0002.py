"""The cost of memory that ran short and of tokens guessed ahead, in the attempt's ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ADDED = ("recomputed_tokens", "drafted_tokens", "accepted_tokens")


def upgrade() -> None:
    for name in ADDED:
        op.add_column("attempt", sa.Column(name, sa.BigInteger()))
    # there was none of it in the attempts that are closed; an open one has no ledger yet, so its NULL stays
    attempt = sa.table("attempt", sa.column("status"), *(sa.column(name, sa.BigInteger()) for name in ADDED))
    op.execute(attempt.update().where(attempt.c.status.in_(("done", "failed"))).values(dict.fromkeys(ADDED, 0)))
