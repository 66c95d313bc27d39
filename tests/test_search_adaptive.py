"""Strategies that stop sampling once the answers agree, and the control of first-finish: cards B and K by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from fakes import FakeGenerator, constant, scripted, solution
from laws import World
from scipy import special

from search.strategies import Strategy, build
from search.strategies.adaptive_consistency import AdaptiveConsistency, lead
from search.strategies.allocated import Allocated, planned
from search.strategies.best_of_n import BestOfN
from search.strategies.early_stopping import EarlyStopping
from search.strategies.last_finish import LastFinish
from search.tree import Tree
from search.types import Budget, Choice, Extend, Finish, Part, State

ALIKE = (5,) * 40


def run(
    strategy: Strategy, digits: str, lengths: Sequence[int] = ALIKE, limit: int = 40, budget: Budget = Budget()
) -> tuple[Tree, Choice, list[int]]:
    """One search over solutions of given answers and lengths ("-": none); how many rows each request had."""
    texts = {str(i): solution(n, int(d) if d != "-" else 0) for i, (d, n) in enumerate(zip(digits, lengths, strict=False))}
    for i, digit in enumerate(digits):
        if digit == "-":
            texts[str(i)][-2] = texts[str(i)][0]
    world = World(lambda **_: FakeGenerator(scripted(texts)), judge=constant, names=("q",), tokens=limit, budget=budget)
    ran = world.run(strategy)
    [(tree, choice)] = ran.choices()
    return tree, choice, [len(request.rows) for _, request in ran.generator.asked]


# -------------------------------------------------------------------------------------------------- adaptive consistency


def test_the_lead_is_that_of_the_card() -> None:
    expected = {(3, 0): 0.9375, (4, 0): 0.96875, (4, 1): 0.8906, (5, 1): 0.9375, (6, 1): 0.9648}
    for (most, second), value in expected.items():
        assert math.isclose(lead(most, second), value, abs_tol=5e-5)
    assert [pair for pair in expected if lead(*pair) >= 0.95] == [(4, 0), (6, 1)]


def test_the_closed_form_is_the_beta_distribution() -> None:
    for most in range(12):
        for second in range(most + 1):
            assert math.isclose(lead(most, second), special.betaincc(most + 1, second + 1, 0.5), rel_tol=1e-12)


def test_it_stops_after_the_sample_that_makes_it_sure() -> None:
    tree, choice, asked = run(AdaptiveConsistency(), "1111222")
    assert (asked, choice.answer) == ([1] * 4, "1")
    assert (tree.usage.generated_tokens, tree.usage.sequential_tokens) == (20, 20)
    _, _, asked = run(AdaptiveConsistency(), "12111113")
    assert len(asked) == 7  # (6, 1); at (5, 1) it goes on


def test_a_third_answer_has_no_part_in_the_rule_and_none_has_no_vote() -> None:
    _, choice, asked = run(AdaptiveConsistency(), "-12-311111111")
    assert len(asked) == 10  # six of 1, one of 2 and one of 3: (6, 1)
    assert choice.votes[0].count == 6
    _, choice, asked = run(AdaptiveConsistency(), "--1-111-")
    assert (len(asked), choice.votes[0].count) == (7, 4)


def test_it_ends_at_n_without_a_clear_lead() -> None:
    _, choice, asked = run(AdaptiveConsistency(n=6), "121212")
    assert (len(asked), choice.answer, choice.votes[0].count) == (6, "1", 3)


def test_what_a_batch_samples_beyond_need_is_charged_and_votes() -> None:
    tree, choice, asked = run(AdaptiveConsistency(batch=3), "11111133333")
    assert asked == [3, 3]
    assert (tree.usage.generated_tokens, tree.usage.sequential_tokens) == (30, 10)
    assert choice.votes[0].count == 6
    assert run(AdaptiveConsistency(n=7, batch=3), "1212121")[2] == [3, 3, 1]


def test_side_by_side_the_rest_is_stopped_as_soon_as_the_answers_that_have_arrived_decide() -> None:
    """Lengths 5, 6, 7, 8 are of one answer: the others are cut at 8, and what they wrote is charged."""
    tree, choice, asked = run(AdaptiveConsistency(n=7, parallel=True), "1221111", (5, 20, 9, 6, 8, 7, 12))
    assert asked == [7]
    assert [tree.candidates[str(i)].step.finish for i in range(7)] == [
        *(Finish.END, Finish.CANCELLED, Finish.CANCELLED, Finish.END, Finish.END, Finish.END, Finish.CANCELLED)
    ]
    assert tree.usage.generated_tokens == 5 + 6 + 7 + 8 + 3 * 8
    assert (tree.usage.sequential_tokens, tree.usage.cancelled_tokens) == (8, 24)
    assert (choice.answer, choice.votes[0].count) == ("1", 4)


def test_side_by_side_without_a_clear_lead_it_is_the_majority_of_all() -> None:
    tree, choice, _ = run(AdaptiveConsistency(n=5, parallel=True), "12123", (5, 6, 7, 8, 9))
    plain, voted, _ = run(BestOfN(n=5), "12123", (5, 6, 7, 8, 9))
    assert choice == voted
    assert tree.usage.generated_tokens == plain.usage.generated_tokens


def test_a_threshold_of_1_samples_all() -> None:
    assert len(run(AdaptiveConsistency(n=20, threshold=1), "1" * 20)[2]) == 20


def test_a_budget_ends_it_with_the_votes_it_has() -> None:
    tree, choice, asked = run(AdaptiveConsistency(), "1111", budget=Budget(tokens=12))
    assert (len(asked), choice.votes[0].count, tree.usage.generated_tokens) == (3, 2, 12)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"threshold": 0.5}, "threshold must be above 0.5 and at most 1"),
        ({"parallel": True, "batch": 2}, "leave out batch=2"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_what_adaptive_consistency_cannot_do_is_said(params: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(Part("adaptive-consistency", params))


# -------------------------------------------------------------------------------------------------------- early stopping


def test_a_unanimous_window_ends_it() -> None:
    _, choice, asked = run(EarlyStopping(n=20, window=3), "112" + "222" + "111")
    assert asked == [3, 3]
    assert (choice.answer, choice.votes[0].count) == ("2", 4)


def test_windows_do_not_overlap() -> None:
    """Three alike across two windows are not a window."""
    assert run(EarlyStopping(n=9, window=3), "122" + "211" + "121")[2] == [3, 3, 3]


def test_all_that_was_sampled_votes_when_a_window_ends_it() -> None:
    """A unanimous window of a minority answer: the majority of all that was paid for stands."""
    _, choice, _ = run(EarlyStopping(n=20, window=2), "1312" + "12" + "33")
    assert [(vote.answer, vote.count) for vote in choice.votes] == [("1", 3), ("3", 3), ("2", 2)]


def test_a_window_without_answers_or_one_cut_short_agrees_on_nothing() -> None:
    assert run(EarlyStopping(n=4, window=2), "--12")[2] == [2, 2]
    assert run(EarlyStopping(n=4, window=2), "1-12")[2] == [2, 2]
    _, choice, asked = run(EarlyStopping(n=9, window=4), "1112" + "1222" + "3")
    assert (asked, choice.answer) == ([4, 4, 1], "1")


def test_a_window_of_n_is_the_majority() -> None:
    assert run(EarlyStopping(n=6, window=6), "121321")[1] == run(BestOfN(n=6), "121321")[1]


# ----------------------------------------------------------------------------------------------------------- last finish


def test_the_longest_that_ended_vote() -> None:
    tree, choice, _ = run(LastFinish(n=4), "1234", (5, 9, 12, 20))
    assert (choice.path, choice.answer, tree.usage.generated_tokens) == ("3", "4", 46)
    assert tree.usage.cancelled_tokens == 0
    _, choice, _ = run(LastFinish(n=4, m=3), "3221", (5, 9, 12, 20))
    assert (choice.answer, choice.votes[0].count) == ("2", 2)


def test_a_cut_solution_is_not_the_last_to_finish() -> None:
    """The longest texts of all are those that the limit cut."""
    tree, choice, _ = run(LastFinish(n=4), "1231", (5, 9, 12, 20), limit=11)
    assert choice.path == "1"
    assert tree.states["3"][0] is State.FAILED


def test_of_equal_lengths_the_earlier_path_is_taken_and_m_of_n_is_the_majority() -> None:
    assert run(LastFinish(n=3), "123", (9, 9, 5))[1].path == "0"
    assert run(LastFinish(n=4, m=4), "1221", (5, 9, 12, 20))[1] == run(BestOfN(n=4), "1221", (5, 9, 12, 20))[1]


# ------------------------------------------------------------------------------------------------------------- allocated


def test_each_problem_gets_its_own_n_and_others_the_default() -> None:
    strategy = Allocated(n=2, plan='{"3": ["p1"], "5": ["p0", "p3"]}')
    ran = World(tokens=40).run(strategy)
    assert {name: len(o.search.tree.candidates) for name, o in ran.outcomes.items()} == {"p0": 5, "p1": 3, "p2": 2, "p3": 5}


def test_an_allocated_problem_is_best_of_that_n() -> None:
    world = World(tokens=40)
    for (_, one), (_, two) in zip(
        world.run(Allocated(plan='{"6": ["p0", "p1", "p2", "p3"]}')).choices(), world.run(BestOfN(n=6)).choices(), strict=True
    ):
        assert one == two


@pytest.mark.parametrize("plan", ["4", "[1]", '{"x": ["p"]}', '{"4": 1}', "{"])
def test_a_plan_that_is_none_is_refused(plan: str) -> None:
    with pytest.raises(ValueError, match="a plan is JSON of the form"):
        build(Part("allocated", {"plan": plan}))
    with pytest.raises(ValueError, match="n of the plan must be at least 1"):
        build(Part("allocated", {"plan": '{"0": ["p"]}'}))
    assert planned("") == {}


def test_what_is_asked_for_names_the_rule_and_two_thresholds_are_two_requests() -> None:
    def first(threshold: float) -> Extend:
        request = next(AdaptiveConsistency(threshold=threshold, parallel=True).search(World().tree("p0")))
        assert isinstance(request, Extend)
        return request

    assert first(0.9).rules.halt is not None
    assert first(0.9).digest == first(0.9).digest
    assert first(0.9).digest != first(0.95).digest
