"""New databases in a fraction of the time: what the migrations say to an empty database is the same each time, so that it is
kept from the first one of each kind and said again: alembic takes longer to think of it than many a test takes.

Tests of the migrations themselves take `MIGRATIONS` in its place."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event, inspect

import store.database
from store.schema import HEAD

MIGRATIONS = store.database._upgrade
_said: dict[str, list[tuple[str, Any]]] = {}  # by dialect: statements and their parameters


def upgrade(connection: Connection, version: str = HEAD) -> None:
    """`store.database._upgrade`. One that has tables, or wants another version, is migrated."""
    if version != HEAD or inspect(connection).get_table_names():
        MIGRATIONS(connection, version)
    elif said := _said.get(connection.dialect.name):
        for statement, parameters in said:
            connection.exec_driver_sql(statement, parameters or None)
    else:
        _said[connection.dialect.name] = _listened(connection, version)


def _listened(connection: Connection, version: str) -> list[tuple[str, Any]]:
    said: list[tuple[str, Any]] = []

    def hear(connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            said.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", hear)
    try:
        MIGRATIONS(connection, version)
    finally:
        event.remove(connection, "before_cursor_execute", hear)
    return said


__all__ = ["MIGRATIONS", "upgrade"]
