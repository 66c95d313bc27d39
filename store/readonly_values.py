"""PostgreSQL's values as those of SQLite: None, truths, numbers, texts, blobs."""

from __future__ import annotations

from typing import Any

from psycopg.adapt import AdaptersMap, Loader
from psycopg.postgres import types
from psycopg.types import bool as truths
from psycopg.types import numeric, string

LONGEST = 4000  # digits; Python refuses to read a little more than that as a number


class _Numeric(Loader):
    """A whole number as int, another as float; a whole one of more than 4000 digits as its text."""

    def load(self, data: Any) -> int | float | str:
        said = bytes(data)
        if not said.lstrip(b"-").isdigit():
            return float(said)
        return int(said) if len(said) <= LONGEST else said.decode()


class PlainValues:
    """How values are read: numbers, truths, texts and blobs; everything else as the text that the server makes of it."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(types=types)
        self.adapters.register_loader(0, string.TextLoader)  # of a type that is not named here
        for name in ("text", "varchar", "bpchar", "name"):
            self.adapters.register_loader(name, string.TextLoader)
        for name in ("int2", "int4", "int8", "oid"):
            self.adapters.register_loader(name, numeric.IntLoader)
        for name in ("float4", "float8"):
            self.adapters.register_loader(name, numeric.FloatLoader)
        self.adapters.register_loader("numeric", _Numeric)
        self.adapters.register_loader("bool", truths.BoolLoader)
        self.adapters.register_loader("bytea", string.ByteaLoader)


__all__ = ["PlainValues"]
