"""Estimates from one pool: hand-worked values, and every closed or vectorised form against all subsets, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import estimate, resample
from search.estimate import Estimate, Pool, best_of, estimates, expected_max, first, pass_at_k
from search.select import SELECTORS, Entry, Rule, Selector

RIGHT = {"A", "D"}
PICKS = [name for name, rule in SELECTORS.items() if not rule.summed]
VOTERS = [name for name, rule in SELECTORS.items() if rule.summed]


def pool_of(drawn: Sequence[tuple[str | None, int, float, float | None]]) -> list[Entry]:
    """Entries from (answer, tokens, certainty, score)."""
    return [
        Entry(
            str(i),
            answer,
            tokens,
            certainty,
            -certainty * tokens,
            () if value is None else (value,),
            value,
            np.full(tokens, certainty, dtype=np.float32),
            "top-k confidence",
        )
        for i, (answer, tokens, certainty, value) in enumerate(drawn)
    ]


# few different weights and lengths, so that ties are the rule; sums of thirds and tenths, so that rounding matters
DRAWN = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C", "D", None]),
        st.integers(1, 3),
        st.sampled_from([0.25, 0.5, 0.1]),
        st.sampled_from([None, 0.1, 0.2, 0.3, 0.6]),
    ),
    min_size=1,
    max_size=6,
)


def test_best_of_gives_the_value_of_the_card() -> None:
    """Section 0: y = [1, 0, 1] from the best score down, N = 3, k = 2: (1 * 2 + 0 * 1 + 1 * 0) / 3."""
    (found,) = best_of(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.0, 1.0]), [2])
    assert found == Estimate(pytest.approx(2 / 3), pytest.approx(2 / 3), 0.0)


def test_a_tie_in_front_is_split_evenly_and_by_the_rule_goes_to_the_first() -> None:
    """Scores 2, 2, 1 and y = 1, 0, 0 at k = 2: of the three pairs, the tied one is worth a half."""
    (found,) = best_of(np.array([2.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0]), [2])
    assert found == Estimate(pytest.approx((0.5 + 1 + 0) / 3), pytest.approx(2 / 3), 0.0)


@pytest.mark.parametrize(
    ("n", "right", "k", "chance"), [(5, 2, 1, 0.4), (5, 2, 2, 0.7), (5, 2, 4, 1), (4, 0, 3, 0), (4, 4, 1, 1)]
)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int, right: int, k: int, chance: float) -> None:
    assert pass_at_k(n, right, k) == pytest.approx(chance)


@given(st.integers(1, 60), st.data())
def test_the_chances_of_being_first_are_the_binomials_and_add_up_to_one(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    known = [float(Fraction(math.comb(n - 1 - i, k - 1), math.comb(n, k))) for i in range(n)]
    assert first(n, k).tolist() == pytest.approx(known, rel=1e-12)
    assert math.fsum(first(n, k)) == pytest.approx(1)


def test_large_pools_stay_within_chances() -> None:
    assert math.fsum(first(5000, 2500)) == pytest.approx(1)
    assert pass_at_k(10_000, 1, 5_000) == 0.5


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.data())
def test_the_expected_maximum_is_the_mean_over_all_subsets(values: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    assert expected_max(values, k) == pytest.approx(np.mean([max(s) for s in combinations(values, k)]))


@pytest.mark.parametrize("name", PICKS)
@settings(deadline=None, max_examples=40)
@given(drawn=DRAWN, data=st.data())
def test_the_closed_form_is_the_mean_over_all_subsets_and_all_orders_of_ties(
    name: str, drawn: list[tuple[str | None, int, float, float | None]], data: st.DataObject
) -> None:
    pool, k, selector = pool_of(drawn), data.draw(st.integers(1, len(drawn))), Selector(name)
    [found] = estimates(Pool.of(pool, RIGHT.__contains__), selector, [k])
    expected, by_rule, lost = [], [], []
    for subset in combinations(pool, k):
        answered = [entry for entry in subset if entry.answer]
        weights = SELECTORS[name].weigh(selector, answered)
        counted = [(entry, w) for entry, w in zip(answered, weights, strict=True) if w is not None]
        # every order of the candidates is as likely: the first of those with the highest weight wins
        wins = (
            [max(order, key=lambda pair: pair[1])[0].answer in RIGHT for order in permutations(counted)] if counted else [False]
        )
        expected.append(np.mean(wins))
        choice = selector(subset)
        by_rule.append(choice.answer in RIGHT)
        lost.append(choice.answer is None)
    assert found == Estimate(*(pytest.approx(float(np.mean(each))) for each in (expected, by_rule, lost)))


def tied_answers(selector: Selector, subset: Sequence[Entry]) -> list[str]:
    votes = selector(subset).votes
    return [vote.answer for vote in votes if vote.weight == votes[0].weight]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", VOTERS)
@settings(deadline=None, max_examples=40)
@given(drawn=DRAWN, data=st.data())
def test_votes_over_all_subsets_at_once_are_the_selector_on_each(
    name: str, keep: float, drawn: list[tuple[str | None, int, float, float | None]], data: st.DataObject
) -> None:
    """To the last bit, ties of sums too: .1 + .2 is above .3 for both, and .1 + .2 + .3 is .6."""
    pool, k = pool_of(drawn), data.draw(st.integers(1, len(drawn)))
    selector = Selector(name, keep=keep, window=2)
    [found] = estimates(Pool.of(pool, RIGHT.__contains__), selector, [k])
    subsets = list(combinations(pool, k))
    answers = [tied_answers(selector, subset) for subset in subsets]
    expected = [np.mean([a in RIGHT for a in each]) if each else 0.0 for each in answers]
    by_rule = [selector(subset).answer in RIGHT for subset in subsets]
    lost = [not each for each in answers]
    assert found == Estimate(*(pytest.approx(float(np.mean(each))) for each in (expected, by_rule, lost)))


@pytest.mark.parametrize("name", SELECTORS)
@given(drawn=DRAWN)
def test_the_whole_pool_is_what_the_selector_chooses(
    name: str, drawn: list[tuple[str | None, int, float, float | None]]
) -> None:
    pool = pool_of(drawn)
    [found] = estimates(Pool.of(pool, RIGHT.__contains__), Selector(name), [len(pool)])
    choice = Selector(name)(pool)
    assert (found.by_rule, found.abstains) == (pytest.approx(float(choice.answer in RIGHT)), float(choice.answer is None))


@pytest.mark.parametrize("name", VOTERS)
def test_a_voter_that_has_no_fast_form_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    drawn = [
        (str(rng.choice(["A", "B", "C"])), int(rng.integers(1, 9)), float(rng.random()), float(rng.random())) for _ in range(7)
    ]
    pool = Pool.of(pool_of(drawn), RIGHT.__contains__)
    fast = estimates(pool, Selector(name), [1, 3, 7])
    monkeypatch.setattr(resample, "WEIGHERS", {})
    assert estimates(pool, Selector(name), [1, 3, 7]) == fast


def test_a_new_selector_that_votes_is_estimated_without_more_code(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = Rule(lambda _, pool: [float(entry.tokens) for entry in pool], True, "tokens", "long answers")
    monkeypatch.setitem(SELECTORS, "longest", lengths)
    pool = pool_of([("A", 3, 0.1, None), ("B", 2, 0.1, None), ("B", 2, 0.1, None)])
    # the pairs: A over B (3 to 2) twice, B alone once
    [found] = estimates(Pool.of(pool, RIGHT.__contains__), Selector("longest"), [2])
    assert found.by_rule == pytest.approx(2 / 3)


def test_the_ends_of_the_scale_hold_every_selector() -> None:
    rng = np.random.default_rng(0)
    drawn = [(str(a) if a != "-" else None, int(t), float(c), float(v)) for a, t, c, v in zip(
        rng.choice(["A", "B", "C", "-"], 9), rng.integers(1, 99, 9), rng.random(9), rng.random(9), strict=True)]  # fmt: skip
    pool = Pool.of(pool_of(drawn), RIGHT.__contains__)
    share = np.mean([a in RIGHT for a, *_ in drawn])
    for k in range(1, 10):
        ceiling, floor = estimate.oracle(pool, k), estimate.random(pool, k)
        assert floor.expected == pytest.approx(share)
        for name in SELECTORS:
            [found] = estimates(pool, Selector(name), [k])
            assert found.expected <= ceiling.expected + 1e-12
            assert found.abstains >= ceiling.abstains - 1e-12
            if k == 1:  # there is nothing to choose from
                assert found.expected == pytest.approx(floor.expected)


def test_many_subsets_are_sampled_by_seed_and_come_near_the_exact_value() -> None:
    rng = np.random.default_rng(1)
    answers = rng.choice(["A", "B", "C"], 20, p=[0.4, 0.35, 0.25])
    pool = Pool.of(
        pool_of([(str(a), int(t), 0.5, 0.5) for a, t in zip(answers, rng.integers(1, 9, 20), strict=True)]), RIGHT.__contains__
    )
    assert resample.exact(20, 2, 100)
    assert not resample.exact(20, 10, 100)

    def at(resamples: int, seed: int) -> float:
        return estimates(pool, Selector("majority"), [10], resamples, seed)[0].expected

    truth = at(200_000, 0)  # all 184,756
    assert resample.exact(20, 10, 200_000)
    assert at(100, 0) == at(100, 0)
    assert at(100, 0) != at(100, 1)
    assert at(2000, 5) == pytest.approx(truth, abs=4 * 0.5 / math.sqrt(2000))


def test_a_random_subset_lies_within_the_larger_ones_of_its_seed() -> None:
    small, large = resample.subsets(30, 5, 50, 7), resample.subsets(30, 9, 50, 7)
    assert (small.sum(axis=1) == 5).all()
    assert (large.sum(axis=1) == 9).all()
    assert (small <= large).all()
    assert len(np.unique(small, axis=0)) > 40


def test_candidates_without_an_answer_are_counted_as_abstentions_and_never_win() -> None:
    """Two of three give none: of three pairs, one has no answer at all."""
    pool = Pool.of(pool_of([(None, 1, 0.9, 0.9), (None, 1, 0.9, 0.9), ("A", 9, 0.1, 0.1)]), RIGHT.__contains__)
    for name in SELECTORS:
        assert estimates(pool, Selector(name), [2]) == [
            Estimate(pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 3))
        ]
    assert estimate.random(pool, 2) == Estimate(pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_an_answer_without_a_score_is_an_abstention_only_of_those_who_read_scores() -> None:
    pool = Pool.of(pool_of([("A", 1, 0.5, None)]), RIGHT.__contains__)
    assert estimates(pool, Selector("weighted"), [1]) == [Estimate(0.0, 0.0, 1.0)]
    assert estimates(pool, Selector("majority"), [1]) == [Estimate(1.0, 1.0, 0.0)]


def test_each_answer_is_judged_once() -> None:
    asked: list[str] = []
    Pool.of(pool_of([("A", 1, 0.5, None)] * 5 + [("B", 1, 0.5, None), (None, 1, 0.5, None)]), lambda a: bool(asked.append(a)))
    assert asked == ["A", "B"]


@pytest.mark.parametrize("k", [0, 4])
def test_a_subset_larger_than_the_pool_is_refused(k: int) -> None:
    pool = Pool.of(pool_of([("A", 1, 0.5, None)] * 3), RIGHT.__contains__)
    for call in (
        lambda: estimates(pool, Selector("majority"), [k]),
        lambda: estimate.oracle(pool, k),
        lambda: estimate.random(pool, k),
    ):
        with pytest.raises(ValueError, match=rf"a subset of {k} cannot be drawn from a pool of 3; choose from 1 to 3"):
            call()
