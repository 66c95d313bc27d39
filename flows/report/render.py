"""A `Document` as one HTML file that needs no server and no network, and JavaScript for filters, sorting and trees alone.

Everything that a model or a file has written goes through autoescaping, or into a data block. Only `Sheet.svg` is markup: ours.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flows.report.document import Cell, Document, Group, ProblemLine, RunLine, Sheet, TreeOf, Value
from flows.report.pack import packed
from flows.report.shown import exact, interval, moment, plain, shown, wrapped

HERE = Path(__file__).parent
STYLES = ("page.css", "charts.css", "tree.css")
SCRIPTS = ("dom.js", "tables.js", "problems.js", "model.js", "rows.js", "detail.js", "panel.js", "live.js", "page.js")
FOLD = 14  # a longer table shows its first rows until it is opened
MARKS = {"y": "✓", "n": "✗", "o": "○", "u": "?"}
AT_WORK = ("queued", "running")  # runs that will have more


def policy(nonce: str, live: bool = False) -> str:
    """The page's Content-Security-Policy."""
    parts = [
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*parts, "connect-src 'self'"] if live else parts)


def render(document: Document, live: bool = False, *, nonce: str = "", version: str = "") -> str:
    """The page. `live`: it fetches trees from `tree/ATTEMPT`, and itself again when `version` answers another than this one.
    `nonce`: of its policy, a random one where none is given."""
    nonce = nonce or secrets.token_urlsafe(16)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            document=document,
            groups=[_Shown.of(group, document.trees, live) for group in document.groups],
            trees=() if live else _blocks(document.trees),
            live=live,
            working=any(run.status in AT_WORK for group in document.groups for run in group.runs),
            version=version,
            nonce=nonce,
            policy=policy(nonce, live),
            style=_joined(STYLES),
            script=_joined(SCRIPTS),
        )
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """A group, laid out for the template."""

    group: Group
    same: Mapping[str, Value]  # facts that all runs share
    differ: tuple[str, ...]  # names of those in which they differ
    lines: tuple[tuple[ProblemLine, int, tuple[Cell | None, ...]], ...]  # how many runs are right; a cell a run
    place: Mapping[str, int]  # of a problem in the lines, from 1
    trees: frozenset[int]  # attempts whose tree can be opened

    @classmethod
    def of(cls, group: Group, trees: Mapping[int, TreeOf], live: bool) -> _Shown:
        names = tuple(dict.fromkeys(name for run in group.runs for name in run.facts))
        differ = tuple(name for name in names if _differs(group.runs, name))
        first = group.runs[0].facts if group.runs else {}
        same = {name: first[name] for name in names if name not in differ}
        place = {problem.id: index for index, problem in enumerate(group.problems, 1)}
        cells = (cell.attempt for problem in group.problems for cell in problem.cells)
        known = frozenset(attempt for attempt in cells if live or attempt in trees)
        return cls(group, same, differ, tuple(_line(group, problem) for problem in group.problems), place, known)


def _differs(runs: tuple[RunLine, ...], name: str) -> bool:
    first = runs[0].facts
    return len(runs) == 1 or any(name not in run.facts or run.facts[name] != first.get(name) for run in runs)


def _line(group: Group, problem: ProblemLine) -> tuple[ProblemLine, int, tuple[Cell | None, ...]]:
    cells = {cell.run: cell for cell in problem.cells}
    return problem, sum(cell.correct is True for cell in problem.cells), tuple(cells.get(run.id) for run in group.runs)


def leads(part: _Shown, row: Mapping[str, Value], name: str) -> str:
    """Where a cell of a table leads: a problem to its row, an attempt to its tree, and to the branch that the row names."""
    value = row[name]
    if name == "problem" and isinstance(value, str) and value in part.place:
        return f"#{part.group.id}-p{part.place[value]}"
    if name != "attempt" or isinstance(value, bool) or not isinstance(value, int) or value not in part.trees:
        return ""
    path = row.get("path")
    return f"#tree={value}&at={quote(path)}" if path and isinstance(path, str) else f"#tree={value}"


def mark(cell: Cell) -> str:
    """What came of it, as a letter: y right, n wrong, o no answer, u not decided, as where the search is not over."""
    if cell.correct is None:
        return "u"
    if cell.correct:
        return "y"
    return "o" if cell.answer is None else "n"


def _columns(sheet: Sheet) -> list[Any]:
    """Those with a column of their own in the table: an interval stands with its value."""
    ends = {end for column in sheet.columns for end in (column.low, column.high) if end}
    return [column for column in sheet.columns if column.name not in ends]


def _blocks(trees: Mapping[int, TreeOf]) -> Iterator[tuple[int, Markup]]:
    return ((attempt, Markup(packed(tree))) for attempt, tree in trees.items())


@cache
def _joined(names: tuple[str, ...]) -> Markup:
    return Markup("\n".join((HERE / name).read_text(encoding="utf-8") for name in names))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=plain,
    )
    made.filters.update(shown=shown, wrapped=wrapped, exact=exact, svg=Markup, columns=_columns, mark=mark, leads=leads)
    made.filters.update(moment=moment)
    made.globals.update(interval=interval, fold=FOLD, marks=MARKS)
    return made


__all__ = ["mark", "policy", "render"]
