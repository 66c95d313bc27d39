"""Runs and their attempts: planning, restarting, grading, ending, finding."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, bindparam, delete, func, insert, select, update

from search.types import Problem, RunSpec

from . import schema
from .database import AWAY_SECONDS, Database, insert_new
from .errors import StoreError, Unreadable, one_of, why
from .leases import Lease, is_dead
from .values import clean, dumps

_log = logging.getLogger("ponderosa")
SHARD = 8  # problems of one lease: a worker takes on as many leases as its time allows (store.extents)

Grade = tuple[int, str, bool | None, str]  # attempt id, verdict, correct (None: not decided), grader


@dataclass(frozen=True, slots=True)
class Planned:
    """One attempt of a run, as it stands in the database."""

    attempt_id: int
    problem: Problem  # as it is stored
    seed: int
    status: str
    shard: int = 0
    tries: int = 0  # that ended in an error, or with their worker

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
    db: Database,
    spec: RunSpec,
    problems: Sequence[Problem],
    environment: Mapping[str, Any],
    name: str = "",
    shard: int = SHARD,
) -> list[Planned]:
    """Stores the run and an attempt for each of its problems (all of them); the attempts in the problems' order.

    Idempotent: the same spec again finds the same attempts, the finished ones with their status, and sets the run to
    running where any is left. The first environment is kept. Other problems under the same spec are refused. `shard` is how
    many problems one lease is for; it is settled with the run.
    """
    if not problems:
        raise StoreError(f"run '{spec.id}' has 0 problems; choose a set that has some")
    problems = [_clean(problem) for problem in problems]
    _refuse_repeats(problems)
    keys = [problem_key(problem) for problem in problems]

    def work(connection: Connection) -> None:
        _insert_run(connection, spec, environment, name, len(problems))
        insert_new(connection, schema.problem, [_problem_row(*pair) for pair in zip(keys, problems, strict=True)])
        stored = _attempts(connection, spec)
        if stored and set(stored) != set(keys):
            raise StoreError(
                f"run '{spec.id}' was begun with {len(stored)} other problems than these {len(keys)}; "
                "name the set as it was, or change the spec"
            )
        if not stored:
            insert_new(connection, schema.attempt, _attempt_rows(spec, keys, shard), key=("run_id", "problem_key", "seed"))
            stored = _attempts(connection, spec)
        if any(status not in schema.CLOSED for status in stored.values()):
            _set_status(connection, spec.id, "running")

    db.transact(work)
    return planned(db, spec.id)


def join_run(db: Database, run_id: str, owner: str, environment: Mapping[str, Any]) -> None:
    """Records a process that works on a run: its versions may differ from those of the one that began it. A run that was
    submitted, with no work done, has the environment of the first that joins it."""
    row = {"run_id": run_id, "owner": owner, "started": now(), "environment": _json(environment, "the environment")}
    run = schema.run
    first = update(run).where(run.c.id == run_id, run.c.environment == "{}").values(environment=row["environment"])

    def work(connection: Connection) -> None:
        connection.execute(insert(schema.session).values(row))
        connection.execute(first)

    db.transact(work)


def sessions(db: Database, run_id: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Owner, start and environment of each process that worked on a run, the first one first."""
    table = schema.session.c
    asked = select(table.owner, table.started, table.environment).where(table.run_id == run_id).order_by(table.id)
    rows = db.consult(lambda connection: connection.execute(asked).all())
    return [(owner, started, json.loads(environment)) for owner, started, environment in rows]


def planned(db: Database, run_id: str, shard: int | None = None) -> list[Planned]:
    """A run's attempts (or one shard's) with their problems, in the problems' order, as they stand. None for a run that is not
    there."""
    attempt = schema.attempt.c
    columns = (attempt.seed, attempt.status, attempt.shard, attempt.tries)
    asked = (
        select(schema.problem, attempt.id.label("attempt_id"), *columns)
        .join_from(schema.attempt, schema.problem)
        .where(attempt.run_id == run_id)
        .order_by(attempt.position, attempt.id)
    )
    if shard is not None:
        asked = asked.where(attempt.shard == shard)
    rows = db.consult(lambda connection: connection.execute(asked).mappings().all())
    return [
        Planned(row["attempt_id"], _stored_problem(row), row["seed"], row["status"], row["shard"], row["tries"]) for row in rows
    ]


