"""Weights of particles: sizes, and that no scheme of resampling favours anyone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.strategies.weights import SCHEMES, Scheme, ancestors, effective, log_sum, normalised

WEIGHTS = (
    st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda ws: sum(ws) > 1e-3).map(lambda ws: np.array(ws) / sum(ws))
)


def test_the_effective_size_goes_from_one_to_all() -> None:
    assert effective(np.log([0.25] * 4)) == pytest.approx(4)
    assert effective(np.array([0.0, -800.0, -800.0])) == pytest.approx(1)
    assert effective(np.array([0.0, 0.0, -np.inf])) == pytest.approx(2)
    assert effective(np.log([0.5, 0.25, 0.25])) == pytest.approx(1 / (0.25 + 2 * 0.0625))
    assert effective(np.full(3, -np.inf)) == 0


def test_sums_and_shares_of_log_weights_do_not_overflow() -> None:
    assert log_sum(np.array([1000.0, 1000.0])) == pytest.approx(1000 + math.log(2))
    assert log_sum(np.array([-np.inf, -3.0])) == -3
    assert log_sum(np.array([-np.inf, -np.inf])) == -np.inf
    assert normalised(np.array([-2000.0, -2000.0, -np.inf])).tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_each_its_weight_on_average(scheme: Scheme) -> None:
    """n W_i copies, within 4 standard errors of multinomial counts: the others vary less."""
    rng, draws, n = np.random.default_rng(5), 4000, 6
    weights = np.array([0.37, 0.0, 0.05, 0.3, 0.28])
    mean = sum(np.bincount(ancestors(scheme, weights, n, rng), minlength=5) for _ in range(draws)) / draws
    error = np.sqrt(n * weights * (1 - weights) / draws)
    assert np.all(np.abs(mean - n * weights) <= 4 * error + 1e-12)


@given(WEIGHTS, st.integers(1, 40), st.integers(0, 1000), st.sampled_from(SCHEMES))
def test_every_draw_is_in_order_of_its_size_and_of_those_with_a_weight(
    weights: np.ndarray, n: int, seed: int, scheme: Scheme
) -> None:
    drawn = ancestors(scheme, weights, n, np.random.default_rng(seed))
    counts = np.bincount(drawn, minlength=len(weights))
    assert len(drawn) == n
    assert drawn.tolist() == sorted(drawn.tolist())
    assert np.all(weights[drawn] > 0)
    slack = 1e-9
    if scheme == "systematic":
        assert np.all(np.abs(counts - n * weights) < 1 + slack)
    if scheme == "stratified":
        assert np.all(np.abs(counts - n * weights) < 2 + slack)
    if scheme == "residual":
        assert np.all(counts >= np.floor(n * weights - slack))


def test_even_weights_lose_nobody_except_by_drawing_one_by_one() -> None:
    even, rng = np.full(8, 1 / 8), np.random.default_rng(0)
    for scheme in ("systematic", "stratified", "residual"):
        assert ancestors(scheme, even, 8, rng).tolist() == list(range(8))
    assert len(set(ancestors("multinomial", even, 8, rng).tolist())) < 8
