"""`ponderosa ask`: a named question about runs, as a table, CSV, JSON lines, Parquet, or as the SQL behind it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from flows import query, solved
from flows.progress import said
from store.database import Database
from store.questions import QUESTIONS, Question
from store.questions.question import FEW, Row, rests_on_few
from store.runs import Run, find_run, list_runs

EVERY = "all"  # the word for every run of the database
SAYS_LITTLE = f"Some rows rest on fewer than {FEW} problems: their intervals say little."
_DIGITS = {"share": 3, "signed": 3, "number": 1, "seconds": 1}


def sql_of(opened: Database, name: str, wanted: Sequence[str]) -> str:
    """The SQL behind an answer."""
    return QUESTIONS[name].about([run.id for run in runs_of(opened, wanted)])


def ask(opened: Database, name: str, wanted: Sequence[str], format: str, file: str, limit: int | None, force: bool) -> None:
    """Answers. Solutions that have not been derived yet are."""
    question, runs = QUESTIONS[name], runs_of(opened, wanted)
    query.check(format, file, spreadsheet=False, force=force)
    solved.ensure(opened, [run.id for run in runs])
    rows = question.ask(opened, runs)
    _tell(question, runs, rows, aloud=format != "table" or bool(file))
    if format in ("table", "markdown"):
        columns, cells = told(question, rows)
        query.write(columns, cells, format, file, limit)
        if format == "table" and not file:
            sys.stdout.write(_notes(question, rows))
        return
    query.write(list(question.columns), (tuple(row.values()) for row in rows), format, file, limit)


def _tell(question: Question, runs: Sequence[Run], rows: Sequence[Row], aloud: bool) -> None:
    """What a reader should know beside the answer: on standard error, so that no pipe has it. `aloud`: what a table says
    below itself too."""
    there = {row.get("run") for row in rows}
    missing = [run.id for run in runs if run.id not in there] if question.needs else []
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        said(f"not in the answer, for want of {question.needs}: {some}")
    if question.wants and not rows:
        said(f"there is no answer, for want of {question.wants}")
    if aloud and rests_on_few(rows):
        said(SAYS_LITTLE)


def runs_of(opened: Database, wanted: Sequence[str]) -> list[Run]:
    """The runs by ids, names or "all", each once, in the order given."""
    found: dict[str, Run] = {}
    for each in wanted:
        some = list_runs(opened)[::-1] if each == EVERY else [find_run(opened, each)]
        if some and some[0].name == each and some[0].id != each:
            alike = sum(run.name == each for run in list_runs(opened))
            if alike > 1:
                said(f"{alike} runs have the name '{each}': {some[0].id}, the newest, is taken")
        found |= {run.id: run for run in some if run.id not in found}
    return list(found.values())


def told(question: Question, rows: Sequence[Row]) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Columns and cells for a person: intervals with their values, columns of which nothing is known left out."""
    ends = {end for column in question.columns.values() for end in (column.low, column.high)}
    known = [name for name in question.columns if name not in ends and _known(rows, name)]
    titles = question.titles(rows)
    return [titles.get(name, name) for name in known], [tuple(_cell(question, row, name) for name in known) for row in rows]


def _known(rows: Sequence[Row], name: str) -> bool:
    """Whether a column is shown: one of an answer without rows is."""
    return not rows or any(row[name] is not None for row in rows)


def _cell(question: Question, row: Mapping[str, object], name: str) -> str | None:
    column, value = question.columns[name], row[name]
    if value is None:
        return None
    text = _number(value, column.kind)
    if column.low and row[column.low] is not None:
        text += f" [{_number(row[column.low], column.kind)}, {_number(row[column.high], column.kind)}]"
    return text


def _number(value: object, kind: str) -> str:
    if kind not in _DIGITS or not isinstance(value, (int, float)):
        return f"{value:,}" if kind == "count" else str(value)
    if kind == "share" and 0 < value < 0.0005:
        return "<0.001"  # a p of 0 there is not
    sign = "+" if kind == "signed" else ""
    return f"{value:{sign},.{_DIGITS[kind]}f}"


def _notes(question: Question, rows: Sequence[Row]) -> str:
    lines = [question.says, *([SAYS_LITTLE] if rests_on_few(rows) else [])]
    return "\n".join(lines) + "\n"


__all__ = ["EVERY", "ask", "runs_of", "sql_of", "told"]
