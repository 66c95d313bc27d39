"""Packing: what a search sees is what its bytes hold, and packing it again changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import step_of
from hypothesis import example, given
from hypothesis import strategies as st

from search.packing import TOKEN_BYTES, packed, rounded, unpack, unpack_all, unpack_likelihoods, unpack_tokens
from search.types import Finish, Packed, Step

NAMES = ("logprobs", "certainties", "entropies", "drawn", "confidences")
LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, LARGEST, 65520.0, 1e-7, 6e-8, -1e-45, SMALLEST_NORMAL]

NUMBERS = st.floats(width=32) | st.sampled_from(SPECIAL) | st.floats(-40, 0, width=32)


def _array(n: int) -> st.SearchStrategy[Any]:
    return st.lists(NUMBERS, min_size=n, max_size=n).map(lambda values: np.array(values, np.float32))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    n = draw(st.integers(0, 5))
    ids = st.lists(st.integers(0, 2**20 - 1) | st.sampled_from([0, 2**20 - 1]), min_size=n, max_size=n)
    logprobs = draw(_array(n))
    drawn = draw(st.sampled_from(["none", "likely", "greedy", "other"]))
    return Step(
        np.array(draw(ids), np.int32),
        draw(st.text(max_size=5)),
        logprobs,
        draw(_array(n)),
        draw(_array(n)),
        draw(st.sampled_from(list(Finish))),
        {"none": None, "likely": logprobs, "greedy": np.zeros(n, np.float32), "other": draw(_array(n))}[drawn],
        draw(st.none() | _array(n)),
    )


def unpacked(blob: Packed, text: str = "", finish: Finish = Finish.STEP) -> Step:
    return unpack(blob, text, finish)


def same(a: Step, b: Step) -> None:
    """To the last bit; NaN is NaN, and the sign of a zero counts."""
    assert (a.text, a.finish, a.packed) == (b.text, b.finish, b.packed)
    assert a.tokens.dtype == b.tokens.dtype == np.int32
    assert a.tokens.tolist() == b.tokens.tolist()
    for name in NAMES:
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype == np.float32, name
            assert np.array_equal(one, other, equal_nan=True), (name, one, other)
            finite = ~np.isnan(one)
            assert np.array_equal(np.signbit(one[finite]), np.signbit(other[finite])), (name, one, other)


@given(steps())
def test_a_rounded_step_comes_back_from_its_bytes(step: Step) -> None:
    [seen] = rounded([step])
    assert seen.packed is not None
    same(unpacked(seen.packed, step.text, step.finish), seen)


@given(steps())
@example(Step(np.zeros(1, np.int32), "", *[np.zeros(1, np.float32)] * 3, Finish.STEP, np.array([6e-8], np.float32)))
def test_rounding_twice_is_rounding_once(step: Step) -> None:
    """Else a step that was replayed and journaled again would drift."""
    [once] = rounded([step])
    assert rounded([once])[0] is once, "a step that has its bytes was packed again"
    [twice] = rounded([replace(once, packed=None)])
    same(once, twice)


@given(st.lists(steps(), max_size=5))
def test_steps_packed_together_are_as_packed_alone(several: list[Step]) -> None:
    for alone, together in zip((rounded([step])[0] for step in several), rounded(several), strict=True):
        same(alone, together)
    mixed = [rounded([step])[0] if i % 2 else step for i, step in enumerate(several)]
    for alone, together in zip(rounded(several), rounded(mixed), strict=True):
        same(alone, together)


@given(steps())
def test_the_ids_are_read_without_the_statistics(step: Step) -> None:
    blob = packed(step)
    assert len(blob.tokens) == 6 * len(step) == TOKEN_BYTES * len(step)
    assert unpack_tokens(blob.tokens).tolist() == step.tokens.tolist()
    assert unpack_tokens(blob.tokens).dtype == np.int32


@given(steps())
def test_the_statistics_keep_their_signs_and_what_is_not_finite(step: Step) -> None:
    """ln p is never above 0 and a certainty never below, so their signs need no bit."""
    [seen] = rounded([step])
    assert not (seen.logprobs > 0).any()
    assert not (seen.certainties < 0).any()
    for name in ("logprobs", "certainties", "entropies"):
        exact, kept = getattr(step, name), getattr(seen, name)
        assert np.array_equal(np.isnan(exact), np.isnan(kept)), name
        assert not (np.isfinite(kept) & np.isinf(exact)).any(), name
    assert np.isinf(seen.logprobs[np.isinf(step.logprobs)]).all()


def _errors() -> tuple[Any, Any]:
    """Relative errors of a certainty, over four powers of two, and of the entropies."""
    exact = np.linspace(0.5, 8, 20_001, dtype=np.float32)
    [seen] = rounded([Step(np.zeros(len(exact), np.int32), "", -exact, exact, exact, Finish.STEP)])
    assert np.array_equal(seen.logprobs, -seen.certainties)
    return (seen.certainties - exact) / exact, (seen.entropies - exact) / exact


def test_a_statistic_is_within_thirteen_hundredths_of_a_percent() -> None:
    certainty, entropy = _errors()
    assert abs(entropy).max() <= 0.0005
    assert abs(certainty).max() <= 0.0013


def test_rounding_is_to_the_nearest_on_both_sides() -> None:
    """One that is always up, or always down, is a bias of every sum and mean."""
    certainty, entropy = _errors()
    assert abs(entropy.mean()) < 1e-5
    assert abs(certainty.mean()) < 1e-5


def test_a_nan_stays_one_whatever_its_bits() -> None:
    for bits in (0x7FC00000, 0x7F800001, 0xFFC00000, 0x7FFFFFFF):
        nan = np.array([bits], np.uint32).view(np.float32)
        [seen] = rounded([Step(np.array([1], np.int32), "", nan, nan, nan, Finish.STEP)])
        for name in ("logprobs", "certainties", "entropies"):
            assert np.isnan(getattr(seen, name)).all(), (hex(bits), name)


def _extra(step: Step) -> int:
    """Bytes beyond those of the ids, the log-probabilities and the certainties, a token."""
    extra = len(packed(step).extra) - 1
    assert extra % len(step) == 0
    return extra // len(step)


def test_the_ways_of_drawing_that_are_usual_cost_no_bytes() -> None:
    plain = step_of([100, 101, 1], 3)
    other = np.array([-0.25, -1.5, -2.0], np.float32)
    assert _extra(plain) == 2
    assert _extra(replace(plain, drawn=plain.logprobs)) == 2
    assert _extra(replace(plain, drawn=np.zeros(3, np.float32))) == 2
    assert _extra(replace(plain, drawn=other)) == 4
    assert _extra(replace(plain, drawn=plain.logprobs, confidences=other)) == 4
    assert _extra(replace(plain, drawn=other, confidences=other)) == 6


def test_the_four_ways_of_drawing_are_told_apart() -> None:
    plain = step_of([100, 101, 1], 3)
    likely = rounded([plain])[0].logprobs.tolist()
    for drawn, wanted in (
        (None, None),
        (plain.logprobs, likely),
        (np.zeros(3, np.float32), [0, 0, 0]),
        (np.array([-0.25, -1.5, 0], np.float32), [-0.25, -1.5, 0]),
    ):
        back = unpacked(packed(replace(plain, drawn=drawn))).drawn
        assert (None if back is None else back.tolist()) == wanted


def test_an_empty_step_has_no_bytes_and_is_one_all_the_same() -> None:
    empty = step_of([])
    blob = packed(empty)
    assert (blob.tokens, len(blob.extra)) == (b"", 1)
    back = unpacked(blob, finish=Finish.BUDGET)
    assert (len(back), back.logprob, back.certainty, back.finish) == (0, 0.0, 0.0, Finish.BUDGET)
    assert rounded([]) == []


@pytest.mark.parametrize("bad", [-1, 2**20, 2**31 - 1])
def test_an_id_that_does_not_fit_is_refused_whoever_else_is_in_the_batch(bad: int) -> None:
    """It would run into the statistics without a word."""
    step = replace(step_of([5, 6]), tokens=np.array([5, bad], np.int32))
    with pytest.raises(ValueError, match=f"token ids from {min(5, bad)} to {max(5, bad)} do not fit 20 bits"):
        rounded([step_of([5, 5]), step])
    with pytest.raises(ValueError, match="do not fit 20 bits"):
        packed(step)


def test_the_bytes_are_little_endian_and_laid_out_as_the_module_says() -> None:
    """They are in databases: a change of them is a new version of the schema."""
    one = np.array([1.5], np.float32)
    blob = packed(Step(np.array([0x54321], np.int32), "", -one, 2 * one, 4 * one, Finish.STEP, 0 * one, one))
    half = np.array([1.5, 3.0, 6.0, 1.5], np.float16).view(np.uint16).astype(int)
    word = 0x54321 | int(half[0] >> 1) << 20 | int(half[1] >> 1) << 34
    assert blob.tokens == word.to_bytes(6, "little")
    assert blob.extra == bytes([1 | 4 | 8]) + int(half[2]).to_bytes(2, "little") + int(half[3]).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (Packed(b"12345", b"\x01"), "5 bytes are not whole tokens of 6"),
        (Packed(b"123456", b"\x01\x00"), "bytes of statistics do not fit|buffer"),
        (Packed(b"123456", b""), "0 bytes of statistics do not fit 1 tokens"),
        (Packed(b"", b""), "0 bytes of statistics do not fit 0 tokens"),
        (Packed(b"123456", b"\x01\x00\x00\x00"), "bytes of statistics do not fit|buffer"),
        (Packed(b"123456", b"\x09\x00\x00"), "3 bytes of statistics do not fit 1 tokens"),
    ],
)
def test_bytes_that_are_of_no_step_are_refused(blob: Packed, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        unpacked(blob)


@given(st.lists(steps(), max_size=5))
def test_steps_unpacked_together_are_as_unpacked_alone(several: list[Step]) -> None:
    blobs = [packed(step) for step in several]
    texts, finishes = [step.text for step in several], [step.finish for step in several]
    together = unpack_all(blobs, texts, finishes)
    ids, logprobs, ends = unpack_likelihoods([blob.tokens for blob in blobs])
    assert ids.tolist() == [token for step in together for token in step.tokens.tolist()]
    assert np.array_equal(logprobs, np.concatenate([[], *(step.logprobs for step in together)]), equal_nan=True)
    assert np.diff(ends, prepend=0).tolist() == [len(step) for step in together]
    assert len(together) == len(several)
    for each, step in zip(together, rounded(several), strict=True):
        same(each, step)


def test_bytes_of_one_step_do_not_pass_for_those_of_its_neighbour() -> None:
    """Twelve bytes are two tokens, but not where one step has five of them and the next seven."""
    good = packed(step_of([5]))
    with pytest.raises(ValueError, match="whole tokens of 6"):
        unpack_all([good._replace(tokens=b"12345"), good._replace(tokens=b"1234567")], ["", ""], [Finish.STEP] * 2)
    with pytest.raises(ValueError, match="bytes of statistics do not fit"):
        unpack_all([good._replace(extra=good.extra[:1]), good._replace(extra=good.extra + b"00")], ["", ""], [Finish.STEP] * 2)
