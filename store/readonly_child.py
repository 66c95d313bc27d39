"""The process of `readonly_sqlite.py` that runs a statement. It opens the file, says which version it is of, and sends the
columns and the rows when it is told to go on. A script: it is started by its path, and knows nothing of the folder it is
started in."""

from __future__ import annotations

import marshal
import os
import resource
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.append(str(Path(__file__).resolve().parents[1]))

from store.readonly_functions import SQLITE as FUNCTIONS
from store.values import plain_text

ROWS = 1_000  # of a batch
BYTES = 4_000_000  # of a batch, about; a row may be longer
LENGTH = 64_000_000  # bytes of one value
MEMORY = 1 << 30  # bytes of this process
FILES = 2 << 30  # bytes of one temporary file

DESCRIBING = frozenset(("table_info", "table_xinfo", "index_list", "index_info", "foreign_key_list"))  # pragmas that only tell
MODULES = frozenset(("json_each", "json_tree", *(f"pragma_{name}" for name in DESCRIBING)))
# errors of the file, not of the statement: PERM, BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB
_OF_THE_FILE = (3, 5, 6, 8, 10, 11, 13, 14, 15, 26)
_NAMES = {getattr(sqlite3, name): name.removeprefix("SQLITE_").replace("_", " ") for name in (
    "SQLITE_ATTACH", "SQLITE_DETACH", "SQLITE_PRAGMA", "SQLITE_INSERT", "SQLITE_UPDATE", "SQLITE_DELETE", "SQLITE_TRANSACTION",
    "SQLITE_SAVEPOINT", "SQLITE_FUNCTION", "SQLITE_READ")}  # fmt: skip


class Guard:
    """SQLite's authorizer: what a statement would do is allowed, or the statement is not prepared."""

    def __init__(self, tables: set[str], modules: set[str]) -> None:
        self.tables = {name.lower() for name in tables} | MODULES | {"sqlite_master", "sqlite_schema"}
        self.modules = {name.lower() for name in modules} - MODULES
        self.refused = ""

    def __call__(self, action: int, first: str | None, second: str | None, schema: str | None, inside: str | None) -> int:
        if self._allows(action, (first or "").lower(), (second or "").lower(), (schema or "main").lower()):
            return sqlite3.SQLITE_OK
        name = {sqlite3.SQLITE_FUNCTION: second, sqlite3.SQLITE_READ: first, sqlite3.SQLITE_PRAGMA: first}.get(action)
        self.refused = self.refused or " ".join((_NAMES.get(action, "a change"), (name or "")[:80])).strip()
        return sqlite3.SQLITE_DENY

    def _allows(self, action: int, first: str, second: str, schema: str) -> bool:
        if action == sqlite3.SQLITE_FUNCTION:
            return second in FUNCTIONS
        if action == sqlite3.SQLITE_READ:
            if not second:  # no column of it is read: it may be a subquery's name
                return first not in self.modules
            return schema == "main" and first in self.tables
        if action == sqlite3.SQLITE_PRAGMA:
            return first in DESCRIBING
        return action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)


def opened(path: str) -> sqlite3.Connection:
    """A connection that may read, with SQLite's own limits set."""
    for kind in ("BOOLEAN", "DATE", "TIMESTAMP"):  # the driver has ideas of its own about the last two
        sqlite3.register_converter(kind, _truth if kind == "BOOLEAN" else _text)
    at = f"file://{quote(os.fsencode(path))}?mode=ro"
    connection = sqlite3.connect(at, uri=True, timeout=5.0, isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES)
    connection.text_factory = _text
    connection.create_function("plain_text", 2, plain_text, deterministic=True)
    for category, limit in (
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_LENGTH, LENGTH),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 200_000),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 500),
        (sqlite3.SQLITE_LIMIT_VDBE_OP, 500_000),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(category, limit)
    connection.execute("PRAGMA query_only = 1").close()
    return connection


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _truth(raw: bytes) -> bool | int | str:
    return {b"0": False, b"1": True}.get(raw, _text(raw))


def serve() -> None:
    path, sql, parameters, seconds = _hear()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILES, FILES))
    spent = int(4 * seconds) + 60  # where nobody is left to kill it
    resource.setrlimit(resource.RLIMIT_CPU, (spent, spent))
    guard = None
    try:
        connection = opened(path)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        ours = "ponderosa_version" in names
        version = connection.execute("SELECT max(version_num) FROM ponderosa_version").fetchone()[0] if ours else None
        modules = {row[0] for row in connection.execute("SELECT name FROM pragma_module_list")} | MODULES
        _say("opened", (names, version))
        _hear()
        for module in sorted(MODULES & modules):  # made at their first use, in a way that looks like a change
            connection.execute(f"SELECT 1 FROM {module}('{{}}')").close()
        guard = Guard(set(names), modules)
        connection.set_authorizer(guard)
        _send(connection.execute(sql, parameters))
    except MemoryError:
        _say("refused", f"the query needs more than {MEMORY >> 20} MB of memory; ask for less")
    except (sqlite3.Error, sqlite3.Warning) as error:
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if guard is not None and guard.refused:
            _say("refused", f"a query may only read, with functions that only compute; refused: {guard.refused}")
        else:
            _say("unusable" if guard is None or code in _OF_THE_FILE else "refused", str(error))
    except (ValueError, OverflowError) as error:  # a parameter beyond 64 bits, a lone surrogate
        _say("refused", str(error))


def _send(cursor: sqlite3.Cursor) -> None:
    """The rows in batches; an empty one ends them."""
    _say("columns", [each[0] for each in cursor.description or ()])
    rows: list[Any] = []
    size = 0
    for row in cursor:
        rows.append(row)
        size += sum(len(value) for value in row if isinstance(value, (str, bytes))) + 8 * len(row)
        if len(rows) == ROWS or size > BYTES:
            _say("rows", rows)
            rows, size = [], 0
    if rows:
        _say("rows", rows)
    _say("rows", [])


def _say(kind: str, what: Any) -> None:
    raw = marshal.dumps((kind, what))
    sys.stdout.buffer.write(struct.pack("<I", len(raw)) + raw)
    sys.stdout.buffer.flush()


def _hear() -> Any:
    (length,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    return marshal.loads(sys.stdin.buffer.read(length))


if __name__ == "__main__":
    serve()
