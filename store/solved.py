"""Whole solutions as rows of their own: what most questions are about, without the tree that they came from.

A row of `solution` is derived: from the candidates of a closed attempt, the score of the run's own verifier, and a judgement of
each distinct answer. It is written after the attempt is closed, by whoever comes first (the worker, or the first question), and
always the same; an attempt says by `solutions` that it has been done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from search.types import Path, Problem

from . import schema
from .database import Database, insert_new
from .pools import in_all, mean_over_tokens, whole_paths, written
from .runs import planned
from .values import exact_text

_A, _C, _S, _V = schema.attempt.c, schema.candidate.c, schema.score.c, schema.solution
BATCH = 128  # attempts in a transaction

# whether each answer is right, by the problem's own grader; None = not decided
Judge = Callable[[Sequence[tuple[Problem, str]]], Sequence[bool | None]]


def underived(db: Database, run_ids: Sequence[str] | None = None) -> int:
    """How many closed attempts of these runs (None: of all) have not been derived yet."""
    asked = select(func.count()).where(_A.status.in_(schema.CLOSED), _A.solutions.is_(None))
    if run_ids is not None:
        asked = asked.where(_A.run_id.in_(run_ids))
    return int(db.consult(lambda connection: connection.scalar(asked)) or 0)


def derive(db: Database, run_id: str, judge: Judge, only: Callable[[Problem], bool] = lambda problem: True) -> int:
    """Derives what is missing of a run; of the problems that `only` allows. How many solutions were written."""
    mine = (_A.run_id == run_id, _A.status.in_(schema.CLOSED), _A.solutions.is_(None))
    asked = select(_A.id, _A.path, _A.verdict, _A.correct).where(*mine).order_by(_A.id)
    attempts = db.consult(lambda connection: connection.execute(asked).all())
    if not attempts:
        return 0
    own = db.consult(lambda connection: own_verifier(connection, run_id))
    problems = {each.attempt_id: each.problem for each in planned(db, run_id)}
    attempts = [row for row in attempts if only(problems[row.id])]
    count = 0
    for begin in range(0, len(attempts), BATCH):
        batch = attempts[begin : begin + BATCH]
        rows = db.consult(lambda connection, batch=batch: _read(connection, batch, own))  # type: ignore[misc]
        _judge(batch, rows, problems, judge)
        count += db.transact(lambda connection, rows=rows: _write(connection, rows))  # type: ignore[misc]
    return count


def own_verifier(connection: Connection, run_id: str) -> str | None:
    """Whose scores a run was made with: the one verifier that did not come later. None where there are none, or several."""
    later = schema.rescore.c
    mine = select(_A.id).where(_A.run_id == run_id)
    named = connection.scalars(select(later.name).where(later.run_id == run_id, later.kind == "verifier")).all()
    # by the attempts' range: the scores of a large run are not all looked at
    low, high = connection.execute(select(func.min(_A.id), func.max(_A.id)).where(_A.run_id == run_id)).one()
    asked = select(_S.verifier).where(_S.attempt_id.between(low, high), _S.attempt_id.in_(mine), _S.verifier.not_in(named))
    found = connection.scalars(asked.distinct().limit(2)).all()
    return found[0] if len(found) == 1 else None


# ------------------------------------------------------------------------------------------------------------ internals

Row = dict[str, Any]


def _read(connection: Connection, batch: Sequence[Any], own: str | None) -> dict[int, list[Row]]:
    """Each attempt's solutions, which are not judged yet."""
    ids = [row.id for row in batch]
    columns = (
        *(_C.attempt_id, _C.path, _C.number, _C.tokens, _C.finish, _C.state, _C.prompt, _C.answer),
        *(_C.logprob, _C.certainty, _C.text, _C.text_zlib),
    )
    steps: dict[int, dict[Path, Any]] = {attempt: {} for attempt in ids}
    values: dict[tuple[int, Path], float] = {}
    for row in connection.execute(select(*columns).where(_C.attempt_id.in_(ids))):
        steps[row.attempt_id][row.path] = row
    if own is not None:
        scored = select(_S.attempt_id, _S.path, _S.value).where(_S.attempt_id.in_(ids), _S.verifier == own)
        values = {(attempt, path): value for attempt, path, value in connection.execute(scored)}
    return {row.id: list(_solutions(row, steps[row.id], values)) for row in batch}


def _solutions(attempt: Any, found: dict[Path, Any], values: dict[tuple[int, Path], float]) -> Iterator[Row]:
    for path in whole_paths(found):
        last = found[path]
        steps = [found[each] for each in written(found, path)]
        tokens = sum(step.tokens for step in steps)
        yield {
            "attempt_id": attempt.id,
            "path": path,
            "number": last.number,
            "steps": len(steps),
            "tokens": tokens,
            "finish": last.finish,
            "state": last.state,
            "chosen": path == attempt.path,
            "answer": last.answer,
            "correct": False,
            "value": values.get((attempt.id, path)),
            "logprob": in_all([step.logprob for step in steps]),
            "certainty": mean_over_tokens([step.certainty for step in steps], [step.tokens for step in steps]),
            "digest": digest_of(exact_text(step.text, step.text_zlib) for step in steps),
        }


def digest_of(texts: Iterable[str]) -> int:
    """64 bits of the whole text: equal texts have equal ones, and of a million others two are equal by 3 in 10^8."""
    whole = "".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(whole, digest_size=8).digest(), "little", signed=True)


def _judge(batch: Sequence[Any], rows: dict[int, list[Row]], problems: dict[int, Problem], judge: Judge) -> None:
    """Sets `correct`: of what was chosen as the run's own verdict says, of the others by each distinct answer."""
    asked: dict[tuple[int, str], None] = {}
    for attempt, found in rows.items():
        asked |= dict.fromkeys((attempt, row["answer"]) for row in found if row["answer"] is not None)
    said = judge([(problems[attempt], answer) for attempt, answer in asked])
    right = dict(zip(asked, said, strict=True))
    for attempt in batch:
        for row in rows[attempt.id]:
            if row["chosen"] and attempt.verdict is not None:
                row["correct"] = None if attempt.verdict in schema.UNDECIDED else attempt.correct
            else:
                row["correct"] = right.get((attempt.id, row["answer"]), False)


def _write(connection: Connection, rows: dict[int, list[Row]]) -> int:
    """Of the attempts that are still closed, and that nobody else has done meanwhile."""
    still = select(_A.id).where(_A.id.in_(list(rows)), _A.status.in_(schema.CLOSED), _A.solutions.is_(None))
    open_ = set(connection.scalars(still if connection.dialect.name == "sqlite" else still.with_for_update()))
    new = [row for attempt in open_ for row in rows[attempt]]
    insert_new(connection, _V, new)
    done = [{"at": each, "n": len(rows[each]), "c": sum(bool(row["correct"]) for row in rows[each])} for each in open_]
    if done:
        counted: dict[str, Any] = {"solutions": bindparam("n"), "right_solutions": bindparam("c")}
        connection.execute(update(schema.attempt).where(_A.id == bindparam("at")).values(counted), done)
    return len(new)


__all__ = ["Judge", "derive", "digest_of", "own_verifier", "underived"]
