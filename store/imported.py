"""Candidates that were written elsewhere, stored as a run that is done.

The rows are those of a search, so that every query and every selector reads them. What a file does not say is NULL; where
a column must have a value, it is one that no search writes: `tokens` is 0 beside a text where there is no count, `packed` is
empty beside a count where there are no ids, and the statistics of ids are NaN. A reply's row says how many candidates (or
scores of one verifier) came with the problem, so that an audit sees what is lost; its `asked` is NULL, for nobody asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select, update

from search.packing import packed
from search.types import Answer, Finish, Join, Path, Problem, RunSpec, Score, State, Step, depth_of, parent_of

from . import schema
from .database import Database, insert_new
from .runs import SHARD, problem_key
from .values import clean, clean_or_none, dumps, finite, stored_text

IMPORTED = "imported"  # the strategy of a run that was not searched for
_NOTHING_MORE = b"\x00"  # candidate.extra: no further statistics
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImportedCandidate:
    """One candidate. None = not known."""

    path: Path
    text: str
    finish: Finish
    state: State
    cause: str
    answer: Answer
    tokens: int | None = None
    ids: tuple[int, ...] | None = None
    logprob: float | None = None
    certainty: float | None = None
    scores: tuple[tuple[Score, Join], ...] = ()


@dataclass(frozen=True, slots=True)
class ImportedAttempt:
    """A problem with its candidates, parents first."""

    problem: Problem
    position: int
    candidates: Sequence[ImportedCandidate]
    chosen: Path | None = None  # by whom it was written
    generated: int | None = None  # tokens; None = not known


def is_imported(spec: RunSpec) -> bool:
    """Whether a run's candidates were written elsewhere: it has no journal, and nothing to resume."""
    return spec.strategy.name == IMPORTED


def begin(db: Database, spec: RunSpec, environment: Mapping[str, Any], name: str) -> tuple[bool, int]:
    """Stores the run, or finds it: whether it is done, and how many of its problems are there."""
    row = {
        "id": spec.id,
        "name": clean(name),
        "spec": spec.json(),
        "status": "running",
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "ended": None,
        "environment": dumps(dict(environment)),
        "problems": None,  # known when all are there
    }

    def work(connection: Connection) -> tuple[bool, int]:
        insert_new(connection, schema.run, [row])
        status = connection.scalar(select(schema.run.c.status).where(schema.run.c.id == spec.id))
        return status == "done", _count(connection, spec.id)

    return db.transact(work)


def write(db: Database, run_id: str, attempts: Sequence[ImportedAttempt]) -> None:
    """Stores problems with all that belongs to them, in one transaction; those that are there stay as they are."""
    problems = [(each, _cleaned(each.problem)) for each in attempts]
    keyed = [(each, problem, problem_key(problem)) for each, problem in problems]
    positions = [each.position for each in attempts]

    def work(connection: Connection) -> None:
        insert_new(connection, schema.problem, [_problem_row(key, problem) for _, problem, key in keyed])
        rows = [_attempt_row(run_id, key, each) for each, _, key in keyed]
        insert_new(connection, schema.attempt, rows, key=("run_id", "problem_key", "seed"))
        table = schema.attempt.c
        asked = select(table.position, table.id).where(table.run_id == run_id, table.position.in_(positions))
        ids = {row.position: row.id for row in connection.execute(asked)}
        for into, made in (
            (schema.reply, _reply_rows),
            (schema.candidate, lambda i, each: _candidate_rows(i, each, db.is_sqlite)),
            (schema.score, _score_rows),
        ):
            insert_new(connection, into, [row for each in attempts for row in made(ids[each.position], each)])

    db.transact(work)


def end(db: Database, run_id: str) -> tuple[int, int]:
    """The run is whole: how many problems and candidates it has."""
    attempt, candidate, run = schema.attempt.c, schema.candidate.c, schema.run

    def work(connection: Connection) -> tuple[int, int]:
        problems = _count(connection, run_id)
        mine = select(attempt.id).where(attempt.run_id == run_id)
        candidates = connection.scalar(select(func.count()).where(candidate.attempt_id.in_(mine))) or 0
        ended = datetime.now(UTC).isoformat(timespec="microseconds")
        done = update(run).where(run.c.id == run_id, run.c.status != "done")
        connection.execute(done.values(status="done", ended=ended, problems=problems))
        return problems, candidates

    return db.transact(work)


