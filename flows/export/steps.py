"""Candidates' tokens and texts as columns of lists.

token_ids     int32; NULL = not known (written elsewhere)
logprobs      float, ln p of each token, nats, <= 0; NULL = not known
certainties   float, KL(uniform || p) at each token, nats, higher = surer; NULL = not known
entropies     float, nats, lower = surer; NULL = not kept
drawn         float, ln of the probability with which each token was drawn, 0 where greedy; NULL = not kept
confidences   float, DeepConf's, higher = surer; NULL = not kept
ahead         bytes, what a paused step says of its next token (search.packing); NULL = nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.packing import ahead_bytes, unpack_all
from search.types import Finish, Packed, Step
from store.values import exact_text

from .told import Exported

if TYPE_CHECKING:
    import pyarrow as pa

_NOTHING = b"\x00"  # candidate.extra of one whose statistics are not known
_REPLACED = ("text_zlib", "packed", "extra")  # columns that are bytes in the database


def columns_of_steps(batch: pa.RecordBatch, rows: Sequence[Any], made: Exported) -> pa.RecordBatch:
    """The batch of the candidates' plain columns with the exact text in place of its view, and the lists."""
    import pyarrow as pa

    texts = [exact_text(row.text, row.text_zlib) for row in rows]
    arrays = {name: batch.column(name) for name in batch.schema.names}
    arrays["text"] = pa.array([made.text(text) for text in texts], pa.string())
    arrays["text_bytes"] = pa.array([_unheld(text) for text in texts], pa.binary())
    blobs = [Packed(row.packed, row.extra) for row in rows]
    steps = unpack_all(blobs, texts, [Finish(row.finish) for row in rows]) if rows else []
    known = [not (row.extra == _NOTHING and bool(np.isnan(s.logprobs).all())) for s, row in zip(steps, rows, strict=True)]
    there = [bool(row.packed) or not (row.tokens or text) for row, text in zip(rows, texts, strict=True)]
    kept = [bool(row.extra and row.extra[0] & 1) for row in rows]
    arrays["token_ids"] = _lists([s.tokens if t else None for s, t in zip(steps, there, strict=True)], np.int32)
    arrays["logprobs"] = _lists([s.logprobs if k else None for s, k in zip(steps, known, strict=True)], np.float32)
    arrays["certainties"] = _lists([s.certainties if k else None for s, k in zip(steps, known, strict=True)], np.float32)
    arrays["entropies"] = _lists([s.entropies if k else None for s, k in zip(steps, kept, strict=True)], np.float32)
    arrays["drawn"] = _lists([s.drawn for s in steps], np.float32)
    arrays["confidences"] = _lists([s.confidences for s in steps], np.float32)
    arrays["ahead"] = pa.array([_ahead(step) for step in steps], pa.binary())
    return pa.RecordBatch.from_pydict({name: array for name, array in arrays.items() if name not in _REPLACED})


def _unheld(text: str) -> bytes | None:
    """The text where UTF-8 cannot hold it."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw if not text.isascii() and raw.decode("utf-8", "replace") != text else None


def _ahead(step: Step) -> bytes | None:
    assert step.packed is not None
    size = ahead_bytes(step.packed)
    return step.packed.extra[-size:] if size else None


def _lists(values: Sequence[NDArray[Any] | None], kind: type) -> pa.Array:
    """A column of lists, without a Python object a number."""
    import pyarrow as pa

    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
    flat: NDArray[Any] = np.concatenate([np.zeros(0, kind), *(value for value in values if value is not None)]).astype(
        kind, copy=False
    )
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=mask)


__all__ = ["columns_of_steps"]
