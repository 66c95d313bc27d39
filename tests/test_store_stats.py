"""Intervals, against scipy and against what they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from store.stats import paired_bootstrap, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 8), (0, 500), (250, 500), (499, 500)])
def test_the_wilson_interval_is_scipys(successes: int, n: int) -> None:
    known = scipy_stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((known.low, known.high), abs=1e-12)


def test_the_wilson_interval_stays_in_bounds_and_knows_nothing_of_no_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    with pytest.raises(ValueError, match="successes must be between 0 and n=2, not 3"):
        wilson(3, 2)


def test_the_paired_bootstrap_agrees_with_scipys_and_repeats_by_seed() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(80)
    b = a + rng.normal(0.1, 0.2, 80)
    known = scipy_stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), paired=True, method="percentile", rng=1
    ).confidence_interval
    estimate, low, high = paired_bootstrap(a.tolist(), b.tolist())
    assert estimate == pytest.approx(a.mean() - b.mean())
    assert (low, high) == pytest.approx((known.low, known.high), abs=5e-3)
    assert paired_bootstrap(a.tolist(), b.tolist()) == (estimate, low, high)
    assert paired_bootstrap(a.tolist(), b.tolist(), seed=1) != (estimate, low, high)


def test_pairs_stay_together_so_a_constant_difference_has_no_width() -> None:
    a = [0.25, 8.0, 3.0, 100.0]
    estimate, low, high = paired_bootstrap(a, [x - 1 for x in a])
    assert (estimate, low, high) == pytest.approx((1, 1, 1))


def test_another_statistic_can_be_asked() -> None:
    estimate, low, high = paired_bootstrap([2.0] * 5, [1.0] * 5, statistic=lambda x, y: float(x.sum() / y.sum()))
    assert (estimate, low, high) == (2, 2, 2)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0])])
def test_what_cannot_be_paired_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="a paired comparison needs"):
        paired_bootstrap(a, b)
