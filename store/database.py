"""Opening a database: SQLite by default, PostgreSQL by URL.

Every write is one transaction that takes the write lock at its start (BEGIN IMMEDIATE): a transaction that reads first
and writes later would otherwise fail at once with "database is locked", whatever the timeout. Writers of one SQLite file
also take turns by a lock on a file beside it: SQLite's own waiting is unfair among many, and its versions up to 3.51.2 have
a defect that needs two connections writing or checkpointing at the same instant. A new file is built, and an older one
brought up to date, inside one transaction: it is of the old version or of the new, never between. Alembic is imported
only when that is needed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError

from .errors import StoreError, Unavailable, WriteError
from .schema import HEAD, VERSION_TABLE, VERSIONS, metadata
from .values import plain_text

BUSY_SECONDS = 60.0  # how long a connection waits for another writer
AWAY_SECONDS = 60.0  # how long a transaction waits for a server that is away
_FIRST_PAUSE = 0.05  # seconds between two attempts; doubled each time
_log = logging.getLogger("ponderosa")
_HEADER = b"SQLite format 3\x00"
_READING = "ponderosa_reading"


T = TypeVar("T")


@dataclass(frozen=True)
class Database:
    """An open database of the version this code knows. Use it from several threads, never across a fork."""

    engine: Engine
    shown: str  # path, or URL without its password
    _readers: Engine = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # PostgreSQL's default gives each statement a view of its own
        view: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        object.__setattr__(self, "_readers", self.engine.execution_options(**{_READING: True}, **view))

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; takes no lock that a writer waits for."""
        with self._readers.connect() as connection, connection.begin():
            if not self.is_sqlite:  # who reads may think about it; who writes holds others up
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            yield connection

    @contextmanager
    def write(self, patience: float = BUSY_SECONDS) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back if it raises. `patience`: seconds to wait for other
        writers of the file."""
        if not self.is_sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        with _turn(self.shown, patience), self.engine.begin() as connection:
            yield connection

    def transact(self, work: Callable[[Connection], T], reading: bool = False, patience: float = AWAY_SECONDS) -> T:
        """Does the work in one transaction, again from its start where the server was away: it must not matter whether it was
        done once or twice. Raises StoreError in one line where the database cannot be written for `patience` seconds."""
        until, pause = time.monotonic() + patience, _FIRST_PAUSE
        while True:
            try:
                with self.read() if reading else self.write(patience) as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _transient(error) or time.monotonic() > until:
                    raise explained(error, self.shown) from error
                if pause == _FIRST_PAUSE:
                    _log.warning("the database '%s' does not answer; waiting for it, %.0f s at most", self.shown, patience)
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 2.0)

    def consult(self, work: Callable[[Connection], T]) -> T:
        """`transact` for work that only reads."""
        return self.transact(work, reading=True)

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    key: Sequence[str | Column[Any]] | None = None,
) -> None:
    """Inserts the rows whose natural key (by default the primary key) is not there yet. All have the same columns."""
    if not rows:
        return
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    on = list(key or table.primary_key.columns)
    connection.execute(insert(table).on_conflict_do_nothing(index_elements=on), rows)


def open_database(where: str | os.PathLike[str], create: bool = True) -> Database:
    """Opens a path or URL; a new file is created, an older one migrated. Raises StoreError for anything else."""
    url = _url(where)
    shown = url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    empty = url.get_backend_name() == "sqlite" and _check_file(Path(shown), create)
    engine = _engine(url)
    try:
        if empty:
            _use_wal(engine)
        if not _is_current(engine):
            _bring_up_to_date(engine, shown)
    except DatabaseError as error:
        engine.dispose()
        raise explained(error, shown, "open") from error
    except BaseException:  # an interrupted migration too leaves no connection open
        engine.dispose()
        raise
    return Database(engine, shown)


def public(where: str | os.PathLike[str]) -> str:
    """The place as it may be shown: a URL without its password."""
    name = os.fspath(where)
    return make_url(name).render_as_string(hide_password=True) if "://" in name else name


# ------------------------------------------------------------------------------------------------- what is to be opened


def _url(where: str | os.PathLike[str]) -> URL:
    name = os.fspath(where)
    if "://" not in name:
        if not name or name == ":memory:":
            raise StoreError(f"database '{name}' would be lost at the end; name a file, such as ponderosa.db")
        return URL.create("sqlite", database=name)
    try:
        url = make_url(name)
    except (ArgumentError, ValueError) as error:
        raise StoreError("the database URL cannot be read; write it as postgresql://USER@HOST/NAME") from error
    if url.get_backend_name() not in ("sqlite", "postgresql", "postgres"):
        raise StoreError(f"database kind '{url.drivername}' is not supported (sqlite, postgresql)")
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreError(f"database '{name}' would be lost at the end; name a file, such as sqlite:///ponderosa.db")
    return url


def _check_file(path: Path, create: bool) -> bool:
    """Refuses what is not ours to open, before SQLite touches it; makes a new file for its owner only. Whether it is
    empty."""
    try:
        if path.is_dir():
            raise StoreError(f"the database '{path}' is a directory; name a file in it: {path / 'ponderosa.db'}")
        if not create and not path.exists():
            raise StoreError(f"there is no database at '{path}'; check the name, or start a run to create it")
        if not path.parent.is_dir():
            raise StoreError(f"the database's directory '{path.parent}' does not exist; create it first")
        if not path.exists():
            _create(path)
        head = _head(path)
    except OSError as error:
        raise StoreError(f"cannot open the database '{path}': {error.strerror}; check its rights") from error
    if not head and not create:
        raise StoreError(f"the database '{path}' is empty: it has no runs yet; start one")
    if head != _HEADER and head:
        raise StoreError(f"'{path}' is not a SQLite database; name another file")
    return not head


_seen: set[tuple[int, int]] = set()  # the files whose beginning this process has read
_seeing = threading.Lock()


def _head(path: Path) -> bytes:
    """The file's first bytes. They are read once in a process: closing a file gives up every lock that the process has on it,
    SQLite's too, and another process would then clear away the log of a database that is in use."""
    with _seeing:
        found = path.stat()
        this = found.st_dev, found.st_ino
        if this in _seen:
            return _HEADER if found.st_size else b""
        with path.open("rb") as file:
            head = file.read(len(_HEADER))
        if head in (_HEADER, b""):
            _seen.add(this)
        return head


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:  # another process was faster, and is building it
        return


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10, "options": _SERVER_SIDE})
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(f"the driver of '{url.drivername}' is not installed; write postgresql://USER@HOST/NAME") from error


