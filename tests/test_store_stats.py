"""Intervals, against scipy and against what they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from store.stats import bootstrap_p, holm, interval, mcnemar, paired_bootstrap, resampled_means, wilson


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
