"""Tokens that were shared and not generated again; verdicts and scores given later, and who gave them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("shared_tokens", sa.BigInteger()))
    op.add_column("attempt", sa.Column("shared_seconds", sa.Double()))
    # in the ledger of an attempt that is closed nothing is unknown
    op.execute("UPDATE attempt SET shared_tokens = 0, shared_seconds = 0 WHERE status IN ('done', 'failed')")
    op.create_table(
        "verdict",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("grader", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("correct", sa.Boolean()),
        sa.PrimaryKeyConstraint("attempt_id", "path", "grader", name="pk_verdict"),
        sa.ForeignKeyConstraint(
            ["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"], name="fk_verdict_attempt_id"
        ),
    )
    op.create_table(
        "rescore",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "kind", "name", name="pk_rescore"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_rescore_run_id"),
    )
