"""A SELECT on a PostgreSQL database that cannot change it, even where we are its owner or a superuser.

Why it only reads:

1. Grammar. The statement is sent as `DECLARE ... CURSOR FOR <it>` by the extended protocol. The server takes one statement,
   and a cursor only of SELECT or VALUES: no DO, CALL, COPY, SET, EXPLAIN, SELECT INTO, and no WITH that changes rows.
2. The transaction is READ ONLY and has taken its snapshot: from then on the server refuses to make it anything else,
   whoever asks. It refuses changes of rows, FOR UPDATE, sequences, large objects.
3. What is left are functions that act from within a SELECT (pg_read_file, lo_import, pg_terminate_backend, set_config,
   advisory locks, pg_sleep). A function is named before a parenthesis or, `('x'::text).pg_read_file`, after a dot. Each
   name in such a place that the server has a function of must be on our list (`readonly_functions.py`), and be the server's
   own: one that somebody has added under such a name is refused. TREAT, which names a function in another place, is refused.
   Operators and casts of the server only compute; the path in which names are looked up is the server's own schema and the
   one with our tables.
4. Names that begin with pg_ are refused wherever they stand: those are the server's own tables (password hashes, settings,
   other sessions). So are names of other schemas before a dot, but information_schema.
5. A superuser puts its rights down first, for those of `pg_read_all_data`.

Why it ends: the client cancels at the deadline; the server's own statement_timeout stands behind it, and only a function
that is not on the list could change it. A value is at most 1 GB, which is the server's limit. What a statement writes to
temporary files is bounded too where we are a superuser: nobody else may set that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql as compose
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from .database import explained
from .readonly import QueryError, Row, Selected, TooSlow, Value, check_version
from .readonly_functions import POSTGRESQL as FUNCTIONS
from .readonly_values import PlainValues
from .readonly_words import Words, words_of
from .schema import VERSION_TABLE

ROWS = 1_000  # of a batch
BYTES = 4_000_000  # of a batch, about; a row may be longer
FILES = 2 << 20  # kB of temporary files
CURSOR = "ponderosa_query"
_OPTIONS = "-c default_transaction_read_only=on -c standard_conforming_strings=on -c backslash_quote=off -c lock_timeout=5s"
_OIDS = {bool: 16, int: 20, float: 701, bytes: 17}  # of parameters; the server finds out what a text is
# the statement's fault, by the beginning of the state: wrong data, refused, syntax, names, rights, limits, cancelled
_OF_THE_STATEMENT = ("0A", "21", "22", "25", "2F", "34", "38", "39", "42", "53400", "54", "57014")


@contextmanager
def selecting_postgresql(url: URL, sql: str, parameters: Mapping[str, Value], seconds: float) -> Iterator[Selected]:
    """See `readonly.selecting`."""
    words = words_of(sql, frozenset(parameters))
    shown = url.render_as_string(hide_password=True)
    try:
        connection = _connected(url)
    except psycopg.Error as error:
        raise explained(_wrapped(error), shown, "open") from error
    watch = _Watch(connection, seconds)
    try:
        with watch:
            schema = _begin(connection, shown, seconds)
            _check_names(connection, words, schema)
        with watch:
            columns = _declare(connection, words, parameters)
        yield Selected(columns, _batches(connection, watch))
    except psycopg.Error as error:
        if watch.fired or error.sqlstate == "57014":
            raise TooSlow(seconds) from error
        if error.sqlstate and error.sqlstate.startswith(_OF_THE_STATEMENT):
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise QueryError(f"{error.diag.message_primary}{hint}") from error
        raise explained(_wrapped(error), shown, "read") from error
    finally:
        with suppress(psycopg.Error):
            connection.close()


class _Watch:
    """Cancels what the server does when the time within the blocks is used up."""

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self.left, self.fired, self._connection = seconds, False, connection

    def start(self) -> None:
        self._began = time.monotonic()
        self._timer = threading.Timer(max(self.left, 0.0), self._fire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()
        self.left -= time.monotonic() - self._began

    __enter__ = start

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def _fire(self) -> None:
        self.fired = True
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=10)


def _connected(url: URL) -> psycopg.Connection[Any]:
    _, settings = url.get_dialect()().create_connect_args(url)
    options = f"{settings.pop('options', '')} {_OPTIONS}".strip()
    return psycopg.connect(
        **{"connect_timeout": 10, **settings}, options=options, client_encoding="UTF8", autocommit=True, context=PlainValues()
    )


def _begin(connection: psycopg.Connection[Any], shown: str, seconds: float) -> str:
    """Begins with the rights, the names and the time that a query has; the schema of our tables. Refuses a database that is
    not of our version."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    schema, powerful = _row(
        connection,
        "SELECT current_schema(), rolsuper AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_read_all_data') "
        "FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    if powerful:
        connection.execute(f"SET LOCAL temp_file_limit = {FILES}".encode())
        connection.execute("SET LOCAL ROLE pg_read_all_data")
    listed = _rows(connection, "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()")
    names = {name for (name,) in listed}
    version = None
    if VERSION_TABLE in names:
        (version,) = _row(connection, f"SELECT max(version_num) FROM {VERSION_TABLE}")
    check_version(shown, names, version)
    for name, value in (
        ("search_path", f"pg_catalog, {_quoted(connection, schema)}"),
        ("statement_timeout", str(int(1000 * seconds) + 2000)),
        ("idle_in_transaction_session_timeout", "0"),
    ):
        connection.execute(f"SELECT pg_catalog.set_config('{name}', {_literal(connection, value)}, true)")
    return str(schema)