def open_shards(db: Database, run_id: str) -> list[int]:
    """The shards of a run that have attempts to be done, in order."""
    attempt = schema.attempt.c
    asked = select(attempt.shard).where(attempt.run_id == run_id, attempt.status.not_in(schema.CLOSED)).distinct()
    return sorted(db.consult(lambda connection: connection.scalars(asked).all()))


def _stored_problem(row: RowMapping) -> Problem:
    return Problem(row["id"], row["prompt"], row["answer"], row["source"], json.loads(row["meta"]))


def restart(db: Database, attempt_ids: Iterable[int], lease: Lease | None = None) -> None:
    """Prepares attempts to be run from their start: deletes what their searches left, and keeps what it had cost as wasted.
    Refuses finished ones."""
    ids = [{"at": attempt_id} for attempt_id in attempt_ids]
    if not ids:
        return
    table, candidate = schema.attempt, schema.candidate.c

    def work(connection: Connection) -> None:
        if lease is not None:
            lease.fence(connection, 0)
        for at in ids:
            status = connection.scalar(select(table.c.status).where(table.c.id == at["at"]))
            if status is None or status in schema.CLOSED:
                raise StoreError(f"attempt {at['at']} is {status or 'unknown'}; only unfinished ones can be restarted")
        spent = select(func.coalesce(func.sum(candidate.tokens), 0)).where(candidate.attempt_id == table.c.id).scalar_subquery()
        wasted = update(table).where(table.c.id == bindparam("at")).values(wasted_tokens=table.c.wasted_tokens + spent)
        connection.execute(wasted, ids)
        for child in (schema.score, schema.embedding, schema.candidate, schema.reply):
            connection.execute(delete(child).where(child.c.attempt_id == bindparam("at")), ids)
        connection.execute(update(table).where(table.c.id == bindparam("at")).values(status="pending"), ids)

    db.transact(work)


def unreplayable(db: Database, run_id: str) -> list[int]:
    """Open attempts whose journal an older version wrote, without what a replay is checked by."""
    attempt, reply = schema.attempt.c, schema.reply.c
    asked = (
        select(attempt.id)
        .join_from(schema.attempt, schema.reply)
        .where(attempt.run_id == run_id, attempt.status.not_in(schema.CLOSED), reply.asked.is_(None))
        .distinct()
    )
    return list(db.consult(lambda connection: connection.scalars(asked).all()))


def retry(db: Database, run_id: str) -> int:
    """Opens the failed attempts of a run again, with their journals, for another three tries; how many they are."""
    attempt = schema.attempt
    failed = (attempt.c.run_id == run_id, attempt.c.status == "failed")
    again = update(attempt).where(*failed)
    cleared = dict.fromkeys(
        ("replies", "prompt_ids", "path", "answer", "reason", "votes", "seconds", "verdict", "correct", "grader")
    )
    cleared |= dict.fromkeys((*schema.LEDGER, "solutions", "right_solutions"))

    def work(connection: Connection) -> int:
        for table in (schema.solution, schema.verdict):  # what was derived and said of an attempt that was closed
            connection.execute(delete(table).where(table.c.attempt_id.in_(select(attempt.c.id).where(*failed))))
        return connection.execute(again.values(status="pending", tries=0, **cleared)).rowcount

    return db.transact(work)


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
        .values(verdict=bindparam("v"), correct=bindparam("c"), grader=bindparam("g"), solutions=None, right_solutions=None)
    )

    def work(connection: Connection) -> None:
        for row in rows:
            if connection.execute(graded, row).rowcount != 1:
                raise StoreError(f"attempt {row['at']} is not finished or not there; grade it after its search")
        # what was derived from the earlier verdict
        connection.execute(delete(schema.solution).where(schema.solution.c.attempt_id == bindparam("at")), rows)

    db.transact(work)


