"""The figure of generative verifiers: what a check costs, and that a verifier that knows nothing is self-consistency."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flows.figures.judges import at, cost, curve, scored
from flows.figures.measured import Point
from search.estimate import Pool
from search.select import Entry, Selector
from verifiers.generative import Checks

SIZES = range(1, 9)


def pools(count: int = 40, n: int = 12) -> list[list[Entry]]:
    rng = random.Random(0)
    return [[Entry(str(i), rng.choice("abcd") if rng.random() < 0.9 else None, rng.randint(5, 50)) for i in range(n)]
            for _ in range(count)]  # fmt: skip


def curves(of: list[list[Entry]], selector: str) -> list[list[float]]:
    graded = [Pool.of(own, lambda answer: answer == "a") for own in of]
    return [point.right.tolist() for point in curve("x", Selector(selector), graded, SIZES).values()]


def test_eight_solutions_with_four_checks_of_twice_their_length_cost_seventy_two() -> None:
    assert cost(8, 4, 2.0) == 72
    assert cost(8, 0, 2.0) == 8


def test_without_checks_a_weighted_vote_is_self_consistency_to_the_bit() -> None:
    rng = random.Random(1)
    random_checks = Checks(tuple((rng.random(),) for _ in range(4)))
    unchecked = [scored(own, [random_checks] * len(own), 0) for own in pools()]
    assert curves(unchecked, "weighted") == curves(pools(), "majority")


def test_a_verifier_that_always_says_the_same_changes_no_vote_and_picks_none() -> None:
    same = [scored(own, [Checks(((1.0,), (1.0,)))] * len(own), 2) for own in pools()]
    assert curves(same, "weighted") == curves(pools(), "majority")
    assert curves(same, "best") == curves(pools(), "shortest"), "the rule for ties is all that is left"


def test_the_first_checks_alone_are_counted_and_none_is_a_no() -> None:
    entry = Entry("0", "a", 5)
    checks = Checks(((1.0,), None, (0.0,), (1.0,)))
    assert [scored([entry], [checks], v)[0].value for v in (1, 2, 4)] == [1.0, 0.5, 0.5]
    assert scored([entry], [Checks((None, None))], 2)[0].value is None


def test_votes_at_a_cost_between_two_are_between_them_and_beyond_the_pool_are_none() -> None:
    none = np.zeros(2)
    votes = {k: Point(str(k), np.array([k / 10, k / 5]), none, none) for k in range(1, 5)}
    between = at(votes, 2.5)
    assert between is not None
    assert between.right == pytest.approx([0.25, 0.5])
    assert at(votes, 4.1) is None
