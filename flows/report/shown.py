"""How values are shown: numbers by their kind, unknown ones as a dash, texts without what HTML cannot carry."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from flows.report.document import Column, Kind, Value

UNKNOWN = "–"
MINUS = "−"
LARGE = 1e5  # from here on no digits after the point

_DIGITS: dict[Kind, int] = {"share": 3, "signed": 3, "number": 1, "seconds": 1}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+(?:Z|\+00:00)")
_SURROGATES = re.compile("[\ud800-\udfff]")
_JOINT = re.compile(r"(?<=[,:])(?=[^\s,:])")


def number(value: float, kind: Kind) -> str:
    """A number by its kind: count 1,234; share 0.767; signed +0.012; number and seconds 1,234.5."""
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    if kind == "share" and 0 < value < 0.0005:
        return "<0.001"  # a p of 0 there is not
    if kind == "text":
        return str(value).replace("-", MINUS, 1)
    digits = 0 if abs(value) >= LARGE else _DIGITS.get(kind, 0)
    size = f"{abs(value):,.{digits}f}"
    zero = not size.strip("0.,")
    plus = "+" if kind == "signed" and not zero else ""
    return (MINUS if value < 0 and not zero else plus) + size


def shown(value: Value, kind: Kind = "text") -> str:
    """Any value, as text."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value, kind)


def wrapped(value: Value, kind: Kind = "text") -> Markup:
    """`shown`, as a text that wraps behind the commas and colons of a name, and not in the middle of a word."""
    parts = _JOINT.split(shown(value, kind)) if isinstance(value, str) else [shown(value, kind)]
    return Markup("<wbr>").join(plain(part) for part in parts)


def moment(made: str) -> str:
    """A time in UTC, to the minute; any other text as it is."""
    told = _MOMENT.fullmatch(made)
    return f"{told[1]} {told[2]} UTC" if told else made


def exact(value: Value) -> str | None:
    """The number, digit for digit; None of what is no number."""
    return repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def interval(row: Mapping[str, Value], column: Column) -> tuple[Value, Value] | None:
    """The two ends of a value's interval, where both are known."""
    low, high = row.get(column.low) if column.low else None, row.get(column.high) if column.high else None
    return None if low is None or high is None else (low, high)


def plain(value: Any) -> Any:
    """What a template puts out. HTML cannot carry NUL and lone surrogates, and reads a carriage return as a line feed."""
    if type(value) is not str:
        return value
    if "\0" in value:
        value = value.replace("\0", "␀")
    if not value.isascii():
        value = _SURROGATES.sub("\ufffd", value)
    return Markup(str(escape(value)).replace("\r", "&#13;")) if "\r" in value else value


__all__ = ["MINUS", "UNKNOWN", "exact", "interval", "moment", "number", "plain", "shown", "wrapped"]
