"""The named questions as sheets of the page: the same rows, with their SQL and the command that prints them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flows.report.document import Column, Kind, Sheet, Value
from store.questions import QUESTIONS, Col, Question
from store.questions.costs import SLOWEST
from store.questions.question import Row, rests_on_few
from store.runs import Run

MOST = 400  # rows of one sheet
HIDDEN = ("run", "problem_set", "flops", "few")  # said elsewhere on the page, or too long for it
TITLES = {"name": "run", "p_holm": "p (Holm)", "ece": "ECE", "auc": "AUC", "brier": "Brier"}

_NAMES = re.compile("`([a-z-]+)`")


def of(question: Question, runs: Sequence[Run], rows: Sequence[Row], in_all: int = 0) -> Sheet:
    """Rows of an answer as a sheet; of very many the first, which is said. `in_all`: runs, where it is about some of them."""
    rows, many = _first(question.name, rows), len(rows)
    ends = {end for column in question.columns.values() for end in (column.low, column.high) if end}
    titles = TITLES | question.titles(rows)
    columns = tuple(
        Column(key, titles.get(key, key.replace("_", " ")), _kind(column), column.means, column.low, column.high)
        for key, column in question.columns.items()
        if key not in HIDDEN
    )
    told = _NAMES.sub(_title, question.says)
    told += f" The first {len(rows):,} of {many:,} rows; the command below gives all." if len(rows) < many else ""
    told += f" Of the {len(runs)} runs with the most solutions, of {in_all}." if in_all > len(runs) else ""
    return Sheet(
        id=question.name,
        title=question.title,
        says=told,
        columns=tuple(column for column in columns if column.name not in ends or column.name in _shown(columns)),
        rows=tuple(_plain(row) for row in rows),
        sql=question.about([run.id for run in runs]),
        computed=question.computed,
        command=f"ponderosa ask {question.name} {' '.join(run.id for run in runs)}",
        few=rests_on_few(rows),
        partly=not all(rests_on_few([row]) for row in rows),
    )


def _title(name: re.Match[str]) -> str:
    """A question's heading on the page, where its text has the name that the command line knows."""
    return f'"{QUESTIONS[name[1]].title}"' if name[1] in QUESTIONS else name[0]


def _first(name: str, rows: Sequence[Row]) -> Sequence[Row]:
    """Slow problems are the slowest of all runs; all other answers keep their order."""
    if name == "slow":
        return sorted(rows, key=lambda row: -row["seconds"])[:SLOWEST]
    return rows[:MOST]


def _kind(column: Col) -> Kind:
    return "text" if column.kind == "id" else column.kind


def _shown(columns: Sequence[Column]) -> set[str]:
    """Ends of intervals: the page shows them with their value, and needs their columns for that."""
    return {end for column in columns for end in (column.low, column.high) if end}


def _plain(row: Row) -> Mapping[str, Value]:
    return {key: value for key, value in row.items() if not isinstance(value, bytes)}


__all__ = ["MOST", "of"]
