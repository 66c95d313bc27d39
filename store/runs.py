"""Runs and their attempts: planning, restarting, grading, ending, finding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, select, update

from search.types import Problem, RunSpec

from . import schema
from .database import Database, insert_new
from .errors import StoreError, one_of
from .values import clean, dumps

Grade = tuple[int, str, bool | None, str]  # attempt id, verdict, correct (None: not decided), grader


@dataclass(frozen=True, slots=True)
class Planned:
    """One attempt of a run, as it stands in the database."""

    attempt_id: int
    problem: Problem
    seed: int
    status: str

    @property
    def closed(self) -> bool:
        """Whether it has ended, well or not, and is not to be run again."""
        return self.status in schema.CLOSED


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it is stored. Times are UTC, ISO 8601."""

    id: str
    name: str
    spec: RunSpec
    status: str
    created: str
    ended: str | None
    environment: Mapping[str, Any]


def problem_key(problem: Problem) -> str:
    """32 hexadecimal digits of a hash of source, id, prompt and answer: the same in every run."""
    content = dumps([problem.source, problem.id, problem.prompt, problem.answer])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def begin_run(
    db: Database, spec: RunSpec, problems: Sequence[Problem], environment: Mapping[str, Any], name: str = ""
) -> list[Planned]:
    """Stores the run and an attempt for each of its problems (all of them); the attempts in the problems' order.

    Idempotent: the same spec again finds the same attempts, the finished ones with their status, and sets the run to
    running where any is left. The first environment is kept. Other problems under the same spec are refused.
    """
    if not problems:
        raise StoreError(f"run '{spec.id}' has 0 problems; choose a set that has some")
    _refuse_repeats(problems)
    keys = [problem_key(problem) for problem in problems]
    with db.write() as connection:
        _insert_run(connection, spec, environment, name)
        insert_new(connection, schema.problem, [_problem_row(*pair) for pair in zip(keys, problems, strict=True)])
        stored = _attempts(connection, spec)
        if stored and set(stored) != set(keys):
            raise StoreError(
                f"run '{spec.id}' was begun with {len(stored)} other problems than these {len(keys)}; "
                "name the set as it was, or change the spec"
            )
        if not stored:
            insert_new(connection, schema.attempt, _attempt_rows(spec, keys), key=("run_id", "problem_key", "seed"))
            stored = _attempts(connection, spec)
        if any(status not in schema.CLOSED for _, status in stored.values()):
            _set_status(connection, spec.id, "running")
    return [Planned(stored[k][0], p, spec.seed, stored[k][1]) for k, p in zip(keys, problems, strict=True)]


def planned(db: Database, run_id: str) -> list[Planned]:
    """A run's attempts with their problems, in the problems' order, as they stand. None for a run that is not there."""
    attempt = schema.attempt.c
    asked = (
        select(schema.problem, attempt.id.label("attempt_id"), attempt.seed, attempt.status)
        .join_from(schema.attempt, schema.problem)
        .where(attempt.run_id == run_id)
        .order_by(attempt.position, attempt.id)
    )
    with db.read() as connection:
        rows = connection.execute(asked).mappings().all()
    return [Planned(row["attempt_id"], _stored_problem(row), row["seed"], row["status"]) for row in rows]


def _stored_problem(row: RowMapping) -> Problem:
    return Problem(row["id"], row["prompt"], row["answer"], row["source"], json.loads(row["meta"]))


def restart(db: Database, attempt_ids: Iterable[int]) -> None:
    """Prepares attempts to be run from their start: deletes what an interrupted search left. Refuses finished ones."""
    ids = [{"at": attempt_id} for attempt_id in attempt_ids]
    if not ids:
        return
    table = schema.attempt
    with db.write() as connection:
        for at in ids:
            status = connection.scalar(select(table.c.status).where(table.c.id == at["at"]))
            if status is None or status in schema.CLOSED:
                raise StoreError(f"attempt {at['at']} is {status or 'unknown'}; only unfinished ones can be restarted")
        for child in (schema.score, schema.candidate, schema.reply):
            connection.execute(delete(child).where(child.c.attempt_id == bindparam("at")), ids)
        connection.execute(update(table).where(table.c.id == bindparam("at")).values(status="pending"), ids)


def grade(db: Database, grades: Iterable[Grade]) -> None:
    """Writes verdicts of finished attempts; a later one replaces an earlier."""
    rows = []
    for attempt_id, verdict, correct, grader in grades:
        one_of("verdict", verdict, schema.VERDICTS)
        if (verdict == "correct") != (correct is True):
            raise StoreError(f"attempt {attempt_id}: verdict '{verdict}' with correct={correct}; they contradict")
        rows.append({"at": attempt_id, "v": verdict, "c": correct, "g": clean(grader)})
    if not rows:
        return
    table = schema.attempt
    graded = (
        update(table)
        .where(table.c.id == bindparam("at"), table.c.status.in_(schema.CLOSED))
        .values(verdict=bindparam("v"), correct=bindparam("c"), grader=bindparam("g"))
    )
    with db.write() as connection:
        for row in rows:
            if connection.execute(graded, row).rowcount != 1:
                raise StoreError(f"attempt {row['at']} is not finished or not there; grade it after its search")