# A worker that is paused, or whose host is gone, in the middle of a transaction must not keep its locks: the server ends what
# does nothing for 20 s, and looks after 30 s whether the other side is still there.
_SERVER_SIDE = (
    "-c idle_in_transaction_session_timeout=20s "
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction by itself: _on_begin does
    connection.create_function("plain_text", 2, plain_text, deterministic=True)
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -65536")  # KiB, where needed: questions over large runs sort, and 2 MB are soon full
    cursor.close()


def _on_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def _turn(path: str, patience: float) -> Iterator[None]:
    """This process's (and thread's) turn to write the file. The lock dies with its holder."""
    try:
        held = os.open(path + "-turn", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise WriteError(f"cannot write beside the database '{path}': {error.strerror}; check the folder's rights") from error
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > until:
                    said = f"another process has been writing the database '{path}' for {patience:.0f} s"
                    raise Unavailable(f"{said}; wait for it or stop it, and run the same command again") from error
            time.sleep(random.uniform(0.0005, 0.005))
        yield
    finally:
        os.close(held)


# --------------------------------------------------------------------------------------------------------------- errors

_PERMANENT = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
# shut down, starting up, idle for too long; serialisation, deadlock; full house
_AWAY = ("57P01", "57P02", "57P03", "25P03", "25P04", "40001", "40P01", "53300")


def _transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if isinstance(error.orig, sqlite3.Error):
        return False  # its own waiting is over
    if any(sign in str(error.orig) for sign in _PERMANENT):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state in _AWAY or (state is None and isinstance(error, OperationalError))


def explained(error: DBAPIError, shown: str, doing: str = "write") -> StoreError:
    """A driver's error in one line: what, which database, and the remedy."""
    words = str(error.orig).strip().splitlines()
    state = getattr(error.orig, "sqlstate", None)
    # of a statement's error the first line tells, of a connection's the last
    said = (words[0 if state else -1] if words else type(error.orig).__name__).strip()
    low = said.lower()
    if "disk is full" in low or "disk i/o" in low or state in ("53100", "58030"):
        return WriteError(f"cannot {doing} the database '{shown}': {said}; free some disk space and run the same command again")
    if "readonly" in low or "read-only" in low or state == "25006":
        return WriteError(
            f"cannot {doing} the database '{shown}': it is read-only; check the rights of the file and its folder"
        )
    if "locked" in low or "busy" in low:
        return Unavailable(f"cannot {doing} the database '{shown}': another process holds it; run the same command again later")
    if isinstance(error.orig, sqlite3.Error):
        remedy = "check the file and its rights"
        if "malformed" in low or "no such" in low or "already exists" in low:
            remedy = f"the file is damaged or not as this program made it: restore a copy, or try sqlite3 '{shown}' .recover"
        if "unable to open" in low:
            remedy = "SQLite must be able to write to its folder, even to read it; copy it to one where it can"
        return StoreError(f"cannot {doing} the database '{shown}': {said}; {remedy}")
    if _transient(error):
        return Unavailable(f"cannot {doing} the database '{shown}': {said}; start the server and run the same command again")
    remedy = "see the server's log" if state and state[:2] not in ("28", "3D") else "check the URL, the user and the password"
    return StoreError(f"cannot {doing} the database '{shown}': {said}; {remedy}")


# ------------------------------------------------------------------------------------------------------------- versions


def _is_current(engine: Engine) -> bool:
    """Whether the version table says HEAD. A missing table is found out later, under the write lock."""
    try:
        with engine.execution_options(**{_READING: True}).connect() as connection:
            found = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and "no such table" not in str(error.orig):
            raise
        return False
    return bool(found == HEAD)


def _bring_up_to_date(engine: Engine, shown: str) -> None:
    """Builds or migrates under the write lock; whoever waited for it finds the work done."""
    database = Database(engine, shown)
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(5786712)"))
        if _version(connection, shown) == HEAD:
            return
        _upgrade(connection)


def _version(connection: Connection, shown: str) -> str | None:
    """The version of our tables, None where there are none yet. Refuses what is not ours."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE in tables:
        found = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        if found is not None and found not in VERSIONS:
            raise StoreError(
                f"the database '{shown}' has schema version '{found}', this program knows up to '{HEAD}'; "
                "update Ponderosa, or name another database"
            )
        return None if found is None else str(found)
    strangers = tables if connection.dialect.name == "sqlite" else tables & set(metadata.tables)
    if strangers:
        raise StoreError(
            f"the database '{shown}' is of another application (it has a table '{min(strangers)}'); name another one"
        )
    return None


def _upgrade(connection: Connection, version: str = HEAD) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _use_wal(engine: Engine) -> None:
    """Write-ahead log: readers and the writer do not wait for each other. It is a property of the file, set once.

    SQLite does not wait for others here, whatever the timeout, so we do.
    """
    until = time.monotonic() + BUSY_SECONDS
    raw = engine.raw_connection()
    try:
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL").close()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise OperationalError("PRAGMA journal_mode = WAL", None, error) from error
                time.sleep(0.02)
    finally:
        raw.close()


__all__ = ["Database", "StoreError", "explained", "insert_new", "open_database", "public"]
