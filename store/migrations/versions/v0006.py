"""Schedules and their slots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text()),
        sa.Column("every", sa.Integer()),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("anchor", "zone", "spec", "seeds", "catch_up", "overlap")),
        sa.Column("bar", sa.Double()),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("bar_by", "hook", "status", "created", "since")),
        sa.PrimaryKeyConstraint("name", name="pk_schedule"),
    )
    op.create_table(
        "slot",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("schedule", "slot_utc", "status", "reason")),
        sa.Column("run_id", sa.Text()),
        sa.Column("noticed", sa.Text(), nullable=False),
        sa.Column("begun", sa.Text()),
        sa.Column("ended", sa.Text()),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("alarm", sa.Text()),
        sa.PrimaryKeyConstraint("schedule", "slot_utc", name="pk_slot"),
        sa.ForeignKeyConstraint(["schedule"], ["schedule.name"], name="fk_slot_schedule"),
    )
    op.create_index("ix_slot_run_id", "slot", ["run_id"])
