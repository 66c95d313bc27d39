"""How values become columns: text as a view, arrays as blobs, JSON and numbers without NaN.

The token ids are the truth. Text is a view of them that both databases can hold and compare.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

TEXT_LIMIT = 1_000_000  # characters of one text column
LONG = 256  # characters from which a text is compressed, where the database does not do it
WORTH = 0.7  # and the share of its bytes that it may keep by it
# PostgreSQL refuses NUL, both drivers refuse lone surrogates, and SQLite's length() stops at a NUL
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Text(NamedTuple):
    """A text as it is stored, and what was done to it."""

    text: str
    lossy: bool  # NUL or lone surrogates were replaced by U+FFFD
    truncated: bool  # cut to TEXT_LIMIT characters


def view(text: str) -> Text:
    """The storable view of any text."""
    kept = text[:TEXT_LIMIT]
    cleaned = _UNSTORABLE.sub("\ufffd", kept)
    return Text(cleaned, cleaned != kept, len(text) > TEXT_LIMIT)


def clean(text: str) -> str:
    """The storable view where no flag is kept: names, reasons, errors."""
    return view(text).text


def clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)


def finite(value: float) -> float | None:
    """The number, or None for NaN and the infinities: they never reach a numeric column."""
    return value if math.isfinite(value) else None


def dumps(value: Any) -> str:
    """Canonical JSON in ASCII. Raises ValueError for NaN or inf, TypeError for what JSON has no form for."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as int32, little endian."""
    return struct.pack(f"<{len(ids)}i", *ids)


def unpack_ids(blob: bytes) -> tuple[int, ...]:
    """The token ids that `pack_ids` was given."""
    return struct.unpack(f"<{len(blob) // 4}i", blob)


class Stored(NamedTuple):
    """A candidate's text as columns. Whatever the columns can hold, the exact text comes back from them."""

    text: str | None
    text_zlib: bytes | None
    text_lossy: bool
    text_truncated: bool


def stored_text(text: str, compress: bool) -> Stored:
    """The columns of a text. `compress`: long ones are, and have no plain column (PostgreSQL does that by itself)."""
    seen = view(text)
    inexact = seen.lossy or seen.truncated
    if not inexact and not (compress and len(text) >= LONG):
        return Stored(seen.text, None, False, False)
    raw = text.encode("utf-8", "surrogatepass")
    small = zlib.compress(raw)
    if compress and len(text) >= LONG and len(small) <= WORTH * len(raw):
        return Stored(None, small, seen.lossy, seen.truncated)
    return Stored(seen.text, small if inexact else None, seen.lossy, seen.truncated)


def exact_text(text: str | None, text_zlib: bytes | None) -> str:
    """The text of a step as it was generated."""
    if text_zlib is None:
        return text or ""
    return zlib.decompress(text_zlib).decode("utf-8", "surrogatepass")


def plain_text(text: str | None, text_zlib: bytes | None) -> str:
    """The storable view of a step's text, whichever column holds it. In SQLite's SQL: plain_text(text, text_zlib)."""
    return text if text is not None else view(exact_text(text, text_zlib)).text
