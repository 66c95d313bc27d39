"""A journal that can be replayed, leases, sessions, embeddings; tokens and statistics packed.

What was stored as float32 is rounded as search.packing has it. The journal of attempts that are still open lacks what a
replay is checked by (`asked` is NULL), so they are run again from their start.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

from search.packing import packed
from search.types import Finish, Step
from store.values import dumps, stored_text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SHARD = 64


def upgrade() -> None:
    _attempt_columns()
    for name in ("candidate", "score", "reply"):
        _set_aside(name)
    op.drop_table("lease")
    _candidate_and_score()
    _reply()
    _new_tables()
    connection = op.get_bind()
    for attempt_id in connection.scalars(sa.text("SELECT id FROM attempt ORDER BY id")).all():
        _convert(connection, attempt_id)
    _fill_attempts(connection)
    for name in ("score", "reply", "candidate"):
        op.drop_table(f"{name}_0002")


def _attempt_columns() -> None:
    op.add_column("run", sa.Column("problems", sa.Integer()))
    op.add_column("attempt", sa.Column("shard", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("attempt", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("attempt", sa.Column("replies", sa.Integer()))
    op.add_column("attempt", sa.Column("prompt_ids", sa.LargeBinary()))
    op.add_column("attempt", sa.Column("wasted_tokens", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("attempt", sa.Column("pruned_tokens", sa.BigInteger()))
    op.add_column("attempt", sa.Column("invalid_scores", sa.BigInteger()))
    op.add_column("attempt", sa.Column("embedding_tokens", sa.BigInteger()))
    op.add_column("attempt", sa.Column("embed_seconds", sa.Double()))


def _set_aside(name: str) -> None:
    """The old table under another name; PostgreSQL's keys keep their names unless they are told."""
    op.rename_table(name, f"{name}_0002")
    if op.get_bind().dialect.name == "postgresql":
        keys = [f"pk_{name}", *(["uq_reply_attempt_id"] if name == "reply" else [])]
        for key in keys:
            op.execute(f"ALTER TABLE {name}_0002 RENAME CONSTRAINT {key} TO {key}_0002")


def _candidate_and_score() -> None:
    op.create_table(
        "candidate",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("reply", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("extra", sa.LargeBinary(), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("text_zlib", sa.LargeBinary()),
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
    op.create_table(
        "score",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("join_rule", sa.Text(), nullable=False),
        sa.Column("reply", sa.Integer()),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "path", "verifier", name="pk_score"),
        sa.ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"], name="fk_score_attempt_id"),
    )


def _reply() -> None:
    op.create_table(
        "reply",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text()),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("cost", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "number", name="pk_reply"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name="fk_reply_attempt_id"),
    )


def _new_tables() -> None:
    op.create_table(
        "embedding",
        sa.Column("attempt_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "path", "encoder", name="pk_embedding"),
        sa.ForeignKeyConstraint(
            ["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"], name="fk_embedding_attempt_id"
        ),
    )
    op.create_table(
        "lease",
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("heartbeat", sa.Double(), nullable=False),
        sa.Column("progress", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_lease"),
    )
    op.create_table(
        "session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("started", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_session_run_id"),
    )
    op.create_index("ix_session_run_id", "session", ["run_id"])


# ----------------------------------------------------------------------------------------------------------------- data


def _old(connection: Connection, table: str, attempt_id: int, order: str) -> list[dict[str, Any]]:
    asked = sa.text(f"SELECT * FROM {table}_0002 WHERE attempt_id = :attempt ORDER BY {order}")
    return [dict(row) for row in connection.execute(asked, {"attempt": attempt_id}).mappings()]


def _insert(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), rows)


def _convert(connection: Connection, attempt_id: int) -> None:
    made: dict[str, int] = {}  # path -> the reply that minted it
    judged: dict[str, tuple[int, int]] = {}  # path -> the reply that scored it, and in which order
    replies = []
    for row in _old(connection, "reply", attempt_id, "number"):
        paths, cost = json.loads(row["paths"]), json.loads(row["cost"])
        if row["kind"] == "extend":
            made |= dict.fromkeys(paths, row["number"])
        else:
            judged |= {path: (row["number"], len(judged) + i) for i, path in enumerate(paths)}
        summed = {name: sum(v or 0 for v in value) if isinstance(value, list) else value for name, value in cost.items()}
        kept = dumps({name: value for name, value in summed.items() if value})
        replies.append(
            {
                "attempt_id": attempt_id,
                "number": row["number"],
                "kind": row["kind"],
                "asked": None,
                "count": len(paths),
                "cost": kept,
            }
        )
    _insert(connection, "reply", replies)
    candidates = [_candidate(row, made.get(row["path"], 0)) for row in _old(connection, "candidate", attempt_id, "number")]
    compress = connection.dialect.name == "sqlite"
    for row in candidates:
        row |= stored_text(row["text"], compress)._asdict() | {k: row[k] for k in ("text_lossy", "text_truncated")}
    _insert(connection, "candidate", candidates)
    scores = _old(connection, "score", attempt_id, "path")
    for i, row in enumerate(scores):  # those that no reply gave come last
        given = judged.get(row["path"])
        row["reply"], row["number"] = given if given else (None, len(judged) + i)
    _insert(connection, "score", scores)


def _candidate(row: dict[str, Any], reply: int) -> dict[str, Any]:
    tokens = np.frombuffer(row["token_ids"], dtype="<i4").astype(np.int32)
    stats = (
        np.frombuffer(row["stats"], dtype="<f4").astype(np.float32).reshape(-1, len(tokens))
        if len(tokens)
        else np.zeros((3, 0), "f4")
    )
    step = Step(tokens, "", stats[0], stats[1], stats[2], Finish(row["finish"]), None, stats[3] if len(stats) > 3 else None)
    blob = packed(step)
    kept = {name: value for name, value in row.items() if name not in ("token_ids", "stats")}
    return {**kept, "reply": reply, "packed": blob.tokens, "extra": blob.extra, "text_zlib": None}


def _fill_attempts(connection: Connection) -> None:
    connection.execute(sa.text(f"UPDATE attempt SET shard = position / {SHARD}"))
    closed = "status IN ('done', 'failed')"
    pruned = (
        "SELECT coalesce(sum(c.tokens), 0) FROM candidate c WHERE c.attempt_id = attempt.id AND c.state IN ('pruned', 'merged')"
    )
    replies = "SELECT count(*) FROM reply r WHERE r.attempt_id = attempt.id"
    invalid = "SELECT count(*) FROM score s WHERE s.attempt_id = attempt.id AND s.value IS NULL AND s.reply IS NOT NULL"
    connection.execute(
        sa.text(
            f"UPDATE attempt SET embedding_tokens = 0, embed_seconds = 0, pruned_tokens = ({pruned}), replies = ({replies}), "
            f"invalid_scores = ({invalid}) WHERE {closed}"
        )
    )
    # an attempt that was interrupted is nobody's now
    connection.execute(sa.text("UPDATE attempt SET status = 'pending' WHERE status = 'running'"))