def end_run(db: Database, run_id: str, status: str) -> None:
    """Sets how a run ended, and when."""
    one_of("run status", status, schema.RUN_STATUSES)
    with db.write() as connection:
        if not _set_status(connection, run_id, status):
            raise StoreError(f"there is no run '{run_id}'; begin it first")


def list_runs(db: Database) -> list[Run]:
    """All runs, the newest first."""
    table = schema.run
    with db.read() as connection:
        found = connection.execute(select(table).order_by(table.c.created.desc(), table.c.id)).mappings()
        return [_run(row) for row in found]


def find_run(db: Database, wanted: str) -> Run:
    """The run with this id or name (the newest of them), or the only one whose id starts so; 'latest' = the newest."""
    runs = list_runs(db)
    if not runs:
        raise StoreError(f"there is no run '{wanted}': the database '{db.shown}' has no runs yet; start one")
    if wanted == "latest":
        return runs[0]
    exact = [r for r in runs if r.id == wanted] or [r for r in runs if wanted and r.name == wanted]
    if exact:
        return exact[0]
    starting = [r for r in runs if wanted and r.id.startswith(wanted.lower())]
    if len(starting) == 1:
        return starting[0]
    if starting:
        raise StoreError(f"'{wanted}' is the start of {len(starting)} runs ({_names(starting)}); write more of the id")
    raise StoreError(f"there is no run '{wanted}'; the nearest are {_names(_nearest(wanted, runs))}")


# ------------------------------------------------------------------------------------------------------------ internals


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _refuse_repeats(problems: Sequence[Problem]) -> None:
    """An id is what seeds and queries name a problem by, so it must be unique in a run."""
    first: dict[str, int] = {}
    for position, problem in enumerate(problems):
        if problem.id in first:
            where = f"places {first[problem.id]} and {position}"
            raise StoreError(f"problem id '{clean(problem.id)}' is given twice ({where}); give each its own id")
        first[problem.id] = position


def _insert_run(connection: Connection, spec: RunSpec, environment: Mapping[str, Any], name: str) -> None:
    row = {
        "id": spec.id,
        "name": clean(name),
        "spec": spec.json(),
        "status": "running",
        "created": _now(),
        "ended": None,
        "environment": _json(environment, "the environment"),
    }
    insert_new(connection, schema.run, [row])


def _problem_row(key: str, problem: Problem) -> dict[str, Any]:
    return {
        "key": key,
        "id": clean(problem.id),
        "prompt": clean(problem.prompt),
        "answer": clean(problem.answer),
        "source": clean(problem.source),
        "meta": _json(problem.meta, f"the meta of problem '{clean(problem.id)}'"),
    }


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        return dumps(dict(value))
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored as JSON: {error}; use text, finite numbers, lists, maps") from error


def _attempt_rows(spec: RunSpec, keys: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"run_id": spec.id, "problem_key": key, "position": position, "seed": spec.seed, "status": "pending"}
        for position, key in enumerate(keys)
    ]


def _attempts(connection: Connection, spec: RunSpec) -> dict[str, tuple[int, str]]:
    """Problem key -> attempt id, status."""
    table = schema.attempt
    asked = select(table.c.problem_key, table.c.id, table.c.status).where(table.c.run_id == spec.id, table.c.seed == spec.seed)
    return {key: (attempt_id, status) for key, attempt_id, status in connection.execute(asked)}


def _set_status(connection: Connection, run_id: str, status: str) -> bool:
    ended = None if status == "running" else _now()
    changed = update(schema.run).where(schema.run.c.id == run_id).values(status=status, ended=ended)
    return connection.execute(changed).rowcount == 1


def _run(row: RowMapping) -> Run:
    environment = json.loads(row["environment"])
    spec = RunSpec.from_json(row["spec"])
    return Run(row["id"], row["name"], spec, row["status"], row["created"], row["ended"], environment)


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(f"{r.id} '{r.name}'" if r.name else r.id for r in runs[:3])


def _nearest(wanted: str, runs: Sequence[Run]) -> list[Run]:
    def likeness(run: Run) -> float:
        return max(SequenceMatcher(None, wanted, known).ratio() for known in (run.id, run.name))

    return sorted(runs, key=likeness, reverse=True)[:3]
