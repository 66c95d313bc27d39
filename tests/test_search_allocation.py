"""What samples are worth, and who gets them: the arithmetic of a plan."""

from __future__ import annotations

import itertools
import math

import pytest

from search.allocation import EASE, Group, allocated, gains, grouped, slopes
from search.select import Entry


def pool(answers: str, tokens: int = 10, value: float | None = None, certainty: float = 0.0) -> list[Entry]:
    """A pilot's samples with these answers; "-" has none."""
    return [
        Entry(str(i), None if a == "-" else a, tokens, certainty, value=value, parts=() if value is None else (value,))
        for i, a in enumerate(answers)
    ]


# ---------------------------------------------------------------------------------------------------------- difficulty


def test_the_estimates_are_higher_for_what_is_easier_and_count_what_has_no_answer() -> None:
    assert EASE["agreement"](pool("AAB-")) == 0.5
    assert EASE["agreement"](pool("----")) == 0
    assert math.isclose(EASE["entropy"](pool("AABB")), -math.log(2))
    assert math.isclose(EASE["entropy"](pool("A---")), -math.log(4))
    assert EASE["entropy"](pool("AAAA")) == 0
    assert EASE["verifier"](pool("AB", value=0.25)) == 0.25
    assert EASE["verifier"](pool("AB")) == 0
    assert EASE["certainty"](pool("AB", certainty=1.5)) == 1.5


# --------------------------------------------------------------------------------------------------------------- gains


def test_the_vote_of_the_pilot_alone_is_as_sure_as_its_posterior() -> None:
    """Of A, A, A, B and one answer not seen: shares are Dirichlet(3, 1, 1); A's is the largest in P of the draws. By the
    Gamma representation P(g3 > max of two exponentials) = 1 - 2/2^3 + 1/3^3."""
    assert math.isclose(gains(pool("AAAB"), 4)[0], 1 - 2 / 8 + 1 / 27, abs_tol=0.06)  # 512 draws: 3 standard errors


def test_a_tie_is_split_and_no_vote_finds_nothing() -> None:
    assert math.isclose(gains(pool("AB"), 4)[0], 1 / 3, abs_tol=0.06)  # half, where the mode is one of the two (2 of 3)
    nothing = gains(pool("--"), 6)
    assert nothing[0] == 0
    assert nothing[1] > 0.2


def test_more_samples_find_the_mode_more_often_and_most_where_the_pilot_is_divided() -> None:
    divided, unanimous = gains(pool("AABB"), 32), gains(pool("AAAA"), 32)
    assert divided[32] > divided[0] + 0.15
    assert unanimous[32] - unanimous[0] < (divided[32] - divided[0]) / 2
    assert all(0 <= value <= 1 for value in (*divided, *unanimous))
    assert gains(pool("AABB"), 32) == gains(pool("BABA"), 32), "a plan is a function of the counts"


def test_slopes_are_those_of_the_least_concave_curve_above() -> None:
    assert slopes([0.0, 0.0, 0.6, 0.5, 0.8]) == pytest.approx([0.3, 0.3, 0.1, 0.1])
    assert slopes([0.5, 0.4, 0.3]) == [0, 0]
    assert slopes([0.2]) == []
    falling = slopes(gains(pool("ABCA"), 40))
    assert falling == sorted(falling, reverse=True)
    assert len(falling) == 40


# ---------------------------------------------------------------------------------------------------------- allocation


def group(names: str, curve: list[float], cost: float = 1.0) -> Group:
    return Group(tuple(names), 1.0, 0.0, cost, tuple(curve))


def test_samples_go_where_a_unit_of_cost_gains_most() -> None:
    """By hand: a gains .3, .1, 0 a sample and b .2, .15, .05; four samples for one problem each: .3, .2, .15, .1."""
    a, b = group("x", [0, 0.3, 0.4, 0.4]), group("y", [0, 0.2, 0.35, 0.4])
    assert [g.more for g in allocated([a, b], 4)] == [2, 2]
    assert [g.more for g in allocated([a, b], 3)] == [1, 2]
    assert [g.more for g in allocated([a, b], 1)] == [1, 0]
    assert [g.more for g in allocated([a, b], 99)] == [3, 3]


def test_a_costly_sample_must_gain_more_and_a_group_pays_for_all_its_problems() -> None:
    a, b = group("x", [0, 0.3], cost=4), group("y", [0, 0.1], cost=1)
    assert [g.more for g in allocated([a, b], 4)] == [0, 1]
    two = group("vw", [0, 0.3, 0.5])
    assert [g.more for g in allocated([two, b], 3)] == [1, 1]
    assert [g.more for g in allocated([two, b], 4)] == [2, 0]


def test_no_plan_of_as_many_samples_gains_more() -> None:
    """Against all plans, for concave curves."""
    curves = [[0.3, 0.5, 0.6, 0.65, 0.68], [0.1, 0.4, 0.55, 0.6, 0.6], [0.9, 0.92, 0.93, 0.93, 0.93]]
    groups = [group(name, curve) for name, curve in zip("xyz", curves, strict=True)]
    for budget in range(1, 13):
        ours = sum(g.gains[g.more] for g in allocated(groups, budget))
        plans = (p for p in itertools.product(range(5), repeat=3) if sum(p) <= budget)
        assert math.isclose(ours, max(sum(c[m] for c, m in zip(curves, plan, strict=True)) for plan in plans))


def test_equal_problems_stay_together_and_the_easiest_group_is_first() -> None:
    pools = {"a": pool("AAAA"), "b": pool("AAAA"), "c": pool("AAAA"), "d": pool("AABC"), "e": pool("ABCD"), "f": pool("AAAB")}
    made = grouped(pools, bins=3, most=8)
    assert [g.problems for g in made] == [("a", "b", "c"), ("f",), ("d", "e")]
    assert (made[0].easiest, made[2].easiest, made[2].hardest) == (1.0, 0.5, 0.25)
    assert {len(g.gains) for g in made} == {5}
    assert grouped(pools, bins=1)[0].problems == tuple("abcdef")


def test_a_sample_costs_one_or_its_tokens() -> None:
    pools = {"a": pool("AA", tokens=30), "b": pool("AA", tokens=10)}
    assert grouped(pools, bins=1)[0].cost == 1
    assert grouped(pools, bins=1, tokens=True)[0].cost == 20


def test_what_cannot_be_planned_is_said() -> None:
    with pytest.raises(ValueError, match="the pilot has 4 samples a problem, more than the 3 that one may have"):
        grouped({"a": pool("AAAA")}, most=3)
    with pytest.raises(ValueError, match="did you mean 'agreement'"):
        grouped({"a": pool("AAAA")}, by="agreemnt")
