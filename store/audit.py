"""Nothing lost, nothing counted twice: what must hold in a database whatever has happened to the processes that wrote it.

Every candidate, score and reply is looked at, an attempt at a time, so that memory does not grow with the database. What
takes the strategy's code, replaying a search from its journal to the same choice, is in `flows.audit`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, Table, and_, case, func, literal, or_, select, text

from search.ledger import Usage
from search.packing import TOKEN_BYTES, ahead_bytes
from search.types import Finish, Join, Packed, Problem, RunSpec, child_of, depth_of

from . import schema
from .costs import UNSUMMED, invalid, ledger
from .database import Database
from .errors import Unreadable, why
from .imported import IMPORTED
from .rescored import BATCH as BATCH_OF_SCORES
from .runs import problem_key
from .schedules import schedule_of

BATCH = 256  # attempts read at a time
SHOWN = 20  # faults kept of one check

CHECKS = {
    "file": "the database's own check of its pages and of references between rows",
    "replies": "each reply is whole: numbered without a gap, with all the rows it brought, and no row without its reply",
    "keys": "natural keys are unique",
    "results": "a closed attempt has one result, and its choice is a finished candidate with that answer",
    "counts": "a run has an attempt for each problem it was begun with, and one that is done has none open",
    "names": "a run's id is the hash of its spec, and a problem's key that of its text and answer",
    "ledger": "each entry of the cost ledger is the sum over the attempt's rows",
    "tree": "each candidate's parent is there, above it, and its depth is that of its path",
    "scores": "each score is a number in [0, 1] joined from its parts, or none with a reason",
    "slots": "a schedule can be read, a slot that has been run has a run of its own, and one that is done has one that is done",
    "later": "what was said after a run is by a verifier or a grader on record, and of all solutions of an attempt",
    "solutions": "what was derived of an attempt is counted in it, of a closed one, and its choice is the chosen one",
    "tokens": "packed tokens and statistics have the length that the step says",
}


class Fault(NamedTuple):
    """Something that must not be."""

    check: str  # CHECKS
    where: str
    what: str


@dataclass(slots=True)
class Report:
    """What an audit looked at, and what it found."""

    looked: Counter[str] = field(default_factory=Counter)  # rows by table
    found: Counter[str] = field(default_factory=Counter)  # faults by check
    faults: list[Fault] = field(default_factory=list)  # the first SHOWN of each check

    def add(self, fault: Fault) -> None:
        self.found[fault.check] += 1
        if self.found[fault.check] <= SHOWN:
            self.faults.append(fault)

    @property
    def clean(self) -> bool:
        return not self.found


def audit(db: Database, run_id: str | None = None) -> Report:
    """Looks at one run, or at everything there is."""
    report = Report()
    with db.read() as connection:
        for fault in _file(connection):
            report.add(fault)
        whole = (_counts, _keys, _names, _slots, _later, _solutions)
        for fault in (fault for look in whole for fault in look(connection, run_id)):
            report.add(fault)
        imported = _imported(connection)
        for attempts in _batches(connection, run_id):
            report.looked["attempt"] += len(attempts)
            low, high = attempts[0].id, attempts[-1].id
            rows = {table: _rows(connection, table, low, high, report) for table in _READ}
            for attempt in attempts:
                own = {table: found.get(attempt.id, []) for table, found in rows.items()}
                written = attempt.run_id in imported
                for fault in _attempt(attempt, own["candidate"], own["score"], own["embedding"], own["reply"], written):
                    report.add(fault)
    return report


# ------------------------------------------------------------------------------------------------------- whole database


def _file(connection: Connection) -> Iterator[Fault]:
    if connection.dialect.name != "sqlite":
        return
    for (said,) in connection.execute(text("PRAGMA quick_check")):
        if said != "ok":
            yield Fault("file", "database", str(said))
    for table, row, parent, _ in connection.execute(text("PRAGMA foreign_key_check")):
        yield Fault("file", f"{table} row {row}", f"refers to a row of {parent} that is not there")


def _counts(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    run, attempt = schema.run.c, schema.attempt.c
    asked = (
        select(run.id, run.status, run.problems, attempt.status.label("attempt"), func.count().label("n"))
        .outerjoin_from(schema.run, schema.attempt)
        .group_by(run.id, run.status, run.problems, attempt.status)
    )
    begun: dict[str, int | None] = {}
    statuses: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in connection.execute(asked if run_id is None else asked.where(run.id == run_id)):
        statuses[row.id, row.status][row.attempt] = row.n
        begun[row.id] = row.problems
    for (name, status), found in statuses.items():
        if None in found:
            yield Fault("counts", f"run {name}", "it has no attempts")
            continue
        unknown = set(found) - set(schema.ATTEMPT_STATUSES)
        if unknown or status not in schema.RUN_STATUSES:
            yield Fault("counts", f"run {name}", f"unknown status {', '.join(sorted(unknown)) or status}")
        if begun[name] not in (None, sum(found.values())):
            yield Fault(
                "counts", f"run {name}", f"it was begun with {begun[name]} problems, and has {sum(found.values())} attempts"
            )
        left = sum(n for each, n in found.items() if each not in schema.CLOSED)
        if status == "done" and left:
            yield Fault("counts", f"run {name}", f"it is done, and {left} of its attempts are not")


def _keys(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    attempt = schema.attempt.c
    asked = (
        select(attempt.run_id, attempt.problem_key, attempt.seed, func.count().label("n"))
        .group_by(attempt.run_id, attempt.problem_key, attempt.seed)
        .having(func.count() > 1)
    )
    for row in connection.execute(asked if run_id is None else asked.where(attempt.run_id == run_id)):
        yield Fault("keys", f"run {row.run_id}", f"problem {row.problem_key} has {row.n} attempts of seed {row.seed}")


def _names(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    run, problem, attempt = schema.run.c, schema.problem, schema.attempt.c
    asked = select(run.id, run.spec)
    for row in connection.execute(asked if run_id is None else asked.where(run.id == run_id)):
        digest = hashlib.blake2b(row.spec.encode(), digest_size=6).hexdigest()
        if digest != row.id:
            yield Fault("names", f"run {row.id}", f"the hash of its spec is {digest}")
        try:
            RunSpec.from_json(row.spec)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            yield Fault("names", f"run {row.id}", f"its spec cannot be read: {why(error)}")
    stored = select(problem)
    if run_id is not None:
        stored = stored.where(problem.c.key.in_(select(attempt.problem_key).where(attempt.run_id == run_id)))
    for row in connection.execute(stored.execution_options(yield_per=1000)):
        digest = problem_key(Problem(row.id, row.prompt, row.answer, row.source))
        if digest != row.key:
            yield Fault("names", f"problem {row.id}", f"its key is {row.key}, and the hash of what it says {digest}")


def _slots(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    for kept in connection.execute(select(schema.schedule)).mappings() if run_id is None else ():
        try:
            schedule_of(kept)
        except Unreadable as error:
            yield Fault("slots", f"schedule {kept['name']}", str(error))
    run, slot = schema.run.c, schema.slot.c
    asked = select(schema.slot, run.status.label("run_status"), run.spec).outerjoin_from(
        schema.slot, schema.run, slot.run_id == run.id
    )
    seen: set[str] = set()
    for row in connection.execute(asked if run_id is None else asked.where(slot.run_id == run_id)):
        where = f"slot {row.schedule}@{row.slot_utc}"
        if row.status not in schema.SLOT_STATUSES:
            yield Fault("slots", where, f"unknown status {row.status}")
        if row.status in ("done", "failed") and row.ended is None:
            yield Fault("slots", where, f"it is {row.status}, and has no end")
        if row.status == "done" and row.run_status != "done":
            yield Fault("slots", where, f"it is done, and its run {row.run_id} is {row.run_status or 'not there'}")
        if row.run_id in seen:
            yield Fault("slots", where, f"its run {row.run_id} is another slot's too")
        if row.spec is not None and (own := _loaded(row.spec).get("slot", "")) != f"{row.schedule}@{row.slot_utc}":
            yield Fault("slots", where, f"its run {row.run_id} is of '{own}'")
        seen |= {row.run_id} - {None}


def _later(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    attempt, score, verdict, rescore = schema.attempt.c, schema.score.c, schema.verdict.c, schema.rescore.c
    for row in connection.execute(
        select(rescore.run_id, rescore.kind, rescore.name).where(rescore.kind.not_in(schema.RESCORES))
    ):
        if run_id in (None, row.run_id):
            yield Fault("later", f"run {row.run_id}", f"'{row.name}' is of the unknown kind {row.kind}")
    on = rescore.run_id == attempt.run_id
    false = or_(verdict.verdict.not_in(schema.VERDICTS), verdict.correct.is_distinct_from(verdict.verdict == "correct"))
    verdicts = (
        select(attempt.run_id, attempt.id, attempt.solutions, verdict.grader.label("name"), rescore.kind)
        .add_columns(func.count().label("n"), func.sum(case((false, 1), else_=0)).label("false"))
        .join_from(schema.verdict, schema.attempt, verdict.attempt_id == attempt.id)
        .outerjoin(schema.rescore, and_(on, rescore.kind == "grader", rescore.name == verdict.grader))
        .group_by(attempt.run_id, attempt.id, attempt.solutions, verdict.grader, rescore.kind)
    )
    scores = (
        select(attempt.run_id, attempt.id, attempt.solutions, score.verifier.label("name"), rescore.kind)
        .add_columns(func.count().label("n"), literal(0).label("false"))
        .join_from(schema.rescore, schema.attempt, and_(on, rescore.kind == "verifier"))
        .join(schema.score, and_(score.attempt_id == attempt.id, score.verifier == rescore.name))
        .group_by(attempt.run_id, attempt.id, attempt.solutions, score.verifier, rescore.kind)
    )
    for asked, what in ((verdicts, "verdicts"), (scores, "scores")):
        for row in connection.execute(asked if run_id is None else asked.where(attempt.run_id == run_id)):
            where = f"run {row.run_id} attempt {row.id}"
            if row.kind is None:
                yield Fault("later", where, f"{row.n} {what} are by '{row.name}', which nobody has asked")
            if row.false:
                yield Fault("later", where, f"{row.false} {what} of '{row.name}' are unknown, or contradict their `correct`")
            # a verifier that was broken off has left whole batches
            if row.n < (row.solutions or 0) and (what == "verdicts" or row.n % BATCH_OF_SCORES):
                said = f"{row.n} of its {row.solutions} solutions have {what} of '{row.name}'; the same rescore adds the others"
                yield Fault("later", where, said)


def _solutions(connection: Connection, run_id: str | None) -> Iterator[Fault]:
    attempt, solution = schema.attempt.c, schema.solution.c
    asked = (
        select(
            solution.attempt_id,
            func.count().label("n"),
            func.sum(case((solution.correct, 1), else_=0)).label("right"),
            func.sum(case((solution.chosen, 1), else_=0)).label("chosen"),
            func.max(case((solution.chosen, solution.path))).label("path"),
        )
        .group_by(solution.attempt_id)
        .subquery()
    )
    found = select(
        *(attempt.id, attempt.status, attempt.path, attempt.solutions, attempt.right_solutions),
        *(asked.c.n, asked.c.right, asked.c.chosen, asked.c.path.label("marked")),
    ).outerjoin_from(schema.attempt, asked, asked.c.attempt_id == attempt.id)
    wrong = or_(
        func.coalesce(attempt.solutions, 0) != func.coalesce(asked.c.n, 0),
        func.coalesce(attempt.right_solutions, 0) != func.coalesce(asked.c.right, 0),
        and_(asked.c.n.is_not(None), attempt.status.not_in(schema.CLOSED)),
        asked.c.chosen > 1,
        and_(asked.c.chosen == 1, asked.c.path.is_distinct_from(attempt.path)),
    )
    found = found.where(wrong) if run_id is None else found.where(wrong, attempt.run_id == run_id)
    for row in connection.execute(found):
        told = f"it says {row.solutions} solutions, {row.right_solutions} right, choice {row.path}"
        rows = f"{row.n or 0} are derived, {row.right or 0} right, choice {row.marked}"
        yield Fault("solutions", f"attempt {row.id}", f"{told}, and {rows} ({row.status})")


# ---------------------------------------------------------------------------------------------------------- one attempt


def _batches(connection: Connection, run_id: str | None) -> Iterator[Sequence[Row[Any]]]:
    after = 0
    while True:
        columns = (schema.attempt, schema.problem.c.id.label("problem"))
        asked = select(*columns).outerjoin_from(schema.attempt, schema.problem).where(schema.attempt.c.id > after)
        asked = asked.order_by(schema.attempt.c.id).limit(BATCH)
        rows = connection.execute(asked if run_id is None else asked.where(schema.attempt.c.run_id == run_id)).all()
        if not rows:
            return
        yield rows
        after = rows[-1].id


def _rows(connection: Connection, table: str, low: int, high: int, report: Report) -> dict[int, list[Row[Any]]]:
    """The rows of a range of attempts, by attempt; only what the checks read."""
    asked = _READ[table].where(schema.metadata.tables[table].c.attempt_id.between(low, high))
    found: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(asked):
        found[row.attempt_id].append(row)
        report.looked[table] += 1
    return found


def _read(table: Table, *names: str) -> Select[Any]:
    return select(table.c.attempt_id, *(table.c[name] for name in names))


_CANDIDATE = ("path", "parent", "depth", "tokens", "finish", "state", "reply", "answer", "number", "logprob", "certainty")
_READ: dict[str, Select[Any]] = {
    "candidate": _read(schema.candidate, *_CANDIDATE).add_columns(
        func.length(schema.candidate.c.packed).label("packed"),
        func.length(schema.candidate.c.extra).label("extra"),
        case((schema.candidate.c.finish == Finish.PAUSE.value, schema.candidate.c.extra)).label("paused"),
    ),
    "score": _read(schema.score, "path", "verifier", "value", "parts", "reason", "join_rule", "reply", "number"),
    "embedding": _read(schema.embedding, "path", "reply"),
    "reply": _read(schema.reply, "number", "kind", "cost")
    .add_columns(schema.reply.c["count"].label("rows"))
    .order_by(schema.reply.c.attempt_id, schema.reply.c.number),
}


def _attempt(
    attempt: Row[Any],
    candidates: Sequence[Row[Any]],
    scores: Sequence[Row[Any]],
    embeddings: Sequence[Row[Any]],
    replies: Sequence[Row[Any]],
    imported: bool = False,
) -> Iterator[Fault]:
    where = f"problem {attempt.problem} (attempt {attempt.id})"
    known = {row.path: row for row in candidates}
    if len(known) != len(candidates) or len({(row.path, row.verifier) for row in scores}) != len(scores):
        yield Fault("keys", where, "a candidate or a score is there twice")
    for row in candidates:
        faults = _candidate(row, known, imported)
        if faults:
            yield from (Fault(check, f"{where} candidate {row.path}", what) for check, what in faults)
    for row in scores:
        said = _score(row, known)
        if said:
            yield Fault("scores", f"{where} score {row.path}", said)
    yield from _replies(where, attempt, replies, candidates, scores, embeddings)
    if attempt.status in schema.CLOSED:
        yield from _result(where, attempt, known)
        steps = ((row.tokens, row.finish, row.state, row.reply) for row in candidates)
        usage = ledger(steps, ((row.kind, row.cost) for row in replies), invalid(scores))
        yield from _ledger_imported(where, attempt, usage) if imported else _ledger(where, attempt, usage)


def _candidate(row: Row[Any], known: dict[str, Row[Any]], imported: bool = False) -> list[tuple[str, str]]:
    """What is wrong with a candidate: the check and what it found. An imported one may have a count and no ids."""
    out = []
    path, parent, tokens = row.path, row.parent, row.tokens
    above, _, index = path.rpartition(".")
    if above != parent or not index.isdigit() or child_of(parent, int(index)) != path:
        out.append(("tree", f"its parent is written as '{parent}'"))
    elif depth_of(path) != row.depth:
        out.append(("tree", f"its depth is written as {row.depth}"))
    elif parent and parent not in known:
        out.append(("tree", "its parent is not there"))
    elif parent and known[parent].number >= row.number:
        out.append(("tree", "it was minted before its parent"))
    counted_only = imported and not row.packed
    if (row.packed != TOKEN_BYTES * tokens and not counted_only) or (row.extra - 1 - _told(row)) % (2 * tokens or 1):
        out.append(("tokens", f"{tokens} tokens in {row.packed} bytes, and {row.extra} bytes of other statistics"))
    for value in (row.logprob, row.certainty):
        if value is not None and not math.isfinite(value):
            out.append(("scores", f"its statistics have {value}"))
    return out


def _told(row: Row[Any]) -> int:
    """Bytes of what a paused step says of its next token; one too many where they cannot be read."""
    if row.paused is None:
        return 0
    try:
        return ahead_bytes(Packed(b"", bytes(row.paused)))
    except ValueError:
        return 1


def _score(row: Row[Any], known: dict[str, Row[Any]]) -> str:
    """What is wrong with a score; '' where nothing is."""
    if row.path not in known:
        return "its candidate is not there"
    value = row.value
    if value is None:
        return "" if row.reason else "it has neither a value nor a reason"
    parts = json.loads(row.parts)
    if not parts or not all(0 <= part <= 1 for part in parts) or not 0 <= value <= 1:  # false for NaN
        return f"{value} of {row.parts} is not in [0, 1]"
    if _JOINS[row.join_rule](parts) != value:
        return f"{value} is not the {row.join_rule} of {row.parts}"
    return ""


_JOINS: dict[str, Join] = {join.value: join for join in Join}


def _replies(
    where: str,
    attempt: Row[Any],
    replies: Sequence[Row[Any]],
    candidates: Sequence[Row[Any]],
    scores: Sequence[Row[Any]],
    embeddings: Sequence[Row[Any]],
) -> Iterator[Fault]:
    if [row.number for row in replies] != list(range(len(replies))):
        yield Fault("replies", where, f"its replies are numbered {[row.number for row in replies][:10]}...")
    if attempt.replies is not None and attempt.replies != len(replies):
        yield Fault("replies", where, f"it was closed with {attempt.replies} replies, and {len(replies)} are there")
    brought = {
        "extend": Counter(row.reply for row in candidates),
        "verify": Counter(row.reply for row in scores if row.reply is not None),
        "embed": Counter(row.reply for row in embeddings),
    }
    for row in replies:
        rows = brought[row.kind].pop(row.number, 0)
        if rows != row.rows:
            yield Fault("replies", f"{where} reply {row.number}", f"{rows} of its {row.rows} rows are there")
    for kind, rest in brought.items():
        for number in rest:
            yield Fault("replies", f"{where} reply {number}", f"it is not there, and has {rest[number]} rows of kind {kind}")


def _result(where: str, attempt: Row[Any], known: dict[str, Row[Any]]) -> Iterator[Fault]:
    if attempt.path is not None:
        chosen = known.get(attempt.path)
        if chosen is None:
            yield Fault("results", where, f"the chosen candidate {attempt.path} is not there")
        elif chosen.finish != Finish.END.value or chosen.answer != attempt.answer:
            yield Fault("results", where, f"it chose {attempt.path}, which is {chosen.finish} with answer {chosen.answer!r}")
    if attempt.status == "failed" and not attempt.error:
        yield Fault("results", where, "it has failed, and no error is kept")
    if attempt.verdict is not None and (attempt.verdict == "correct") != (attempt.correct is True):
        yield Fault("results", where, f"verdict {attempt.verdict} with correct={attempt.correct}")
    if attempt.wasted_tokens < 0:
        yield Fault("ledger", where, f"{attempt.wasted_tokens} wasted tokens")


def _ledger(where: str, attempt: Row[Any], rows: Usage) -> Iterator[Fault]:
    for name in (f.name for f in fields(Usage) if f.name not in UNSUMMED):
        said, summed = getattr(attempt, name), getattr(rows, name)
        if said is None or not math.isclose(said, summed, rel_tol=1e-9, abs_tol=1e-9):
            yield Fault("ledger", where, f"{name} is {said}, and the sum over its rows {summed}")


def _imported(connection: Connection) -> set[str]:
    """The runs whose candidates were written elsewhere."""
    rows = connection.execute(select(schema.run.c.id, schema.run.c.spec))
    return {row.id for row in rows if (_loaded(row.spec).get("strategy") or {}).get("name") == IMPORTED}


def _loaded(spec: str) -> dict[str, Any]:
    """A spec's JSON; nothing of one that is none, which is a fault of its run."""
    try:
        found = json.loads(spec)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _ledger_imported(where: str, attempt: Row[Any], rows: Usage) -> Iterator[Fault]:
    """What an imported attempt knows of its cost. Its file's total may hold steps that are not in the file."""
    for name in ("candidates", "invalid_scores"):
        if getattr(attempt, name) != getattr(rows, name):
            yield Fault("ledger", where, f"{name} is {getattr(attempt, name)}, and the sum over its rows {getattr(rows, name)}")
    if attempt.generated_tokens is not None and attempt.generated_tokens < rows.generated_tokens:
        said = f"generated_tokens is {attempt.generated_tokens}, and its rows have {rows.generated_tokens}"
        yield Fault("ledger", where, said)
