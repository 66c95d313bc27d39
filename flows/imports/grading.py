"""Verdicts of an import: on the answers that were chosen elsewhere, and ours beside those that a file brings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, func, select

from search.types import Problem
from store import schema
from store.database import Database
from store.imported import ImportedAttempt
from store.runs import Grade, grade
from store.values import exact_text
from verifiers.grade import Graders, Verdict, grader_for

from .records import Record, placed

BATCH = 256  # attempts


@dataclass(slots=True)
class Tally:
    """How a file's own verdicts compare with ours."""

    compared: int = 0
    agreed: int = 0
    others: list[str] = field(default_factory=list)  # the first where they differ

    def lines(self) -> list[str]:
        if not self.compared:
            return []
        said = f"the file's own verdicts: ours are the same on {self.agreed:,} of {self.compared:,}"
        return [said + (f"; others are {', '.join(self.others)}" if self.others else "")]


def tally(into: Tally, graders: Graders, attempts: Sequence[ImportedAttempt], records: Sequence[Record]) -> None:
    """Compares; a run's verdicts are ours alone, so that runs can be compared."""
    judged = [
        (attempt.problem, path, written.right, candidate)
        for attempt, record in zip(attempts, records, strict=True)
        for (path, written), candidate in zip(placed(record), attempt.candidates, strict=True)
        if written.right is not None
    ]
    verdicts = graders.grade_all((problem, candidate.answer.key, candidate.text) for problem, _, _, candidate in judged)
    for (problem, path, right, _), verdict in zip(judged, verdicts, strict=True):
        ours = verdict is Verdict.CORRECT
        into.compared += 1
        into.agreed += ours is right
        if ours is not right and len(into.others) < 5:
            into.others.append(f"{problem.id} {path}")


def grade_chosen(database: Database, run_id: str, graders: Graders) -> int:
    """Grades every choice that has no verdict yet; how many those were."""
    done, after = 0, 0
    while rows := _ungraded(database, run_id, after):
        verdicts = graders.grade_all((problem, answer, text) for _, answer, text, problem in rows)
        grades: list[Grade] = [
            (attempt_id, verdict.value, verdict is Verdict.CORRECT, grader_for(problem))
            for (attempt_id, _, _, problem), verdict in zip(rows, verdicts, strict=True)
        ]
        grade(database, grades)
        done, after = done + len(rows), rows[-1][0]
    return done


def unchosen(database: Database, run_id: str) -> int:
    """Where some problems of a run have a choice, those without one are wrong, as where a search chooses nothing; how many
    those are. Where none has one, nothing is known."""
    attempt = schema.attempt.c
    mine = attempt.run_id == run_id, attempt.path.is_(None)
    chosen = select(attempt.id).where(attempt.run_id == run_id, attempt.path.is_not(None)).limit(1)
    asked = select(attempt.id).where(*mine, attempt.verdict.is_(None))
    if database.consult(lambda connection: connection.scalar(chosen)) is None:
        return 0
    rest = database.consult(lambda connection: connection.scalars(asked).all())
    count = database.consult(lambda connection: connection.scalar(select(func.count()).where(*mine))) or 0
    for begin in range(0, len(rest), BATCH):
        grade(database, [(attempt_id, Verdict.NONE.value, False, "") for attempt_id in rest[begin : begin + BATCH]])
    return count


def _ungraded(database: Database, run_id: str, after: int) -> list[tuple[int, str | None, str, Problem]]:
    """Attempt, chosen answer, its text and the problem; of attempts after that one, in their order."""
    attempt, candidate, problem = schema.attempt.c, schema.candidate.c, schema.problem
    asked = (
        select(problem, attempt.id.label("attempt_id"), attempt.answer.label("chosen"), candidate.text, candidate.text_zlib)
        .join_from(schema.attempt, schema.problem)
        .join(schema.candidate, and_(candidate.attempt_id == attempt.id, candidate.path == attempt.path))
        .where(attempt.run_id == run_id, attempt.verdict.is_(None), attempt.id > after)
        .order_by(attempt.id)
        .limit(BATCH)
    )
    found = database.consult(lambda connection: connection.execute(asked).mappings().all())
    return [
        (
            row["attempt_id"],
            row["chosen"],
            exact_text(row["text"], row["text_zlib"]),
            Problem(row["id"], row["prompt"], row["answer"], row["source"], json.loads(row["meta"])),
        )
        for row in found
    ]
