"""One SELECT on a database of ours, which it cannot change: rows in batches, whatever their number.

    sql = "SELECT run, avg(tokens) FROM results WHERE strategy = :strategy GROUP BY run"
    with selecting("ponderosa.db", sql, {"strategy": "beam"}) as found:
        found.columns                    # ("run", "avg(tokens)")
        for batch in found.batches: ...  # lists of tuples

Whoever wrote the SQL is not trusted; why it can only read is said in `readonly_sqlite.py` and `readonly_postgresql.py`. Nothing
is created, migrated or repaired: a database of an older version is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from .database import _url
from .errors import StoreError, Unavailable
from .schema import HEAD, VERSION_TABLE, VERSIONS, metadata

SECONDS = 30.0
LONGEST = 1_000_000.0  # milliseconds must fit into 31 bits
Value = None | bool | int | float | str | bytes
Row = tuple[Value, ...]


class QueryError(ValueError):
    """The SQL is refused, or the database cannot read it."""


class TooSlow(Unavailable):
    """The deadline has passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the query was ended after {seconds:g} s; ask for less, or allow it more seconds")


@dataclass(frozen=True)
class Selected:
    """What a query found. The columns' names are unique: the second `id` is `id_2`."""

    columns: tuple[str, ...]
    batches: Iterator[list[Row]]  # none of them empty; to be read within the block that opened them

    @property
    def rows(self) -> Iterator[Row]:
        """One by one."""
        return (row for batch in self.batches for row in batch)


@contextmanager
def selecting(
    where: str | os.PathLike[str], sql: str, parameters: Mapping[str, Value] | None = None, seconds: float = SECONDS
) -> Iterator[Selected]:
    """Runs one SELECT (or WITH ... SELECT, or VALUES) with its `:name` parameters bound. `seconds`: that the database may work
    on it; the reader's own time is not counted. JSON, times and arrays are text; NULL is None; numbers of PostgreSQL's type
    numeric are int where they are whole, else float.

    Raises QueryError for SQL that is refused or wrong, TooSlow at the deadline, StoreError for a database that cannot be used.
    """
    given = dict(parameters or {})
    _check(sql, given, seconds)
    try:
        with _opened(where, sql, given, seconds) as found:
            yield Selected(_unique(found.columns), found.batches)
    except QueryError as error:
        raise QueryError(f"{error}{_nearest(where, str(error))}") from error


def tables(where: str | os.PathLike[str]) -> dict[str, list[str]]:
    """The columns of each view, then of each table, by name."""
    with _opened(where, _LISTING[_url(where).get_backend_name()], {}, SECONDS) as found:
        listed: dict[str, list[str]] = {}
        for table, column in (row for batch in found.batches for row in batch):
            listed.setdefault(str(table), []).append(str(column))
    return listed


def check_version(shown: str, names: set[str], version: str | None) -> None:
    """Refuses a database that is not of this code's version. `names`: its tables."""
    if VERSION_TABLE not in names:
        strangers = names & set(metadata.tables) if "://" in shown else names
        if strangers:
            raise StoreError(
                f"the database '{shown}' is of another application (it has a table '{min(strangers)}'); name another one"
            )
        raise StoreError(f"the database '{shown}' is empty: it has no runs yet; start one")
    if version is not None and version not in VERSIONS:
        raise StoreError(
            f"the database '{shown}' has schema version '{version}', this program knows up to '{HEAD}'; "
            "update Ponderosa, or name another database"
        )
    if version != HEAD:
        raise StoreError(
            f"the database '{shown}' has schema version '{version}', a query reads '{HEAD}' and migrates nothing; "
            "any other verb brings it up to date: ponderosa runs"
        )


# ------------------------------------------------------------------------------------------------------------ internals

_LISTING = {
    "sqlite": """
SELECT sqlite_master.name, pragma_table_info.name FROM sqlite_master, pragma_table_info(sqlite_master.name)
WHERE sqlite_master.type IN ('view', 'table') AND sqlite_master.name NOT LIKE 'sqlite%'
ORDER BY sqlite_master.type = 'table', sqlite_master.name, pragma_table_info.cid""",
    "postgresql": """
SELECT columns.table_name, columns.column_name FROM information_schema.columns
JOIN information_schema.tables ON tables.table_schema = columns.table_schema AND tables.table_name = columns.table_name
WHERE columns.table_schema IN (SELECT table_schema FROM information_schema.tables WHERE table_name = 'ponderosa_version')
ORDER BY tables.table_type <> 'VIEW', columns.table_name, columns.ordinal_position""",
}
_LISTING["postgres"] = _LISTING["postgresql"]
# what comes before the first word
_START = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*(\w*)", re.DOTALL)
_PLAIN = (type(None), bool, int, float, str, bytes)
_UNKNOWN = re.compile(r'no such (?:column|table): ([\w.]+)|(?:column|relation) "?([\w.]+)"? does not exist')


def _opened(
    where: str | os.PathLike[str], sql: str, parameters: Mapping[str, Value], seconds: float
) -> AbstractContextManager[Selected]:
    """The same for either kind of database."""
    url = _url(where)
    if url.get_backend_name() == "sqlite":
        from .readonly_sqlite import selecting_sqlite

        return selecting_sqlite(url.database or "", sql, parameters, seconds)
    from .readonly_postgresql import selecting_postgresql

    return selecting_postgresql(url, sql, parameters, seconds)


def _check(sql: str, parameters: Mapping[str, Value], seconds: float) -> None:
    """What needs no database to be seen."""
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"the deadline must be a number of seconds above 0, at most {LONGEST:,.0f}, not {seconds}")
    found = _START.match(sql)
    first = found.group(1) if found else ""
    if first.upper() not in ("SELECT", "WITH", "VALUES"):
        said = f"it begins with '{first[:40]}'" if first else "it has no statement"
        raise QueryError(f"a query is one SELECT, WITH ... SELECT or VALUES: {said}")
    if "\x00" in sql:
        raise QueryError("the query has a NUL character")
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # of bytes on the command line or in a pipe that are no text
        raise QueryError(f"the query is not UTF-8, from character {error.start + 1} on") from error
    for name, value in parameters.items():
        if not re.search(rf":{re.escape(name)}\b", sql):
            raise QueryError(f"the query has no parameter ':{name[:80]}'")
        if type(value) not in _PLAIN:  # a number of numpy's too: neither database would know it
            raise QueryError(f"':{name}' must be None, a bool, int, float, str or bytes, not {type(value).__name__}")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise QueryError(f"':{name}' must fit into 64 bits, not {str(value)[:40]}; give it as a text or a float")


def _unique(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The names, later ones of the same name numbered."""
    taken: list[str] = []
    for name in columns:
        free, number = name, 1
        while free in taken or (number > 1 and free in columns):
            number += 1
            free = f"{name}_{number}"
        taken.append(free)
    return tuple(taken)


def _nearest(where: str | os.PathLike[str], said: str) -> str:
    """The names nearest to the one that the database does not know, as the end of a sentence."""
    unknown = _UNKNOWN.search(said)
    if unknown is None:
        return ""
    name = (unknown.group(1) or unknown.group(2)).rsplit(".")[-1]
    try:
        listed = tables(where)
    except (StoreError, ValueError):
        return ""
    known = dict.fromkeys([*listed, *(column for columns in listed.values() for column in columns)])
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; the nearest are {', '.join(near)}" if near else "; `ponderosa query` without SQL lists tables and columns"


__all__ = ["SECONDS", "QueryError", "Row", "Selected", "TooSlow", "Value", "check_version", "selecting", "tables"]
