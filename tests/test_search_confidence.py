"""Confidences of groups: the hand-worked values of card C2, and what must hold for any trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.confidence import MEASURES, bottom, groups, lowest, mean, measured, tail, threshold

TRACE = [1.0, 2.0, 3.0, 4.0]
# what the store keeps: float16
HALVES = st.floats(0, 100, width=16)


def test_the_windows_of_the_card() -> None:
    """Card C2: confidences [1, 2, 3, 4], window 2."""
    assert groups(TRACE, 2).tolist() == [1.5, 2.5, 3.5]
    assert lowest(TRACE, 2) == 1.5
    assert tail(TRACE, 2) == 3.5
    assert mean(TRACE) == 2.5
    assert bottom(TRACE, 2) == 1.5  # a tenth of three groups is less than one: the weakest
    assert bottom(TRACE, 2, share=0.7) == 2.0  # two of three
    assert bottom(TRACE, 2, share=1.0) == 2.5


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("window", [4, 5, 2048])
def test_a_trace_no_longer_than_the_window_is_its_plain_mean(measure: str, window: int) -> None:
    assert measured(measure, TRACE, window) == 2.5


@pytest.mark.parametrize("measure", MEASURES)
def test_a_trace_without_tokens_has_the_lowest_confidence(measure: str) -> None:
    assert measured(measure, [], 3) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_confidence_that_is_no_number_counts_as_the_lowest_and_spoils_only_its_own_groups(bad: float) -> None:
    assert groups([1.0, bad, 3.0, 4.0], 2).tolist() == [0.5, 1.5, 3.5]


def test_the_thresholds_of_the_card_and_their_direction() -> None:
    """Card C2: lowest values 1 to 10; the percentile is easily turned round: keeping few asks for more."""
    values = [float(v) for v in range(10, 0, -1)]
    assert threshold(values, 0.1) == pytest.approx(9.1)
    assert threshold(values, 0.9) == pytest.approx(1.9)
    assert threshold(values, 1.0) == 1.0
    assert threshold([3.0], 0.1) == 3.0


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40), st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_the_threshold_is_numpys_linear_percentile_and_the_surest_reaches_it(values: list[float], keep: float) -> None:
    found = threshold(values, keep)
    assert found == pytest.approx(float(np.percentile(values, 100 * (1 - keep))), rel=1e-9, abs=1e-9)
    assert max(values) >= found
    assert threshold(values, 1.0) == min(values)


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
def test_a_value_that_is_the_threshold_is_kept_whatever_one_minus_keep_rounds_to(keep: float) -> None:
    """Of 11 values the quantile of a whole tenth is one of them."""
    values = [0.1 * v for v in range(11)]
    assert sum(v >= threshold(values, keep) for v in values) == round(keep * 10) + 1


@given(st.lists(HALVES, max_size=60), st.integers(1, 70))
def test_the_windows_are_those_of_a_plain_loop(trace: list[float], window: int) -> None:
    found = groups(trace, window)
    if len(trace) <= window:
        assert found.tolist() == pytest.approx([sum(trace) / len(trace) if trace else 0.0])
    else:
        assert found.tolist() == pytest.approx([sum(trace[i : i + window]) / window for i in range(len(trace) - window + 1)])


@given(st.lists(HALVES, min_size=1, max_size=60), st.integers(1, 20))
def test_the_weakest_group_is_no_surer_than_the_weakest_tenth_and_any_other(trace: list[float], window: int) -> None:
    assert lowest(trace, window) <= bottom(trace, window) <= bottom(trace, window, 1.0) + 1e-9
    assert lowest(trace, window) <= tail(trace, window)


@given(st.lists(HALVES, min_size=1, max_size=40), st.integers(1, 20))
def test_a_longer_trace_never_raises_the_lowest_once_the_window_is_full(trace: list[float], window: int) -> None:
    """So a trace that fell below a threshold stays below it, however it goes on."""
    for n in range(window, len(trace)):
        assert lowest(trace[: n + 1], window) <= lowest(trace[:n], window)


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="window must be at least 1 token, not 0"):
        lowest(TRACE, 0)
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, not 0"):
        bottom(TRACE, 2, share=0)
    with pytest.raises(ValueError, match="a threshold needs at least 1 value"):
        threshold([], 0.1)
    for keep in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="keep must be above 0 and at most 1, not"):
            threshold([1.0], keep)
    with pytest.raises(ValueError, match=r"unknown measure 'least'"):
        measured("least", TRACE)