def end_run(db: Database, run_id: str, status: str) -> None:
    """Sets how a run ended, and when."""
    one_of("run status", status, schema.RUN_STATUSES)
    if not db.transact(lambda connection: _set_status(connection, run_id, status)):
        raise StoreError(f"there is no run '{run_id}'; begin it first")


def close_run(db: Database, run_id: str, patience: float = AWAY_SECONDS, resting: str = "interrupted") -> str:
    """Ends a run as it stands: done when no attempt is left to do, cancelled where it was called off, running while another
    process has a shard of it, else `resting`. What it is now; a run that had ended before keeps its time."""
    attempt, lease = schema.attempt.c, schema.lease.c

    def work(connection: Connection) -> str:
        left = select(func.count()).where(attempt.run_id == run_id, attempt.status.not_in(schema.CLOSED))
        held = select(lease.shard, lease.owner).where(lease.shard.startswith(f"{run_id}/", autoescape=True), lease.owner != "")
        was = connection.scalar(select(schema.run.c.status).where(schema.run.c.id == run_id).with_for_update())
        if not connection.scalar(left):
            status = "done"
        elif was == "cancelled":
            return "cancelled"
        else:
            status = "running" if any(not is_dead(row.owner) for row in connection.execute(held)) else resting
        if was != status:
            _set_status(connection, run_id, status)
        return status

    return db.transact(work, patience=patience)


def run_status(db: Database, run: Run) -> str:
    """A run's status as it is: one whose processes have all died is abandoned, whatever they could still write."""
    if run.status != "running":
        return run.status
    lease = schema.lease.c
    held = select(lease.owner).where(lease.shard.startswith(f"{run.id}/", autoescape=True), lease.owner != "")
    owners = db.consult(lambda connection: connection.scalars(held).all())
    return "running" if any(not is_dead(owner) for owner in owners) else "abandoned"


def list_runs(db: Database) -> list[Run]:
    """All runs, the newest first; those that cannot be read are left out, with a warning."""
    return readable(_rows(db))


def _rows(db: Database) -> Sequence[Row[Any]]:
    table = schema.run
    asked = select(table).order_by(table.c.created.desc(), table.c.id)
    return db.consult(lambda connection: connection.execute(asked).all())


def get_run(db: Database, run_id: str) -> Run | None:
    """The run of this id; None where it has not been begun."""
    asked = select(schema.run).where(schema.run.c.id == run_id)
    row = db.consult(lambda connection: connection.execute(asked).one_or_none())
    return None if row is None else run_of(row)


def find_run(db: Database, wanted: str) -> Run:
    """The run with this id or name (the newest of them), or the only one whose id starts so; 'latest' = the newest. Raises
    StoreError where there is none, Unreadable where its row is none."""
    runs = _rows(db)
    if not runs:
        raise StoreError(f"there is no run '{wanted}': the database '{db.shown}' has no runs yet; start one")
    if wanted == "latest":
        return run_of(runs[0])
    exact = [r for r in runs if r.id == wanted] or [r for r in runs if wanted and r.name == wanted]
    if exact:
        return run_of(exact[0])
    starting = [r for r in runs if wanted and r.id.startswith(wanted.lower())]
    if len(starting) == 1:
        return run_of(starting[0])
    if starting:
        raise StoreError(f"'{wanted}' is the start of {len(starting)} runs ({_names(starting)}); write more of the id")
    raise StoreError(f"there is no run '{wanted}'; the nearest are {_names(_nearest(wanted, runs))}")


