"""The first schema: run, problem, attempt, candidate, score, reply, lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _run_and_problem()
    _attempt()
    _candidate()
    _score()
    _reply_and_lease()


def _run_and_problem() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text()),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_table(
        "problem",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_problem"),
    )


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("problem_key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("path", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("votes", sa.Text()),
        sa.Column("verdict", sa.Text()),
        sa.Column("correct", sa.Boolean()),
        sa.Column("grader", sa.Text()),
        sa.Column("seconds", sa.Double()),
        sa.Column("generated_tokens", sa.BigInteger()),
        sa.Column("cancelled_tokens", sa.BigInteger()),
        sa.Column("sequential_tokens", sa.BigInteger()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("candidates", sa.BigInteger()),
        sa.Column("verifier_passes", sa.BigInteger()),
        sa.Column("verifier_tokens", sa.BigInteger()),
        sa.Column("flops", sa.Double()),
        sa.Column("queue_seconds", sa.Double()),
        sa.Column("generate_seconds", sa.Double()),
        sa.Column("verify_seconds", sa.Double()),
        sa.Column("store_seconds", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_attempt_run_id"),
        sa.ForeignKeyConstraint(["problem_key"], ["problem.key"], name="fk_attempt_problem_key"),
        sa.UniqueConstraint("run_id", "problem_key", "seed", name="uq_attempt_run_id"),
    )
    op.create_index("ix_attempt_problem_key", "attempt", ["problem_key"])


def _candidate() -> None:
    op.create_table(
        "candidate",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("token_ids", sa.LargeBinary(), nullable=False),
        sa.Column("stats", sa.LargeBinary(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_lossy", sa.Boolean(), nullable=False),
        sa.Column("text_truncated", sa.Boolean(), nullable=False),
        sa.Column("finish", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("answer_reason", sa.Text(), nullable=False),
        sa.Column("logprob", sa.Double()),
        sa.Column("certainty", sa.Double()),
        sa.PrimaryKeyConstraint("attempt_id", "path", name="pk_candidate"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name="fk_candidate_attempt_id"),
    )


def _score() -> None:
    op.create_table(
        "score",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("join_rule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "path", "verifier", name="pk_score"),
        sa.ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"], name="fk_score_attempt_id"),
    )


def _reply_and_lease() -> None:
    op.create_table(
        "reply",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("cost", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "number", name="pk_reply"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name="fk_reply_attempt_id"),
        sa.UniqueConstraint("attempt_id", "kind", "path", name="uq_reply_attempt_id"),
    )
    op.create_table(
        "lease",
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("heartbeat", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_lease"),
    )
