"""Whole solutions as rows of their own, and views with plain names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.views import create

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("solutions", "right_solutions"):
        op.add_column("attempt", sa.Column(column, sa.Integer()))
    op.create_table(
        "solution",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("number", "steps", "tokens")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("finish", "state")),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("correct", sa.Boolean()),
        *(sa.Column(name, sa.Double()) for name in ("value", "logprob", "certainty")),
        sa.Column("digest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "path", name="pk_solution"),
        sa.ForeignKeyConstraint(
            ["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"], name="fk_solution_attempt_id"
        ),
        sqlite_with_rowid=False,
    )
    create(op.get_bind())
