"""What a column of a query's rows can be, from the values that it has had: SQLite's columns have no type of their own."""

from __future__ import annotations

from collections.abc import Iterable

from .readonly import Value

_EXACT = 2**53  # whole numbers up to here are exact as a float
_LONG = 2**63
_KINDS: dict[type, str] = {bool: "bool", float: "float", str: "text", bytes: "blob"}


class Kinds:
    """The kinds of values that a column has had."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def see(self, values: Iterable[Value]) -> None:
        self.seen |= {kind_of(value) for value in values if value is not None}

    @property
    def kind(self) -> str:
        """null (nothing but NULL), bool, int, float, text, blob, or mixed: no one of these holds all values exactly. Truths
        among numbers are 0 and 1; whole numbers among fractions are floats, where they are exact as such."""
        if len(self.seen) <= 1:
            kind = next(iter(self.seen), "null")
            return {"exact": "int", "long": "int", "huge": "mixed"}.get(kind, kind)
        if self.seen <= {"bool", "exact", "long"}:
            return "int"
        return "float" if self.seen <= {"bool", "exact", "float"} else "mixed"


def kind_of(value: Value) -> str:
    if type(value) is int:
        return "exact" if -_EXACT <= value <= _EXACT else "long" if -_LONG <= value < _LONG else "huge"
    return _KINDS[type(value)]


__all__ = ["Kinds", "kind_of"]
