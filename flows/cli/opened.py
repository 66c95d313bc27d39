"""The database that a verb reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.database import Database


@contextmanager
def stored(database: str) -> Iterator[Database]:
    """An existing database; a file that is not there has no runs to show."""
    from sqlalchemy.exc import DBAPIError

    from store.database import explained, open_database

    with open_database(database, create=False) as opened:
        try:
            yield opened
        except DBAPIError as error:
            raise explained(error, opened.shown, "read") from error