def _check_names(connection: psycopg.Connection[Any], words: Words, schema: str) -> None:
    """Refuses functions that are not on the list, the server's own tables, and other schemas."""
    for name in sorted(words.names):
        if name.startswith("pg_") and name not in FUNCTIONS:
            raise QueryError(f"a query may not name '{name[:80]}': what begins with pg_ is the server's")
    called = f"proname = ANY({_array(connection, words.callable)})"
    asked = f"SELECT proname, bool_or(oid >= 16384) FROM pg_catalog.pg_proc WHERE {called} GROUP BY proname ORDER BY proname"
    for name, added in _rows(connection, asked):
        if name not in FUNCTIONS or added:
            said = "somebody has added it to the database" if name in FUNCTIONS else "it is not one that only computes"
            raise QueryError(f"a query may not use the function '{name}': {said}")
    here = f"nspname <> 'information_schema' AND nspname <> {_literal(connection, schema)}"
    asked = (
        f"SELECT nspname FROM pg_catalog.pg_namespace WHERE {here} AND nspname = ANY({_array(connection, words.qualifying)})"
    )
    for (name,) in _rows(connection, asked):
        raise QueryError(f"a query may not read the schema '{name}', which is not that of the runs")


def _declare(connection: psycopg.Connection[Any], words: Words, parameters: Mapping[str, Value]) -> tuple[str, ...]:
    """Plans the statement; the names of its columns. Nothing is read before the first batch is asked for."""
    given = [parameters[name] for name in words.parameters]
    statement = f"DECLARE {CURSOR} NO SCROLL CURSOR WITHOUT HOLD FOR {words.sql}"
    values = [_written(value) for value in given]
    kinds = [_OIDS.get(type(value), 0) for value in given]
    done = connection.pgconn.exec_params(_encoded(statement), values, kinds)
    if done.status != psycopg.pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(done, "utf-8")
    told = connection.pgconn.describe_portal(CURSOR.encode())
    return tuple((told.fname(i) or b"").decode("utf-8", "replace") for i in range(told.nfields))


def _batches(connection: psycopg.Connection[Any], watch: _Watch) -> Iterator[list[Row]]:
    """The rows, each as it comes. As many are asked for at a time as will fill a batch: the server's own clock goes on while
    a reader is busy with a part of what was asked for."""
    rows, size, seen, weighed, asked, found = list[Row](), 0, 0, 0, 100, 100
    with connection.cursor() as cursor:
        while found == asked:
            asked = max(min(ROWS - len(rows), BYTES * seen // max(weighed, 1) if seen else 100), 1)
            found = 0
            watch.start()
            try:
                for row in cursor.stream(f"FETCH FORWARD {asked} FROM {CURSOR}"):
                    rows.append(row)
                    weight = sum(len(value) for value in row if isinstance(value, (str, bytes))) + 8 * len(row)
                    found, seen, size, weighed = found + 1, seen + 1, size + weight, weighed + weight
                    if size > BYTES or len(rows) == ROWS:
                        watch.stop()
                        yield rows
                        rows, size = [], 0
                        watch.start()
            finally:
                watch.stop()
    if rows:
        yield rows


def _wrapped(error: psycopg.Error) -> DBAPIError:
    """As SQLAlchemy would tell it."""
    return (OperationalError if isinstance(error, psycopg.OperationalError) else DBAPIError)("query", None, error)


def _rows(connection: psycopg.Connection[Any], asked: str) -> list[Any]:
    return connection.execute(asked.encode()).fetchall()


def _row(connection: psycopg.Connection[Any], asked: str) -> Any:
    return _rows(connection, asked)[0]


def _literal(connection: psycopg.Connection[Any], value: str) -> str:
    return bytes(psycopg.pq.Escaping(connection.pgconn).escape_literal(_encoded(value))).decode()


def _quoted(connection: psycopg.Connection[Any], name: str) -> str:
    return compose.Identifier(name).as_string(connection)


def _array(connection: psycopg.Connection[Any], names: frozenset[str]) -> str:
    return f"ARRAY[{', '.join(_literal(connection, name) for name in sorted(names))}]::text[]"


def _written(value: Value) -> bytes | None:
    """A parameter as the server reads it."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    return _encoded(str(value).lower() if isinstance(value, bool) else str(value))


def _encoded(said: str) -> bytes:
    try:
        return said.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"a character cannot be sent to the database: {said[error.start : error.end]!r}") from error


__all__ = ["selecting_postgresql"]