# ------------------------------------------------------------------------------------------------------------ internals


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _refuse_repeats(problems: Sequence[Problem]) -> None:
    """An id is what seeds and queries name a problem by, so it must be unique in a run."""
    first: dict[str, int] = {}
    for position, problem in enumerate(problems):
        if problem.id in first:
            where = f"places {first[problem.id]} and {position}"
            raise StoreError(f"problem id '{problem.id}' is given twice ({where}); give each its own id")
        first[problem.id] = position


def _insert_run(connection: Connection, spec: RunSpec, environment: Mapping[str, Any], name: str, problems: int) -> None:
    row = {
        "id": spec.id,
        "name": clean(name),
        "spec": spec.json(),
        "status": "running",
        "created": now(),
        "ended": None,
        "environment": _json(environment, "the environment"),
        "problems": problems,
    }
    insert_new(connection, schema.run, [row])


def _clean(problem: Problem) -> Problem:
    """The problem as both databases can hold it, and so as it is searched: NUL and lone surrogates are replaced."""
    return Problem(clean(problem.id), clean(problem.prompt), clean(problem.answer), clean(problem.source), problem.meta)


def _problem_row(key: str, problem: Problem) -> dict[str, Any]:
    return {
        "key": key,
        "id": problem.id,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "source": problem.source,
        "meta": _json(problem.meta, f"the meta of problem '{problem.id}'"),
    }


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        return dumps(dict(value))
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored as JSON: {error}; use text, finite numbers, lists, maps") from error


def _attempt_rows(spec: RunSpec, keys: Sequence[str], shard: int) -> list[dict[str, Any]]:
    same = {"run_id": spec.id, "seed": spec.seed, "status": "pending"}
    return [{**same, "problem_key": key, "position": i, "shard": i // shard} for i, key in enumerate(keys)]


def _attempts(connection: Connection, spec: RunSpec) -> dict[str, str]:
    """Problem key -> status."""
    table = schema.attempt
    asked = select(table.c.problem_key, table.c.status).where(table.c.run_id == spec.id, table.c.seed == spec.seed)
    return {row.problem_key: row.status for row in connection.execute(asked)}


def _set_status(connection: Connection, run_id: str, status: str) -> bool:
    ended = None if status in ("queued", "running") else now()
    changed = update(schema.run).where(schema.run.c.id == run_id).values(status=status, ended=ended)
    return connection.execute(changed).rowcount == 1


def named(run: Run) -> str:
    """The run's name, or its strategy with its parameters and budget."""
    return run.name or named_by(run.spec)


def named_by(spec: RunSpec) -> str:
    """The strategy with its parameters and budget."""
    return str(spec.strategy) + (f" budget {spec.budget.tokens}" if spec.budget.tokens else "")


def run_of(row: Row[Any]) -> Run:
    """A row of the table as a Run. Raises Unreadable for one that another program, or a newer version, has written."""
    try:
        environment, spec = json.loads(row.environment), RunSpec.from_json(row.spec)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Unreadable(f"run '{row.id}' cannot be read: {why(error)}; a newer version may have made it") from None
    return Run(row.id, row.name, spec, row.status, row.created, row.ended, environment)


_left_out: set[str] = set()  # ids that this process has warned of


def readable(rows: Iterable[Row[Any]]) -> list[Run]:
    """Those of the rows that can be read; of each of the others a warning, once."""
    found = []
    for row in rows:
        try:
            found.append(run_of(row))
        except Unreadable as fault:
            if row.id not in _left_out:
                _left_out.add(row.id)
                _log.warning("%s; it is left out", fault)
    return found


def _names(runs: Sequence[Row[Any]]) -> str:
    return ", ".join(f"{r.id} '{r.name}'" if r.name else r.id for r in runs[:3])


def _nearest(wanted: str, runs: Sequence[Row[Any]]) -> list[Row[Any]]:
    def likeness(run: Row[Any]) -> float:
        return max(SequenceMatcher(None, wanted, known).ratio() for known in (run.id, run.name))

    return sorted(runs, key=likeness, reverse=True)[:3]
