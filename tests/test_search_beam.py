"""Beam search: survivors, finished solutions, cut steps, merged siblings, and the ends of a search."""

from __future__ import annotations

import itertools

import pytest
from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, scripted
from laws import World, by_hand
from plays import ends, searched, word

from search.strategies.beam import Beam, shares
from search.types import Budget, Extend, Finish, State, Verify, parent_of


def test_each_round_the_best_survive_and_share_the_next() -> None:
    texts = {"0": word(0), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"1.0": ends(1), "1.1": ends(2), "3.0": ends(3), "3.1": ends(0)}
    rewards = {"0": 0.1, "1": 0.9, "2": 0.2, "3": 0.8, "1.0": 0.3, "1.1": 0.7, "3.0": 0.6, "3.1": 0.1}
    tree, choice, asked = searched(Beam(n=4, keep=2), texts, rewards)
    assert asked == [("0", "1", "2", "3"), ("1.0", "1.1", "3.0", "3.1")]
    assert (choice.path, choice.answer) == ("1.1", "2")
    assert {p for p, (s, _) in tree.states.items() if s is State.PRUNED} == {"0", "2", "1.0", "3.1"}
    assert tree.usage.verifier_passes == 8


def test_a_finished_solution_keeps_its_place_and_takes_no_further_steps() -> None:
    """Its place is gone for the others: one open survivor is left, and has the whole next round."""
    texts = {"0": ends(1), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"1.0": ends(2), "1.1": word(4), "1.2": word(5), "1.3": word(6)}
    rewards = {"0": 0.8, "1": 0.9, "2": 0.2, "3": 0.3, "1.0": 0.4, "1.1": 0.1, "1.2": 0.1, "1.3": 0.2}
    tree, choice, asked = searched(Beam(n=4, keep=2), texts, rewards)
    assert asked == [("0", "1", "2", "3"), ("1.0", "1.1", "1.2", "1.3")]
    assert choice.path == "0"
    assert {vote.answer for vote in choice.votes} == {"1", "2"}
    assert tree.states["0"][0] is State.FINISHED


@pytest.mark.parametrize(("n", "among", "parts"), [(8, 3, [3, 3, 2]), (4, 4, [1, 1, 1, 1]), (5, 1, [5])])
def test_a_round_is_shared_as_equally_as_can_be(n: int, among: int, parts: list[int]) -> None:
    assert shares(n, among) == parts


def test_a_finished_solution_that_loses_its_place_is_not_chosen() -> None:
    texts = {"0": ends(1), "1": word(1), "1.0": ends(2), "1.1": ends(3)}
    tree, choice, _ = searched(Beam(n=2, keep=1), texts, {"0": 0.5, "1": 0.9, "1.0": 0.2, "1.1": 0.1})
    assert tree.states["0"] == (State.PRUNED, "below the beam")
    assert choice.path == "1.0"


def test_a_cut_step_is_neither_scored_nor_continued_nor_chosen() -> None:
    long = [*([GOOD] * 9), DIGIT + 1, END]
    tree, choice, asked = searched(Beam(n=2, keep=2), {"0": long, "1": ends(2)}, {"1": 0.1})
    assert tree.candidates["0"].step.finish is Finish.LENGTH
    assert list(tree.scores) == ["1"]
    assert (choice.path, asked) == ("1", [("0", "1")])


def test_siblings_with_one_text_are_merged_into_the_first() -> None:
    """Copies of one step would fill the beam."""
    texts = {"0": word(1), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"0.0": ends(1), "0.1": ends(1), "2.0": ends(2), "2.1": ends(3)}
    rewards = {"0": 0.9, "2": 0.3, "3": 0.2, "0.0": 0.9, "2.0": 0.3, "2.1": 0.2}
    tree, _, asked = searched(Beam(n=4, keep=2), texts, rewards)
    assert asked[1] == ("0.0", "0.1", "2.0", "2.1")
    assert tree.states["1"] == tree.states["0.1"] == (State.MERGED, "same step as a sibling")


def test_the_same_step_after_different_steps_is_not_merged() -> None:
    texts = {"0": word(1), "1": word(2), "0.0": ends(1), "1.0": ends(1)}
    tree, choice, _ = searched(Beam(n=2, keep=2), texts, {"0": 0.9, "1": 0.8, "0.0": 0.7, "1.0": 0.6})
    assert all(state is not State.MERGED for state, _ in tree.states.values())
    assert choice.votes[0].count == 2


def test_equal_scores_keep_the_earlier_paths() -> None:
    """Paths in numbers: 2 is before 10."""
    texts = {str(i): word(i % 7) if i < 7 else [GOOD, GOOD + i - 7, SEPARATOR] for i in range(12)}
    texts |= {f"{i}.{j}": ends(j) for i in range(12) for j in range(3)}
    _, _, asked = searched(Beam(n=12, keep=4), texts, dict.fromkeys(texts, 0.5))
    assert asked[1] == tuple(f"{i}.{j}" for i in range(4) for j in range(3))


def test_no_step_is_generated_that_the_depth_allows_no_place_for() -> None:
    """The round after the last was generated, charged, and never looked at."""
    texts = {"0": word(0), "1": word(1), "0.0": word(0), "0.1": word(1)}
    rewards = dict.fromkeys(texts, 0.5)
    tree, choice, asked = searched(Beam(n=2, keep=1, depth=1), texts, rewards)
    assert (asked, choice.path) == ([("0", "1")], None)
    tree, _, asked = searched(Beam(n=2, keep=1, depth=2), texts, rewards)
    assert len(asked) == 2
    assert set(tree.scores) == set(tree.candidates)


