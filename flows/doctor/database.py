"""Checks of the database itself: a file or a server."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

from .finding import Finding, Status
from .folder import commits

GB = 1 << 30
CHECK_SECONDS = 30.0  # for SQLite's own check of a file


def database_file(path: Path, seconds: float = CHECK_SECONDS) -> Finding:
    """Reads only: a file that is to be made, or brought up to date, is left to the first command that uses it."""
    name = "database"
    if path.is_dir():
        return Finding(name, "fail", f"'{path}' is a directory", f"name a file in it: {path / 'ponderosa.db'}")
    if not path.exists() or path.stat().st_size == 0:
        return Finding(name, "ok", f"'{path}' is not there yet: the first run makes it")
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\x00":
            return Finding(name, "fail", f"'{path}' is not a SQLite database", "name another file")
    before = path.stat()
    if any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal")):
        return _checked(path, "mode=ro", seconds)
    # a file that nobody has open: read as one that does not change, else SQLite leaves a log and its index beside it
    found = _checked(path, "mode=ro&immutable=1", seconds)
    after = path.stat()
    if Path(f"{path}-wal").exists() or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return _checked(path, "mode=ro", seconds)  # somebody has opened it meanwhile
    return found


def _checked(path: Path, how: str, seconds: float) -> Finding:
    until = time.monotonic() + seconds
    said = ""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=5)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            status, said, remedy = schema(tables, tables, lambda table: connection.execute(_VERSION.format(table)).fetchone())
            if status == "ok":
                connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                for (wrong,) in connection.execute("PRAGMA quick_check(1)"):
                    if wrong != "ok":
                        raise sqlite3.DatabaseError(wrong)
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            what = f"'{path}': {said}, not checked to its end in {seconds:.0f} s"
            return Finding("database", "warn", what, "PRAGMA quick_check in the sqlite3 program checks it all")
        mend = "check the rights of the file and of its folder"
        return Finding("database", "fail", f"'{path}' cannot be opened: {error}", mend)
    except sqlite3.DatabaseError as error:
        what = f"'{path}' is damaged: {' '.join(str(error).split())}"
        return Finding("database", "fail", what, "restore a copy; `sqlite3 FILE .recover` saves what can still be read")
    size = sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())
    checked = f", {size / (1 << 20):.1f} MB, checked" if status == "ok" else ""
    return Finding("database", status, f"'{path}': {said}{checked}", remedy)


_VERSION = "SELECT version_num FROM {}"


def schema(tables: set[str], strangers: set[str], ask: Callable[[str], Any]) -> tuple[Status, str, str]:
    """Whether it is ours, and of a version that we know. `strangers`: tables that, without a version, mean another's."""
    from store.schema import HEAD, VERSION_TABLE, VERSIONS

    row = ask(VERSION_TABLE) if VERSION_TABLE in tables else None
    if row is None and strangers - {VERSION_TABLE}:
        what = f"of another application (it has a table '{min(strangers - {VERSION_TABLE})}')"
        return "fail", what, "name another database"
    if row is None:
        return "ok", "empty: the first run makes its tables", ""
    if row[0] not in VERSIONS:
        return (
            "fail",
            f"schema version '{row[0]}', this program knows up to '{HEAD}'",
            "update Ponderosa, or name another database",
        )
    older = "" if row[0] == HEAD else f", brought up to {HEAD} by the next command that opens it"
    return "ok", f"schema version {row[0]}{older}", ""


def database_server(url: URL) -> Finding:
    """Opens, is ours or empty, and keeps what it has acknowledged."""
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import DBAPIError

    from store.schema import metadata as ours

    shown = url.set(query={}).render_as_string(hide_password=True)

    def look(connection: Connection) -> Finding:
        def ask(sql: str) -> Any:
            return connection.execute(text(sql)).fetchone()

        tables = set(inspect(connection).get_table_names())
        status, said, remedy = schema(tables, tables & set(ours.tables), lambda table: ask(_VERSION.format(table)))
        version, size, may, replica = ask(
            "SELECT current_setting('server_version'), pg_database_size(current_database()),"
            " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), pg_is_in_recovery()"
        )
        what = f"{shown}: PostgreSQL {version.split()[0]}, {said}, {size / (1 << 20):.1f} MB"
        if status == "ok" and replica:
            return Finding("database", "fail", f"{what}, a read-only copy", "name the server that is written to")
        if status == "ok" and not may:
            mend = "GRANT CREATE, USAGE ON SCHEMA public TO the role, or name a database that it owns"
            return Finding("database", "fail", f"{what}, the role may make no tables", mend)
        off = [s for s in ("fsync", "full_page_writes", "synchronous_commit") if ask(f"SHOW {s}")[0] == "off"]
        if status == "ok" and off:
            what += f", {' and '.join(off)} off: a power cut may lose what was stored"
            return Finding("database", "warn", what, "set it on")
        return Finding("database", status, what, remedy)

    try:
        return _connected(url, look)
    except ImportError as error:
        return Finding("database", "fail", f"{shown}: the driver is missing ({error})", "pip install 'psycopg[binary]>=3.2'")
    except DBAPIError as error:
        said = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
        mend = "check that the server runs, and the URL's host, name, user and password"
        return Finding("database", "fail", f"{shown}: {said}", mend)


def latency_of_server(url: URL) -> Finding:
    """Of a commit that the server has to write: a message in its log, which no table sees."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    def look(connection: Connection) -> Finding:
        def write() -> None:
            connection.execute(text("SELECT pg_logical_emit_message(true, 'ponderosa doctor', '')"))
            connection.commit()

        return commits(write)

    try:
        return _connected(url, look)
    except (ImportError, DBAPIError):
        return Finding("commit", "fail", "not measured: the server gave no answer", "see the database")


def _connected(url: URL, look: Callable[[Connection], Finding]) -> Finding:
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 10000"))
        connection.commit()
        return look(connection)
