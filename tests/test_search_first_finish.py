"""First finish: the hand-worked counts of card B, ties, limits, and its two ends (n = 1, m = n)."""

from __future__ import annotations

import pytest
from fakes import DIGIT, FakeGenerator, boxed, constant, question, scripted, solution
from laws import World, answered

from search.select import Selector, entries
from search.strategies import build
from search.strategies.best_of_n import BestOfN
from search.strategies.first_finish import FirstFinish
from search.tree import Tree
from search.types import ROOT, Budget, Choice, Extend, Finish, Part, State, Until

LENGTHS = (5, 9, 12, 20)


def run(
    strategy: FirstFinish | BestOfN,
    lengths: tuple[int, ...] = LENGTHS,
    digits: str = "1234",
    limit: int = 40,
    budget: Budget = Budget(),
) -> tuple[Tree, Choice]:
    """One search over solutions of given lengths and answers."""
    texts = {str(i): solution(n, int(d)) for i, (n, d) in enumerate(zip(lengths, digits, strict=False))}
    world = World(lambda **_: FakeGenerator(scripted(texts)), judge=constant, names=("q",), tokens=limit, budget=budget)
    [(tree, choice)] = world.run(strategy).choices()
    return tree, choice


def test_the_first_of_four_costs_four_times_its_length() -> None:
    """Card B: lengths {5, 9, 12, 20}: 20 tokens, 5 one after another."""
    tree, choice = run(FirstFinish(n=4))
    assert (tree.usage.generated_tokens, tree.usage.sequential_tokens, tree.usage.cancelled_tokens) == (20, 5, 15)
    assert (choice.path, choice.answer) == ("0", "1")


def test_majority_of_the_same_four_costs_all_of_them() -> None:
    tree, _ = run(BestOfN(n=4))
    assert (tree.usage.generated_tokens, tree.usage.sequential_tokens, tree.usage.cancelled_tokens) == (46, 20, 0)


def test_short_3_of_4_stops_at_the_third() -> None:
    """Card B: 5 + 9 + 12 + 12 = 38 tokens, 12 one after another."""
    tree, choice = run(FirstFinish(n=4, m=3), digits="2112")
    assert (tree.usage.generated_tokens, tree.usage.sequential_tokens, tree.usage.cancelled_tokens) == (38, 12, 12)
    assert choice.answer == "1"
    assert choice.votes[0].count == 2
    assert tree.states["3"] == (State.CANCELLED, "others finished first")


def test_of_rows_that_end_together_the_earlier_path_is_first() -> None:
    """Both have finished and both are charged; only m of them vote."""
    tree, choice = run(FirstFinish(n=3), lengths=(9, 6, 6), digits="123")
    assert (choice.path, choice.votes[0].count, len(choice.votes)) == ("1", 1, 1)
    assert [tree.candidates[path].step.finish for path in "012"] == [Finish.CANCELLED, Finish.END, Finish.END]
    assert tree.usage.generated_tokens == 18
    assert tree.usage.cancelled_tokens == 6


def test_of_too_many_that_ended_the_shortest_are_taken() -> None:
    """At length 6 three have ended and two are wanted: the one of 5, and the earlier one of 6."""
    _, choice = run(FirstFinish(n=4, m=2), lengths=(6, 6, 5, 9), digits="1233")
    assert (choice.path, choice.answer) == ("2", "3")
    assert [vote.answer for vote in choice.votes] == ["3", "1"]


def test_m_equal_to_n_is_the_majority() -> None:
    world = World(tokens=40)
    for (one, a), (two, b) in zip(world.run(FirstFinish(n=6, m=6)).choices(), world.run(BestOfN(n=6)).choices(), strict=True):
        assert a == b
        assert one.usage.generated_tokens == two.usage.generated_tokens


def test_n_of_1_is_plain_sampling() -> None:
    world = World(tokens=40)
    generator = FakeGenerator()
    for name in world.names:
        tree = world.tree(name)
        [(ran, choice)] = world.run(FirstFinish(n=1), [name]).choices()
        request = next(tree.extend([ROOT], until=Until.END))
        plain = answered(request, generator, world.verifier(constant), world.encoder()).steps[0]  # type: ignore[union-attr]
        assert ran.candidates["0"].step.text == plain.text
        assert choice.answer == boxed(plain.text).key


def test_a_solution_that_was_cut_has_not_finished() -> None:
    """Every solution is longer than the limit: none is chosen, though all have an answer's worth of text."""
    tree, choice = run(FirstFinish(n=4), limit=4)
    assert {c.step.finish for c in tree.candidates.values()} == {Finish.LENGTH}
    assert (choice.path, choice.answer) == (None, None)
    assert choice.reason == "none of 0 candidates gave an answer"


def test_a_cut_row_does_not_stop_the_others() -> None:
    tree, choice = run(FirstFinish(n=4, m=3), limit=11)
    assert [tree.candidates[p].step.finish for p in "0123"] == [Finish.END, Finish.END, Finish.LENGTH, Finish.LENGTH]
    assert sum(vote.count for vote in choice.votes) == 2


def test_a_budget_that_ends_all_rows_leaves_nothing_to_choose() -> None:
    tree, choice = run(FirstFinish(n=4), budget=Budget(tokens=19))
    assert tree.usage.generated_tokens == 19
    assert [len(tree.candidates[path].step) for path in "0123"] == [5, 5, 5, 4]
    assert (choice.path, tree.candidates["0"].step.finish) == ("0", Finish.END)
    short, none = run(FirstFinish(n=4), budget=Budget(tokens=16))
    assert [len(short.candidates[path].step) for path in "0123"] == [4, 4, 4, 4]
    assert none.path is None


def test_a_tie_of_votes_goes_to_the_shortest() -> None:
    _, choice = run(FirstFinish(n=4, m=4), lengths=(9, 7, 8, 6), digits="1221")
    assert (choice.answer, choice.path) == ("1", "3")


def test_the_result_does_not_depend_on_the_order_of_the_rows() -> None:
    """The same four solutions under other paths: the same answer and cost."""
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        lengths, digits = tuple(LENGTHS[i] for i in order), "".join("1234"[i] for i in order)
        tree, choice = run(FirstFinish(n=4, m=2), lengths, digits)
        assert (choice.answer, tree.usage.generated_tokens) == ("1", 5 + 9 + 9 + 9)


def test_what_is_asked_for_names_the_rule() -> None:
    tree = Tree(question("q"), boxed)
    request = next(build(Part("first-finish", {"n": 3, "m": 2})).search(tree))
    assert isinstance(request, Extend)
    assert (len(request.rows), request.first, request.until) == (3, 2, Until.END)
    assert DIGIT not in request.rows[0].prefix


def test_selection_by_hand_agrees() -> None:
    tree, choice = run(FirstFinish(n=4, m=2), digits="1134")
    pool = entries(tree, [tree.candidates["0"], tree.candidates["1"]])
    assert Selector("majority")(pool) == choice
    assert choice.path == "0"


@pytest.mark.parametrize(("n", "m"), [(0, 1), (4, 0), (2, 3)])
def test_impossible_numbers_are_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match="must be at"):
        FirstFinish(n=n, m=m)