def test_every_round_has_n_rows_whoever_is_left() -> None:
    """Finished, cut and merged candidates once took their share of the width with them."""
    ran = World(tokens=60).run(Beam(n=6, keep=3))
    assert {len(request.rows) for _, request in ran.generator.asked} == {6}
    widths = [len({parent_of(row.path) for row in request.rows}) for _, request in ran.generator.asked]
    assert set(widths) == {1, 2, 3}, "the world must have rounds of every width for this to say something"


def test_a_beam_of_one_candidate_is_plain_sampling() -> None:
    for tree, _ in World().run(Beam(n=1, keep=1)).choices():
        assert list(tree.candidates) == [".".join("0" * (i + 1)) for i in range(len(tree.candidates))]


def test_fewer_rows_than_asked_for_are_enough_to_go_on_with() -> None:
    """The budget has a place for three of the four of the second round."""
    texts = {"0": word(0), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"0.0": ends(1), "0.1": ends(2), "1.0": ends(3)}
    rewards = {"0": 0.9, "1": 0.8, "2": 0.2, "3": 0.1, "0.0": 0.3, "0.1": 0.4, "1.0": 0.6}
    tree, choice, asked = searched(Beam(n=4, keep=2), texts, rewards, Budget(candidates=7))
    assert asked[1] == ("0.0", "0.1", "1.0")
    assert choice.path == "1.0"
    assert tree.spent


def test_rows_that_the_token_budget_cuts_do_not_win() -> None:
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": ends(2), "1.0": ends(3), "1.1": ends(0)}
    rewards = {"0": 0.9, "1": 0.8, "0.0": 0.3, "0.1": 0.4}
    tree, choice, _ = searched(Beam(n=2, keep=2), texts, rewards, Budget(tokens=7))
    assert [tree.candidates[p].step.finish for p in ("0.0", "1.0")] == [Finish.END, Finish.BUDGET]
    assert (choice.path, tree.usage.generated_tokens) == ("0.0", 7)


def test_once_the_verifier_passes_are_spent_no_more_is_generated() -> None:
    world = World(budget=Budget(passes=6))
    for name in world.names:
        tree = world.tree(name)
        for request, _ in by_hand(Beam(n=4, keep=2), tree, world):
            assert isinstance(request, Verify) or tree.usage.verifier_passes < 6
        assert tree.usage.verifier_passes == 6


def test_a_candidate_without_a_valid_score_is_pruned_with_the_reason() -> None:
    world = World(judge=lambda trace: (2.0,) if "good0" in trace.steps[0].text else (0.5,), names=("q",))
    strategy = Beam(n=3, keep=1)
    tree = world.tree("q")
    replies = [word(0), word(1), word(2)]
    world = World(lambda **_: FakeGenerator(scripted({str(i): t for i, t in enumerate(replies)})), judge=world.judge)
    asked = [request for request, _ in itertools.islice(by_hand(strategy, tree, world), 3)]
    assert tree.states["0"] == (State.PRUNED, "invalid value 2.0")
    assert isinstance(asked[2], Extend)
    assert parent_of(asked[2].rows[0].path) == "1"


def test_a_solution_below_the_beam_is_taken_back_where_no_survivor_finishes() -> None:
    """It was chosen and stored as pruned at once: a query for chosen solutions did not find it."""
    long = [*([GOOD] * 9), DIGIT + 1, END]
    texts = {"0": ends(1), "1": word(1), "1.0": long, "1.1": long}
    tree, choice, _ = searched(Beam(n=2, keep=1), texts, {"0": 0.5, "1": 0.9})
    assert choice.path == "0"
    assert tree.states["0"] == (State.FINISHED, "taken back, for no survivor finished")


def test_a_lookahead_ranks_by_what_a_greedy_rollout_comes_to() -> None:
    """By its own text 0 would survive (it is not even scored); its rollout ends badly, 1's well. Public beams generate the
    rollout and score the text without it."""
    texts = {"0": word(0), "1": word(1), "0.0": word(2), "0.0.0": ends(0), "1.0": ends(1), "1.1": ends(2), "1.2": ends(3)}
    rewards = {"0.0.0": 0.1, "1.0": 0.9, "1.1": 0.3, "1.2": 0.4}
    tree, choice, asked = searched(Beam(n=2, keep=1, lookahead=2), texts, rewards)
    assert asked == [("0", "1"), ("0.0", "1.0"), ("0.0.0",), ("1.1", "1.2")]
    assert (tree.value("0"), tree.value("1")) == (0.1, 0.9)
    assert {p for p, state in tree.states.items() if state == (State.PRUNED, "lookahead")} == {"0.0", "0.0.0", "1.0"}
    assert choice.path == "1.2", "a rollout is not a solution to choose"


def test_a_rollout_is_greedy_and_is_not_dropped_before_it_is_gone_on_from() -> None:
    """It was marked as pruned step by step: the generator had to compute it all again."""
    world = World(tokens=40)
    tree = world.tree("p0")
    for request, _ in by_hand(Beam(n=4, keep=2, lookahead=3), tree, world):
        if isinstance(request, Extend):
            assert not {parent_of(row.path) for row in request.rows} & set(request.dropped)
            rolls = all(parent_of(row.path) and row.path.endswith(".0") for row in request.rows)
            assert (request.sampling.temperature == 0) is rolls
    assert any(state == (State.PRUNED, "lookahead") for state in tree.states.values())


@pytest.mark.parametrize(
    ("n", "keep", "says"),
    [(0, 1, "n must be at least 1"), (4, 0, "keep must be"), (4, 3, "a multiple of keep, not n=4 with keep=3")],
)
def test_impossible_numbers_are_refused(n: int, keep: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Beam(n=n, keep=keep)