# ------------------------------------------------------------------------------------------------------------- the rows


def _count(connection: Connection, run_id: str) -> int:
    return connection.scalar(select(func.count()).where(schema.attempt.c.run_id == run_id)) or 0


def _cleaned(problem: Problem) -> Problem:
    """As both databases can hold it: NUL and lone surrogates are replaced."""
    return Problem(clean(problem.id), clean(problem.prompt), clean(problem.answer), clean(problem.source), problem.meta)


def _problem_row(key: str, problem: Problem) -> Row:
    return {
        "key": key,
        "id": problem.id,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "source": problem.source,
        "meta": dumps(dict(problem.meta)),
    }


def _attempt_row(run_id: str, key: str, of: ImportedAttempt) -> Row:
    chosen = next((each for each in of.candidates if each.path == of.chosen), None)
    scores = [score for each in of.candidates for score, _ in each.scores]
    return {
        "run_id": run_id,
        "problem_key": key,
        "position": of.position,
        "seed": 0,
        "status": "done",
        "shard": of.position // SHARD,
        "replies": 1 + len(_verifiers(of)),
        "path": of.chosen,
        "answer": clean_or_none(chosen.answer.key) if chosen else None,
        "reason": "chosen where it was written" if chosen else "nothing was chosen: candidates written elsewhere",
        "votes": "[]",
        "generated_tokens": of.generated,
        "candidates": len(of.candidates),
        "invalid_scores": sum(score.value is None for score in scores),
    }


def _verifiers(of: ImportedAttempt) -> dict[str, int]:
    """Each verifier's reply by its name: 0 is that of the candidates."""
    names = dict.fromkeys(score.verifier for each in of.candidates for score, _ in each.scores)
    return {name: i for i, name in enumerate(names, start=1)}


def _reply_rows(attempt_id: int, of: ImportedAttempt) -> list[Row]:
    brought = [("extend", len(of.candidates))]
    for name in _verifiers(of):
        brought.append(("verify", sum(score.verifier == name for each in of.candidates for score, _ in each.scores)))
    same: Row = {"attempt_id": attempt_id, "asked": None, "cost": "{}"}
    return [{**same, "number": i, "kind": kind, "count": count} for i, (kind, count) in enumerate(brought)]


def _candidate_rows(attempt_id: int, of: ImportedAttempt, compress: bool) -> list[Row]:
    return [_candidate_row(attempt_id, i, each, compress) for i, each in enumerate(of.candidates)]


def _candidate_row(attempt_id: int, number: int, each: ImportedCandidate, compress: bool) -> Row:
    return {
        "attempt_id": attempt_id,
        "path": each.path,
        "parent": parent_of(each.path),
        "depth": depth_of(each.path),
        "number": number,
        "tokens": each.tokens or 0,
        "reply": 0,
        "packed": _packed(each),
        "extra": _NOTHING_MORE,
        **stored_text(each.text, compress=compress)._asdict(),
        "finish": each.finish.value,
        "state": each.state.value,
        "cause": clean(each.cause),
        "answer": clean_or_none(each.answer.key),
        "answer_reason": clean(each.answer.reason),
        "logprob": None if each.logprob is None else finite(each.logprob),
        "certainty": None if each.certainty is None else finite(each.certainty),
    }


def _packed(each: ImportedCandidate) -> bytes:
    if not each.ids:
        return b""
    unknown = np.full(len(each.ids), np.nan, dtype=np.float32)
    return packed(Step(np.array(each.ids, dtype=np.int32), "", unknown, unknown, unknown, each.finish)).tokens


def _score_rows(attempt_id: int, of: ImportedAttempt) -> list[Row]:
    replies = _verifiers(of)
    rows: list[Row] = []
    for each in of.candidates:
        for score, join in each.scores:
            row = {
                "attempt_id": attempt_id,
                "path": each.path,
                "verifier": clean(score.verifier),
                "value": score.value,
                "parts": dumps(score.parts),
                "reason": clean(score.reason),
                "join_rule": join.value,
                "reply": replies[score.verifier],
                "number": len(rows),
            }
            rows.append(row)
    return rows
