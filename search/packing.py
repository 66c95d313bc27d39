"""A step's arrays as bytes, and the rounding that goes with it.

What a search sees is what is stored: the Tree rounds each step to what its bytes hold, so that a search fed from the
journal, and a selector run over stored candidates, compute with the same numbers to the last bit as the search that ran.

Six bytes a token, as one little-endian number of 48 bits: the token id (20), |ln p| (14) and the certainty (14), each
statistic a float16 without its sign and its last bit, so within 0.1% of its value. Behind them, in bytes of their own,
float16 entropies, and the probabilities of drawing and the confidences where they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .rules import Ahead
from .types import Finish, Packed, Step

TOKEN_BITS, STATISTIC_BITS = 20, 14
TOKEN_BYTES = 6  # for one token's id, log-probability and certainty
# what the first byte of the extra says of the rest; both ways of drawing together: an array of its own
_ENTROPIES, _AS_LIKELY, _SURELY, _CONFIDENCES, _AHEAD = 1, 2, 4, 8, 16

_INFINITE, _NAN = 0x3E00, 0x3F00  # codes
_IDS = np.uint64((1 << TOKEN_BITS) - 1)
_STATISTIC = np.uint64((1 << STATISTIC_BITS) - 1)
_FIRST, _SECOND, _ONE = np.uint64(TOKEN_BITS), np.uint64(TOKEN_BITS + STATISTIC_BITS), np.uint64(1)

Floats = NDArray[np.float32]
Codes = NDArray[np.uint64]


def rounded(steps: Sequence[Step]) -> list[Step]:
    """The steps with their statistics as they are stored, and their bytes; those that have them come back as they are.

    Raises ValueError for a token id below 0 or of more than 20 bits.
    """
    fresh = [step for step in steps if step.packed is None]
    if not fresh:
        return list(steps)
    ends = np.cumsum([len(step) for step in fresh])
    ids = np.concatenate([step.tokens for step in fresh])
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >> TOKEN_BITS):
        raise ValueError(f"token ids from {ids.min()} to {ids.max()} do not fit {TOKEN_BITS} bits")
    likely = _encoded(np.concatenate([step.logprobs for step in fresh]))
    sure = _encoded(np.concatenate([step.certainties for step in fresh]))
    words = ids.astype(np.uint64) | likely << _FIRST | sure << _SECOND
    tokens = np.ascontiguousarray(words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :TOKEN_BYTES]).tobytes()
    logprobs, certainties = -_decoded(likely), _decoded(sure)
    entropies = _half(np.concatenate([step.entropies for step in fresh]))
    drawns = np.concatenate([step.logprobs if step.drawn is None else step.drawn for step in fresh])
    differs = np.cumsum(np.concatenate([[0], _encoded(drawns) != likely]))
    out: list[Step] = []
    begin = 0
    for step, end in zip(fresh, ends.tolist(), strict=True):
        own = slice(begin, end)
        kinds, extra, drawn = _ENTROPIES, [entropies[own].tobytes()], step.drawn
        if drawn is not None:
            # as likely as the model says (temperature 1, nothing cut off) or for certain (greedy) needs no bytes
            alike = differs[begin] == differs[end]
            half = _half(drawn[:0] if alike else drawn)
            # what its rounding would make as likely is so at once: rounded twice is rounded once
            if alike or np.array_equal(_encoded(half.astype(np.float32)), likely[own]):
                kinds |= _AS_LIKELY
                drawn = logprobs[own]
            elif not half.any():
                kinds |= _SURELY
                drawn = np.zeros(end - begin, dtype=np.float32)
            else:
                kinds |= _AS_LIKELY | _SURELY
                extra.append(half.tobytes())
                drawn = half.astype(np.float32)
        confidences = None
        if step.confidences is not None:
            kinds |= _CONFIDENCES
            half = _half(step.confidences)
            extra.append(half.tobytes())
            confidences = half.astype(np.float32)
        if step.ahead is not None:
            kinds |= _AHEAD
            extra.append(_foretold(step.ahead))
        out.append(
            Step(
                step.tokens,
                step.text,
                logprobs[own],
                certainties[own],
                entropies[own].astype(np.float32),
                step.finish,
                drawn,
                confidences,
                Packed(tokens[begin * TOKEN_BYTES : end * TOKEN_BYTES], bytes([kinds]) + b"".join(extra)),
                None if step.ahead is None else replace(step.ahead, entropy=float(np.float32(step.ahead.entropy))),
            )
        )
        begin = end
    done = iter(out)
    return [step if step.packed is not None else next(done) for step in steps]


def packed(step: Step) -> Packed:
    """The bytes of one step."""
    found = rounded([step])[0].packed
    assert found is not None
    return found


def unpack(blob: Packed, text: str, finish: Finish) -> Step:
    """The rounded step that the bytes are of. Raises ValueError for bytes that are of none."""
    return unpack_all([blob], [text], [finish])[0]


def unpack_all(blobs: Sequence[Packed], texts: Sequence[str], finishes: Sequence[Finish]) -> list[Step]:
    """As `unpack`, many at once."""
    counts = [len(blob.tokens) // TOKEN_BYTES for blob in blobs]
    words = _words(b"".join(blob.tokens for blob in blobs))
    if len(words) != sum(counts):
        raise ValueError(f"steps are not of whole tokens of {TOKEN_BYTES} bytes")
    tokens = (words & _IDS).astype(np.int32)
    logprobs, certainties = -_decoded(words >> _FIRST & _STATISTIC), _decoded(words >> _SECOND)
    out, begin = [], 0
    aheads, blobs, whole = [_ahead(blob) for blob in blobs], [_without_ahead(blob) for blob in blobs], blobs
    extras = _extras(blobs, counts)
    for blob, text, finish, count, extra, ahead in zip(whole, texts, finishes, counts, extras, aheads, strict=True):
        own = slice(begin, begin + count)
        entropies, drawn, confidences = extra
        if drawn is None and blob.extra[0] & _AS_LIKELY:
            drawn = logprobs[own]
        step = Step(tokens[own], text, logprobs[own], certainties[own], entropies, finish, drawn, confidences, blob, ahead)
        out.append(step)
        begin += count
    return out


def unpack_tokens(blob: bytes) -> NDArray[np.int32]:
    """int32 token ids [tokens]."""
    return (_words(blob) & _IDS).astype(np.int32)


def unpack_likelihoods(blobs: Sequence[bytes]) -> tuple[NDArray[np.int32], Floats, NDArray[np.int64]]:
    """int32 token ids and float32 log-probabilities, both [tokens], of many steps, one after another, and where each step ends
    [steps]."""
    words = _words(b"".join(blobs))
    ends = np.cumsum([len(blob) // TOKEN_BYTES for blob in blobs], dtype=np.int64)
    return (words & _IDS).astype(np.int32), -_decoded(words >> _FIRST & _STATISTIC), ends


# ------------------------------------------------------------------------------------------------------------ internals


def _encoded(values: Floats) -> Codes:
    """The 14-bit codes of |values|, rounded once, to even: 5 bits of exponent and 9 of mantissa, as float16 has them; infinity
    (and what is too large) and NaN have codes of their own."""
    size = np.abs(values).astype(np.float32, copy=False)
    bits = size.view(np.uint32).astype(np.int64)
    codes = ((bits + 0x1FFF + (bits >> 14 & 1)) >> 14) - (112 << 9)
    small = size < 2.0**-14  # what float16 has no exponent for: steps of 2**-23
    if small.any():
        codes[small] = np.rint(size[small] * np.float32(2.0**23)).astype(np.int64)
    codes = np.minimum(codes, _INFINITE)
    codes[np.isnan(size)] = _NAN
    out: Codes = codes.astype(np.uint64)
    return out


def _decoded(codes: Codes) -> Floats:
    return (codes << _ONE).astype(np.uint16).view(np.float16).astype(np.float32)


def _half(values: Floats) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return values.astype("<f2")


def _extras(blobs: Sequence[Packed], counts: Sequence[int]) -> Iterator[tuple[Floats, Floats | None, Floats | None]]:
    """Entropies, probabilities of drawing and confidences of each step, where they have bytes of their own."""
    arrays = np.frombuffer(b"".join(blob.extra[1:] for blob in blobs), dtype="<f2").astype(np.float32)
    at = 0
    for blob, count in zip(blobs, counts, strict=True):
        kinds = blob.extra[0] if blob.extra else 0
        own = kinds & _AS_LIKELY and kinds & _SURELY
        have = (bool(kinds & _ENTROPIES), bool(own), bool(kinds & _CONFIDENCES))
        if len(blob.extra) != 1 + 2 * count * sum(have):
            raise ValueError(f"{len(blob.extra)} bytes of statistics do not fit {count} tokens")
        taken: list[Floats | None] = []
        for there in have:
            taken.append(arrays[at : at + count] if there else None)
            at += count * there
        entropies = taken[0] if taken[0] is not None else np.full(count, np.nan, dtype=np.float32)
        surely = kinds & _SURELY and not own
        yield entropies, np.zeros(count, dtype=np.float32) if surely else taken[1], taken[2]


_EACH = np.dtype([("tokens", "<i4"), ("logprobs", "<f4"), ("keys", "<f4")])


def _foretold(ahead: Ahead) -> bytes:
    """The entropy, float32, twelve bytes a token, and how many tokens in the last two bytes."""
    rows = np.zeros(len(ahead.tokens), dtype=_EACH)
    rows["tokens"], rows["logprobs"], rows["keys"] = ahead.tokens, ahead.logprobs, ahead.keys
    return np.float32(ahead.entropy).tobytes() + rows.tobytes() + len(rows).to_bytes(2, "little")


def ahead_bytes(blob: Packed) -> int:
    """How many bytes of the extra are what a paused step says of its next token. Raises ValueError where that cannot be."""
    if not (blob.extra and blob.extra[0] & _AHEAD):
        return 0
    size = 6 + _EACH.itemsize * int.from_bytes(blob.extra[-2:], "little")
    if size > len(blob.extra) - 1:
        raise ValueError(f"{len(blob.extra)} bytes of statistics are too few for what they say is in them")
    return size


def _ahead(blob: Packed) -> Ahead | None:
    size = ahead_bytes(blob)
    if not size:
        return None
    own = blob.extra[-size:-2]
    rows = np.frombuffer(own, dtype=_EACH, offset=4)
    entropy = float(np.frombuffer(own, dtype="<f4", count=1)[0])
    return Ahead(entropy, rows["tokens"].copy(), rows["logprobs"].copy(), rows["keys"].copy())


def _without_ahead(blob: Packed) -> Packed:
    size = ahead_bytes(blob)
    return Packed(blob.tokens, blob.extra[:-size]) if size else blob


def _words(blob: bytes) -> Codes:
    if len(blob) % TOKEN_BYTES:
        raise ValueError(f"{len(blob)} bytes are not whole tokens of {TOKEN_BYTES}")
    wide = np.zeros((len(blob) // TOKEN_BYTES, 8), dtype=np.uint8)
    wide[:, :TOKEN_BYTES] = np.frombuffer(blob, dtype=np.uint8).reshape(-1, TOKEN_BYTES)
    return wide.reshape(-1).view("<u8").astype(np.uint64, copy=False)


__all__ = ["TOKEN_BYTES", "ahead_bytes", "packed", "rounded", "unpack", "unpack_all", "unpack_likelihoods", "unpack_tokens"]
