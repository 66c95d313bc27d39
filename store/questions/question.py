"""What a named question is: one SQL statement over the tables, and what is computed from its rows.

The SQL is the same for both databases, reads no more than the runs that are asked about, and is shown with every answer, so
that anybody can check a number or go on from it. Where statistics are needed (intervals, closed forms), `make` computes them
from the rows, and `computed` says how.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from ..database import Database
from ..runs import Run, find_run
from ..stats import FEW

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "id", "count", "share", "number", "signed", "seconds"]
Row = dict[str, Any]
_AT_ONCE = 2_000  # rows fetched together
_ID = re.compile(r"[0-9a-f]{12}")
_HOLES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Col:
    """One column of an answer."""

    means: str  # with its unit and, where it has one, its direction
    kind: Kind = "text"
    low: str = ""  # the columns that hold its 95% interval
    high: str = ""
    title: str = ""  # its name to a person, with another column's value in it: only where that is one in all rows


@dataclass(frozen=True)
class Asked:
    """A question that was put to a database, about runs."""

    db: Database
    runs: Sequence[Run]
    question: Question

    @property
    def sql(self) -> str:
        """With the runs' ids in it."""
        return self.question.about([run.id for run in self.runs])

    def rows(self) -> list[Row]:
        """What the SQL gives."""
        return list(self.stream())

    def stream(self) -> Iterator[Row]:
        """The same, row by row: the texts of many candidates are not held at once."""
        with self.db.read() as connection:
            found = connection.execute(text(self.sql.replace(":", r"\:")), execution_options={"yield_per": _AT_ONCE})
            names = tuple(found.keys())
            for row in found:
                yield dict(zip(names, map(plain, row), strict=True))

    def by_run(self) -> dict[str, list[Row]]:
        """Its rows by run, in the order in which the runs were named."""
        out: dict[str, list[Row]] = {run.id: [] for run in self.runs}
        for row in self.rows():
            out[row["run"]].append(row)
        return out


@dataclass(frozen=True)
class Question:
    """A question by name."""

    name: str  # a verb of `ponderosa ask`; with _ for -, the function of `store.queries`
    title: str
    asks: str  # one line
    says: str  # how to read the answer
    sql: str  # {runs}: where the ids go
    columns: Mapping[str, Col]  # of the answer, in order
    make: Callable[[Asked], list[Row]] = field(default=lambda asked: asked.rows())
    needs: str = ""  # what a run must have to be in the answer at all
    wants: str = ""  # what the runs must have together for there to be an answer; "" = none is one too
    computed: str = ""  # what is computed from the SQL's rows; "" = they are the answer

    def about(self, run_ids: Sequence[str]) -> str:
        """The SQL about these runs."""
        for each in run_ids:
            if not _ID.fullmatch(each):
                raise ValueError(f"'{each}' is no run id: 12 hexadecimal digits")
        return self.sql.strip().replace("{runs}", ", ".join(f"'{each}'" for each in run_ids))

    def ask(self, db: Database, runs: Sequence[Run | str]) -> list[Row]:
        """The answer as plain rows: of the columns, with what is not known as None. A run may be named, as `find_run` takes
        names."""
        if not runs or isinstance(runs, str):
            raise ValueError("give the runs to ask about as a list of at least one")
        named = [find_run(db, each) if isinstance(each, str) else each for each in runs]
        found = list({run.id: run for run in named}.values())  # each once: none is a seed or a rival of itself
        return [{name: row.get(name) for name in self.columns} for row in self.make(Asked(db, found, self))]

    def titles(self, rows: Sequence[Row]) -> dict[str, str]:
        """Of columns that a person is shown under another name: what they are about in these rows, such as the one baseline."""
        same = {name: str(rows[0][name]) for name in self.columns if len({row[name] for row in rows}) == 1}
        titled = {name: column.title for name, column in self.columns.items() if column.title}
        known = {name: title for name, title in titled.items() if same.keys() >= set(_HOLES.findall(title))}
        return {name: _HOLES.sub(lambda hole: same[hole[1]], title) for name, title in known.items()}

    def frame(self, db: Database, runs: Sequence[Run | str]) -> pd.DataFrame:
        """The answer as a data frame, with pandas' nullable types: what is not known is <NA>, and a count stays a whole
        number."""
        import pandas as pd

        rows = self.ask(db, runs)
        kinds = {name: _TYPES[column.kind] for name, column in self.columns.items()}
        return pd.DataFrame({name: pd.array([row[name] for row in rows], dtype=kind) for name, kind in kinds.items()})


def own(score: str, run: str) -> str:
    """SQL: whether a row of `score` is of the verifier that the run searched with, and not of one that came later."""
    later = f"rescore.run_id = {run} AND rescore.kind = 'verifier' AND rescore.name = {score}.verifier"
    return f"NOT EXISTS (SELECT 1 FROM rescore WHERE {later})"


_TYPES: dict[Kind, Any] = {
    "text": "string",
    "id": "Int64",
    "count": "Int64",
    "share": "Float64",
    "number": "Float64",
    "signed": "Float64",
    "seconds": "Float64",
}


def rests_on_few(rows: Sequence[Row]) -> bool:
    """Whether any of an answer's rows rests on fewer than FEW finished problems; of none there is nothing to say."""
    counts = (row.get("closed", row.get("problems")) for row in rows)
    return any(0 < count < FEW for count in counts if count is not None)


_PLAIN = frozenset((str, int, bool, bytes, type(None)))


def plain(value: Any) -> Any:
    """A value of either database as one of Python's: PostgreSQL's sums and means of whole numbers are Decimals."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    number = float(value)
    # a mean of 0 is 0E-20
    return int(number) if number.is_integer() and not {".", "E"} & set(str(value)) else number


__all__ = ["FEW", "Asked", "Col", "Kind", "Question", "Row", "own", "plain", "rests_on_few"]
