"""How values become columns: text as a view, arrays as blobs, JSON and numbers without NaN.

The token ids are the truth. Text is a view of them that both databases can hold and compare.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.types import Step

TEXT_LIMIT = 1_000_000  # characters of one text column
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


def pack(step: Step) -> tuple[bytes, bytes]:
    """The token ids (int32, little endian) and the statistics: the float32 little-endian arrays log-probabilities,
    certainties, entropies and, where the run asked for them, confidences one after the other, each as long as the tokens.
    4 and 12 (or 16) bytes a token."""
    asked = () if step.confidences is None else (step.confidences,)
    stats = np.concatenate([step.logprobs, step.certainties, step.entropies, *asked])
    return np.asarray(step.tokens, dtype="<i4").tobytes(), stats.astype("<f4").tobytes()


def unpack_tokens(blob: bytes) -> NDArray[np.int32]:
    """int32 token ids [tokens]."""
    return np.frombuffer(blob, dtype="<i4").astype(np.int32)


def unpack_stats(blob: bytes, tokens: int) -> NDArray[np.float32]:
    """float32 [3 or 4, tokens]: log-probabilities, certainties, entropies and, where they were kept, confidences (nats)."""
    stats = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    return stats.reshape(-1, tokens) if tokens else stats.reshape(3, 0)
