"""Questions to a database, answered as plain rows. Nothing here writes, and nothing generates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from search.types import Path, Score, State, order

from . import schema
from .database import Database
from .errors import StoreError, one_of
from .pools import entries, pools, score_of
from .rows import AttemptRow, CandidateRow, Summary
from .stats import wilson
from .values import plain_text

_A, _C, _S, _P = schema.attempt.c, schema.candidate.c, schema.score.c, schema.problem.c


_BATCH = 256  # attempts read at a time

_MEANS = (
    "generated_tokens",
    "sequential_tokens",
    "verifier_passes",
    "prompt_tokens",
    "cached_tokens",
    "recomputed_tokens",
    "drafted_tokens",
    "accepted_tokens",
    "pruned_tokens",
    "cancelled_tokens",
    "verifier_tokens",
    "embedding_tokens",
    "flops",
    "candidates",
)
_SUMS = (
    "queue_seconds",
    "generate_seconds",
    "shared_tokens",
    "shared_seconds",
    "verify_seconds",
    "embed_seconds",
    "store_seconds",
    "wasted_tokens",
    "invalid_scores",
)


def summary(db: Database, run_id: str) -> Summary:
    """One run in numbers. Raises StoreError for a run that is not there."""
    asked = select(
        func.count().label("problems"),
        *(_count(_A.status == status).label(status) for status in schema.CLOSED),
        _count(_A.verdict.is_not(None)).label("graded"),
        _count(_A.correct.is_(True)).label("correct"),
        *(func.avg(case((_A.status.in_(schema.CLOSED), _A[name]))).label(name) for name in _MEANS),
        *(func.coalesce(func.sum(_A[name]), 0.0).label(name) for name in _SUMS),
        func.coalesce(func.sum(_A.seconds), 0.0).label("search_seconds"),
    ).where(_A.run_id == run_id)
    found = dict(db.consult(lambda connection: connection.execute(asked).mappings().one()))
    n, correct = found["problems"], found["correct"]
    if not n:
        raise StoreError(f"there is no run '{run_id}'; find_run gives the nearest ids")
    closed = found["done"] + found["failed"]
    counted = closed if found["graded"] else 0  # where nothing was graded, that is no accuracy of 0
    low, high = wilson(correct, counted)
    # PostgreSQL's avg of whole numbers is a Decimal
    means = {name: None if found[name] is None else float(found[name]) for name in _MEANS}
    accuracy = correct / counted if counted else None
    return Summary(**{**found, **means}, run_id=run_id, pending=n - closed, accuracy=accuracy, low=low, high=high)


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def attempts(db: Database, run_id: str) -> list[AttemptRow]:
    """The run's attempts in the order of its problems."""
    names = [name for name in AttemptRow.__dataclass_fields__ if name != "problem"]
    asked = (
        select(_P.id.label("problem"), *(_A[name] for name in names))
        .join_from(schema.attempt, schema.problem)
        .where(_A.run_id == run_id)
        .order_by(_A.position, _A.id)
    )
    return [AttemptRow(**row) for row in db.consult(lambda connection: connection.execute(asked).mappings().all())]


def costs(db: Database, run_id: str, names: Sequence[str]) -> list[list[float]]:
    """The named entries of the attempts' ledgers, in the order of the run's problems; 0 where an attempt is not closed."""
    asked = select(*(_A[name] for name in names)).where(_A.run_id == run_id).order_by(_A.position, _A.id)
    return [[float(value or 0) for value in row] for row in db.consult(lambda connection: connection.execute(asked).all())]


def candidates(
    db: Database, run_id: str, problem: str | None = None, limit: int | None = 100, state: str | None = None
) -> list[CandidateRow]:
    """The run's candidates in the order of its problems and of their making; by problem id and state where given.

    `limit=None` gives all of them.
    """
    if limit is not None and limit < 1:
        raise StoreError(f"limit must be at least 1, not {limit}")
    if state is not None:
        one_of("state", state, [s.value for s in State])
    mine = select(_A.id).join_from(schema.attempt, schema.problem).where(_A.run_id == run_id).order_by(_A.position, _A.id)
    rows: list[CandidateRow] = []
    with db.read() as connection:
        ids = connection.scalars(mine if problem is None else mine.where(_P.id == problem)).all()
        for begin in range(0, len(ids), _BATCH):  # so that a page of a large run takes no sorting of all its candidates
            batch = ids[begin : begin + _BATCH]
            asked = _candidates().where(_C.attempt_id.in_(batch)).order_by(_A.position, _A.id, _C.number, _C.path)
            asked = asked.limit(None if limit is None else limit - len(rows))
            rows += _with_scores(connection, asked if state is None else asked.where(_C.state == state))
            if limit is not None and len(rows) >= limit:
                break
    return rows


def tree(db: Database, attempt_id: int) -> list[CandidateRow]:
    """All candidates of one attempt with their scores, parents before children, 2 before 10."""
    with db.read() as connection:
        rows = _with_scores(connection, _candidates().where(_C.attempt_id == attempt_id))
    return sorted(rows, key=lambda row: order(row.path))


def verifiers(db: Database, run_id: str, closed: bool = False) -> list[str]:
    """Who has scored a run's candidates, by name; `closed`: those of attempts that are finished."""
    asked = select(_S.verifier).join_from(schema.score, schema.attempt, _S.attempt_id == _A.id).where(_A.run_id == run_id)
    if closed:
        asked = asked.where(_A.status.in_(schema.CLOSED))
    return list(db.consult(lambda connection: connection.scalars(asked.distinct().order_by(_S.verifier)).all()))


# ------------------------------------------------------------------------------------------------------------ internals

_OWN = [name for name in CandidateRow.__dataclass_fields__ if name not in ("problem", "scores", "text")]


def _candidates() -> Select[Any]:
    return (
        select(*(_C[name] for name in _OWN), _C.text, _C.text_zlib, _P.id.label("problem"))
        .join_from(schema.candidate, schema.attempt)
        .join(schema.problem)
    )


def _with_scores(connection: Connection, asked: Select[Any]) -> list[CandidateRow]:
    found = connection.execute(asked).mappings().all()
    chosen = asked.with_only_columns(_C.attempt_id, _C.path).subquery()
    scored = select(schema.score).join(chosen, (_S.attempt_id == chosen.c.attempt_id) & (_S.path == chosen.c.path))
    scores: defaultdict[tuple[int, Path], list[Score]] = defaultdict(list)
    for row in connection.execute(scored.order_by(_S.verifier)):
        scores[row.attempt_id, row.path].append(score_of(row))
    return [
        CandidateRow(
            **{name: row[name] for name in (*_OWN, "problem")},
            text=plain_text(row["text"], row["text_zlib"]),
            scores=tuple(scores[row["attempt_id"], row["path"]]),
        )
        for row in found
    ]


__all__ = [
    "AttemptRow",
    "CandidateRow",
    "Summary",
    "attempts",
    "candidates",
    "costs",
    "entries",
    "pools",
    "summary",
    "tree",
    "verifiers",
]


def __getattr__(name: str) -> Any:
    """A named question as a function: `queries.lost(db, runs)` gives a data frame. They are imported when they are asked."""
    from .questions import QUESTIONS

    if (question := QUESTIONS.get(name.replace("_", "-"))) is not None:
        return question.frame
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
