"""Scores and verdicts that are given after a run, beside its own: what there is to be scored, and where it is written.

A run's own scores, choice and verdicts never change. What a later verifier says is among the scores under its name, for
`reselect` and every query; what a later grader says is in `verdict`, for each candidate whose answer it judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, func, select

from search.packing import unpack_all
from search.types import Finish, Packed, Path, Problem, Question, Score, Step, Trace

from . import schema
from .database import Database, insert_new
from .errors import StoreError, one_of
from .pools import whole_paths, written
from .runs import planned
from .values import clean, dumps, exact_text, finite, unpack_ids

BATCH = 256  # scores of one attempt that are written at a time; its verdicts are written in one go
_A, _C, _S, _V = schema.attempt.c, schema.candidate.c, schema.score.c, schema.verdict.c


@dataclass(frozen=True, slots=True)
class Whole:
    """One closed attempt with its whole solutions (ended or cut)."""

    attempt_id: int
    problem: Problem
    traces: Mapping[Path, Trace]  # in order of path
    answers: Mapping[Path, str | None]  # canonical keys
    chosen: Path | None
    correct: bool | None  # what the run's own grader said of the chosen one
    known: frozenset[Path]  # those that have what is to be given already

    def text(self, path: Path) -> str:
        return "".join(step.text for step in self.traces[path].steps)


class Given(NamedTuple):
    """A grader's judgement of one candidate."""

    path: Path
    verdict: str  # VERDICTS; all but 'correct' count as wrong, as with a run's own


def begin(db: Database, run_id: str, kind: str, name: str, weights: str, environment: Mapping[str, Any]) -> None:
    """Records who rescores a run. Raises StoreError where the name stands for other weights in this run."""
    one_of("kind", kind, schema.RESCORES)
    table = schema.rescore
    row = {"run_id": run_id, "kind": kind, "name": name, "weights": weights, "environment": dumps(dict(environment))}
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    db.transact(lambda connection: insert_new(connection, table, [{**row, "created": now}]))
    asked = select(table.c.weights).where(table.c.run_id == run_id, table.c.kind == kind, table.c.name == name)
    before = db.consult(lambda connection: connection.scalar(asked))
    if before != weights:
        raise StoreError(
            f"run '{run_id}' has scores of '{name}' by a model with weights '{before}', and here are '{weights}'; "
            "give the model's folder another name"
        )


def wholes(db: Database, run_id: str, kind: str, name: str) -> Iterator[Whole]:
    """The closed attempts of a run in the order of its problems. Memory does not grow with the run, but for its problems."""
    problems = {each.attempt_id: each.problem for each in planned(db, run_id)}
    asked = select(_A.id, _A.path, _A.correct, _A.prompt_ids).where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
    attempts = db.consult(lambda connection: connection.execute(asked.order_by(_A.position, _A.id)).all())
    done = schema.score if kind == "verifier" else schema.verdict
    by = _S.verifier if kind == "verifier" else _V.grader
    columns = _C.path, _C.finish, _C.state, _C.prompt, _C.answer, _C.packed, _C.extra, _C.text, _C.text_zlib
    for attempt in attempts:
        mine = select(*columns).where(_C.attempt_id == attempt.id)
        has = select(done.c.path).where(done.c.attempt_id == attempt.id, by == name)
        rows = db.consult(lambda connection, mine=mine: connection.execute(mine).all())  # type: ignore[misc]
        known = db.consult(lambda connection, has=has: connection.scalars(has).all())  # type: ignore[misc]
        problem = problems[attempt.id]
        ids = () if attempt.prompt_ids is None else unpack_ids(attempt.prompt_ids)
        traces = _traces(Question(problem.id, problem.prompt, ids), rows)
        answers = {row.path: row.answer for row in rows if row.path in traces}
        yield Whole(attempt.id, problem, traces, answers, attempt.path, attempt.correct, frozenset(known))


def _traces(question: Question, rows: Sequence[Any]) -> dict[Path, Trace]:
    found = {row.path: row for row in rows}
    blobs = [Packed(row.packed, row.extra) for row in rows]
    texts = [exact_text(row.text, row.text_zlib) for row in rows]
    steps: dict[Path, Step] = dict(zip(found, unpack_all(blobs, texts, [Finish(row.finish) for row in rows]), strict=True))
    out = {}
    for path in whole_paths(found):
        paths = written(found, path)
        asked = found[paths[0]].prompt
        own = question if asked is None else Question(question.id, asked, ())
        out[path] = Trace(own, tuple(steps[each] for each in paths))
    return out


def add_scores(db: Database, attempt_id: int, scores: Sequence[Score], join: str) -> None:
    """Writes the scores that are not there yet, behind those that are."""
    asked = select(func.coalesce(func.max(_S.number), -1)).where(_S.attempt_id == attempt_id)

    def work(connection: Any) -> None:
        first = connection.scalar(asked) + 1
        insert_new(connection, schema.score, [_score_row(attempt_id, s, join, first + i) for i, s in enumerate(scores)])

    db.transact(work)


def _score_row(attempt_id: int, score: Score, join: str, number: int) -> dict[str, Any]:
    return {
        "attempt_id": attempt_id,
        "path": score.path,
        "verifier": score.verifier,
        "value": None if score.value is None else finite(score.value),
        "parts": dumps(score.parts),
        "reason": clean(score.reason),
        "join_rule": join,
        "reply": None,
        "number": number,
    }


def add_verdicts(db: Database, attempt_id: int, grader: str, given: Sequence[Given]) -> None:
    """Writes the verdicts that are not there yet."""
    for each in given:
        one_of("verdict", each.verdict, schema.VERDICTS)
    own = {"attempt_id": attempt_id, "grader": grader}
    rows = [{**own, "path": g.path, "verdict": g.verdict, "correct": g.verdict == "correct"} for g in given]
    db.transact(lambda connection: insert_new(connection, schema.verdict, rows))


def chosen_by(db: Database, run_id: str, grader: str) -> tuple[int, int, int, int]:
    """Closed attempts, right by the run's own verdicts, right by a later grader's, and those on which the two differ."""
    on = and_(_V.attempt_id == _A.id, _V.path == _A.path, _V.grader == grader)
    asked = select(_A.correct, _V.correct.label("later")).outerjoin_from(schema.attempt, schema.verdict, on)
    asked = asked.where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
    rows = db.consult(lambda connection: connection.execute(asked).all())
    own, later = [row.correct is True for row in rows], [row.later is True for row in rows]
    return len(rows), sum(own), sum(later), sum(a != b for a, b in zip(own, later, strict=True))


__all__ = ["BATCH", "Given", "Whole", "add_scores", "add_verdicts", "begin", "chosen_by", "wholes"]
