"""Candidates that answer a question of the strategy's own, and tokens of a generator's smaller sibling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("candidate", sa.Column("prompt", sa.Text()))
    op.add_column("attempt", sa.Column("small_tokens", sa.BigInteger()))
    # in the ledger of an attempt that is closed nothing is unknown
    op.execute("UPDATE attempt SET small_tokens = 0 WHERE status IN ('done', 'failed')")
