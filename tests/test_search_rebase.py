"""REBASE: how the width is shared out, that it is never exceeded, and the ends of a search."""

from __future__ import annotations

import math

import pytest
from fakes import DIGIT, GOOD, constant
from hypothesis import given
from hypothesis import strategies as st
from laws import World
from plays import ends, searched, word

from search.strategies.rebase import Rebase, allocation
from search.types import Budget, State, parent_of


def test_the_card_is_met() -> None:
    """B = 4, r = (.9, .8), T = .1: shares of 2.924 and 1.076."""
    assert allocation(4, [0.9, 0.8], 0.1) == [3, 1]
    exact = 4 / (1 + math.exp(-1))
    assert exact == pytest.approx(2.924, abs=5e-4)


def test_plain_rounding_would_break_the_sum() -> None:
    """Three equal shares of 4 are 1.33 each, and round to 3 in all."""
    assert 3 * round(4 / 3) == 3
    assert allocation(4, [0.5, 0.5, 0.5], 0.1) == [2, 1, 1]


REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(lambda rs: sorted(rs, reverse=True))


@given(st.integers(0, 300), REWARDS, st.floats(1e-6, 1e6))
def test_the_sum_is_exact_and_no_one_has_more_than_his_share_rounded_up(width: int, rewards: list[float], t: float) -> None:
    counts = allocation(width, rewards, t)
    assert sum(counts) == width
    assert min(counts) >= 0
    total = math.fsum(math.exp((r - rewards[0]) / t) for r in rewards)
    for count, reward in zip(counts, rewards, strict=True):
        assert count < width * math.exp((reward - rewards[0]) / t) / total + 1


@given(st.integers(0, 300), REWARDS)
def test_a_high_temperature_is_uniform(width: int, rewards: list[float]) -> None:
    least, more = divmod(width, len(rewards))
    assert allocation(width, rewards, 1e12) == [least + (i < more) for i in range(len(rewards))]


@given(st.integers(1, 300), st.lists(st.integers(0, 1000), min_size=1, max_size=40, unique=True))
def test_a_low_temperature_gives_all_to_the_best(width: int, marks: list[int]) -> None:
    rewards = [mark / 1000 for mark in sorted(marks, reverse=True)]
    assert allocation(width, rewards, 1e-6) == [width, *([0] * (len(marks) - 1))]


def test_nothing_open_gets_nothing() -> None:
    assert allocation(8, [], 0.1) == []


def test_a_round_is_shared_by_reward_and_what_has_no_share_is_dropped() -> None:
    texts = {"0": word(0), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"1.0": ends(1), "1.1": ends(1), "1.2": ends(2), "3.0": ends(3)}
    rewards = {"0": 0.1, "1": 0.9, "2": 0.2, "3": 0.8, "1.0": 0.3, "1.2": 0.5, "3.0": 0.6}
    tree, choice, asked = searched(Rebase(n=4), texts, rewards)
    assert asked == [("0", "1", "2", "3"), ("1.0", "1.1", "1.2", "3.0")]
    assert tree.states["0"] == tree.states["2"] == (State.PRUNED, "no share of the width")
    assert (choice.path, choice.answer) == ("3.0", "3"), "weighted by default, and equal siblings count once"


def test_each_solution_takes_one_of_the_width_with_it() -> None:
    texts = {"0": ends(1), "1": word(1), "2": word(2), "3": ends(2), "1.0": ends(3), "2.0": word(3), "2.0.0": ends(1)}
    rewards = {"0": 0.2, "1": 0.5, "2": 0.5, "3": 0.3, "1.0": 0.4, "2.0": 0.6, "2.0.0": 0.7}
    tree, choice, asked = searched(Rebase(n=4), texts, rewards)
    assert asked == [("0", "1", "2", "3"), ("1.0", "2.0"), ("2.0.0",)]
    assert sum(vote.count for vote in choice.votes) == 4
    assert choice.answer == "1"
    assert all(state is not State.PRUNED for state, _ in tree.states.values())


def test_no_round_is_wider_than_what_has_not_finished() -> None:
    ran = World(tokens=60).run(Rebase(n=7, temperature=0.3))
    for key, name in enumerate(World().names):
        tree = ran.outcomes[name].search.tree
        before: set[str] = set()
        for request in (r for search, r in ran.generator.asked if search == key):
            merged = {p for p in before if tree.states[p][0] is State.MERGED}
            finished = sum(tree.candidates[p].finished for p in before - merged)
            assert len(request.rows) == 7 - finished
            before |= {row.path for row in request.rows}


def test_a_verifier_that_knows_nothing_shares_alike() -> None:
    ran = World(judge=constant, tokens=60).run(Rebase(n=6))
    for _, request in ran.generator.asked:
        counts = [sum(parent_of(row.path) == p for row in request.rows) for p in {parent_of(r.path) for r in request.rows}]
        assert max(counts) - min(counts) <= 1


def test_a_cut_step_is_not_a_solution_and_depth_and_budget_end_it() -> None:
    long = [*([GOOD] * 9), DIGIT + 1, 0]
    tree, choice, _ = searched(Rebase(n=2), {"0": long, "1": ends(2)}, {"1": 0.1})
    assert (choice.path, list(tree.scores)) == ("1", ["1"])
    texts, rewards = {"0": word(0), "1": ends(2), "0.0": ends(1)}, {"0": 0.9, "1": 0.2, "0.0": 0.8}
    assert searched(Rebase(n=2, depth=1), texts, rewards)[1].path == "1"
    assert searched(Rebase(n=2), texts, rewards, Budget(candidates=2))[1].path == "1"
    assert searched(Rebase(n=2), texts, rewards)[1].path == "0.0"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n": 0}, "n must be at least 1, not 0"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, not 0.0"),
        ({"temperature": math.inf}, "temperature must be a finite number above 0, not inf"),
        ({"lookahead": -2}, "lookahead must be 0"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rebase(**wrong)  # type: ignore[arg-type]
