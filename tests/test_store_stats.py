"""Intervals, against scipy and against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from store.stats import bootstrap_p, holm, interval, mcnemar, mean_interval, resampled_means, wilson


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


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 6), (3, 3), (5, 12), (12, 5), (40, 70), (600, 500)])
def test_mcnemars_p_is_scipys_exact_binomial(first: int, second: int) -> None:
    known = scipy_stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(known, rel=1e-9)


def test_mcnemar_needs_counts() -> None:
    with pytest.raises(ValueError, match="counts of problems must be 0 or more, not -1 and 2"):
        mcnemar(-1, 2)


def test_holm_gives_hand_worked_values_in_the_order_asked() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 raised to the one before, 0.5."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.8, 0.9]) == [1.0, 1.0, 1.0]
    assert holm([]) == []


def test_the_resampled_means_have_scipys_interval_and_keep_rows_together() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(80)
    values = np.column_stack([a, a - 1, rng.random(80)])
    drawn = resampled_means(values, 9_999, seed=1)
    assert drawn.shape == (9_999, 3)
    assert np.ptp(drawn[:, 0] - drawn[:, 1]) < 1e-12
    known = scipy_stats.bootstrap((a,), np.mean, method="percentile", rng=1).confidence_interval
    assert interval(drawn[:, 0]) == pytest.approx((known.low, known.high), abs=4e-3)
    assert np.array_equal(drawn, resampled_means(values, 9_999, seed=1))
    assert not np.array_equal(drawn, resampled_means(values, 9_999, seed=2))


def test_the_bootstraps_p_is_near_that_of_the_t_test_and_is_never_0() -> None:
    rng = np.random.default_rng(2)
    for shift in (0.0, 0.05, 0.1):
        differences = rng.normal(shift, 0.3, 120)
        drawn = resampled_means(differences[:, None], 20_000)[:, 0]
        assert bootstrap_p(drawn) == pytest.approx(scipy_stats.ttest_1samp(differences, 0).pvalue, abs=0.03)
    assert bootstrap_p(np.full(999, 0.2)) == 2 / 1000
    assert bootstrap_p(np.zeros(999)) == 1.0


@pytest.mark.parametrize(("shape", "resamples"), [((0, 2), 10), ((3, 2), 0)])
def test_a_bootstrap_of_nothing_is_refused(shape: tuple[int, int], resamples: int) -> None:
    with pytest.raises(ValueError, match="a bootstrap needs at least 1 problem and 1 resample"):
        resampled_means(np.zeros(shape), resamples)


def test_a_mean_of_equal_outcomes_is_not_taken_for_sure() -> None:
    """All of ten problems solved, or all by half: resamples are all the same, which is no interval."""
    assert mean_interval(np.ones(10), 1 - 1e-15, 10, np.ones(100)) == wilson(10, 10)
    assert mean_interval(np.zeros(10), 0.0, 10, np.zeros(100)) == wilson(0, 10)
    assert mean_interval(np.full(10, 0.5), 0.5, 10, np.full(100, 0.5)) == wilson(5, 10)


def test_a_mean_of_ones_and_zeros_has_the_interval_of_an_accuracy() -> None:
    drawn, values = np.linspace(0.4, 0.6, 101), np.array([1.0] * 5 + [0.0] * 5)
    assert mean_interval(values, 0.5, 10, drawn) == wilson(5, 10)
    values[:2] = 0.9, 0.1
    assert mean_interval(values, 0.5, 10, drawn) == interval(drawn)
