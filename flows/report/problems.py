"""The table of problems: what each run made of each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select

from flows.report.document import Cell, ProblemLine
from store import schema
from store.database import Database
from store.runs import Run

_A, _P = schema.attempt.c, schema.problem.c
MOST = 1_000  # problems of one set in the page
RULE = (
    f"Of more than {MOST:,} problems the page lists those that a finding names and, up to {MOST:,}, those of the smallest "
    "keys, which are hashes of their texts: a random sample that is the same in every report."
)
_CELL = (
    *(_A.id, _A.run_id, _A.problem_key, _A.status, _A.correct, _A.verdict, _A.answer, _A.generated_tokens, _A.candidates),
    *(_A.right_solutions, _A.solutions),
)


def sampled(db: Database, runs: Sequence[Run], named: Collection[str] = ()) -> tuple[list[str], int]:
    """Keys of the problems to list, in the order of the first run that has them, and how many there are in all. `named`: ids
    of problems that are listed in any case."""
    ids = [run.id for run in runs]
    asked = select(_A.problem_key, _A.position, _P.id).join_from(schema.attempt, schema.problem).where(_A.run_id.in_(ids))
    with db.read() as connection:
        rows = connection.execute(asked.order_by(_A.position, _A.id)).all()
    order = dict.fromkeys(row.problem_key for row in rows)
    if len(order) <= MOST:
        return list(order), len(order)
    first = [row.problem_key for row in rows if row.id in named]
    kept = {*first, *sorted(order)[: MOST - len(set(first))]}
    return [key for key in order if key in kept], len(order)


def lines(db: Database, runs: Sequence[Run], keys: Sequence[str], lost: dict[int, int]) -> list[ProblemLine]:
    """The problems with a cell for each run that has one. `lost`: by attempt, the step at which a right answer was lost."""
    cells: defaultdict[str, dict[str, Cell]] = defaultdict(dict)
    problems: dict[str, Any] = {}
    for begin in range(0, len(keys), 500):
        some = keys[begin : begin + 500]
        with db.read() as connection:
            for row in connection.execute(
                select(*_CELL).where(_A.problem_key.in_(some), _A.run_id.in_([run.id for run in runs]))
            ):
                cells[row.problem_key][row.run_id] = _cell(row, lost)
            problems |= {row.key: row for row in connection.execute(select(schema.problem).where(_P.key.in_(some)))}
    return [
        ProblemLine(
            problems[key].id,
            problems[key].prompt,
            problems[key].answer,
            tuple(cells[key][run.id] for run in runs if run.id in cells[key]),
        )
        for key in keys
    ]


def _cell(row: Any, lost: dict[int, int]) -> Cell:
    attempt: int = row.id
    closed = row.status in schema.CLOSED
    return Cell(
        run=row.run_id,
        attempt=attempt,
        correct=row.correct if closed else None,
        verdict=row.verdict or ("not graded" if row.status == "done" else row.status),
        answer=row.answer,
        tokens=row.generated_tokens,
        candidates=row.candidates,
        right=row.right_solutions,
        solutions=row.solutions,
        lost=lost.get(attempt),
    )


__all__ = ["MOST", "RULE", "lines", "sampled"]
