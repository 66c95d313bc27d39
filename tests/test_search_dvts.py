"""Diverse verifier tree search: subtrees that do not see each other, what they give to choose among, and their ends."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from fakes import DIGIT, GOOD, constant, right_digit
from laws import World, by_hand
from plays import ends, searched, word

from search.select import Selector
from search.strategies.best_of_n import BestOfN
from search.strategies.dvts import DVTS
from search.types import Budget, State, Verify, depth_of


def test_each_subtree_keeps_its_own_best() -> None:
    """A beam of two would keep 0 and 1, both of the first subtree."""
    texts = {"0": word(0), "1": word(1), "2": word(2), "3": word(3)}
    texts |= {"0.0": ends(1), "0.1": ends(2), "3.0": ends(3), "3.1": ends(0)}
    rewards = {"0": 0.9, "1": 0.8, "2": 0.1, "3": 0.2, "0.0": 0.4, "0.1": 0.5, "3.0": 0.3, "3.1": 0.7}
    tree, choice, asked = searched(DVTS(n=4, width=2), texts, rewards)
    assert asked == [("0", "1", "2", "3"), ("0.0", "0.1", "3.0", "3.1")]
    assert {p for p, (s, _) in tree.states.items() if s is State.PRUNED} == {"1", "2"}
    assert (choice.path, sum(vote.count for vote in choice.votes)) == ("3.1", 4), "all last siblings are chosen among"


def test_two_subtrees_may_begin_alike_and_one_has_no_copies() -> None:
    """All first steps are children of the root: merged across subtrees, the second would lose its best, and with a width
    of 1 its life."""
    texts = {"0": word(1), "1": word(1), "2": word(2), "3": word(1)}
    texts |= {"0.0": ends(1), "0.1": ends(2), "3.0": ends(3), "3.1": ends(0)}
    rewards = {"0": 0.9, "2": 0.3, "3": 0.9, "0.0": 0.4, "0.1": 0.5, "3.0": 0.4, "3.1": 0.5}
    for lookahead in (0, 1):
        if lookahead:
            texts |= {"2.0": ends(1), "3.2": ends(2), "0.2": ends(0)}
            rewards |= {"2.0": 0.1, "3.2": 0.6, "0.2": 0.6}
        tree, _, asked = searched(DVTS(n=4, width=2, lookahead=lookahead), texts, rewards)
        assert tree.states["1"] == (State.MERGED, "same step as a sibling")
        assert [path[0] for path in asked[-1]] == ["0", "0", "3", "3"]
    tree, choice, asked = searched(DVTS(n=2, width=1), {"0": ends(1), "1": ends(1)}, {"0": 0.5, "1": 0.5})
    assert choice.votes[0].count == 2, "independent samples each have their vote"


def test_a_subtree_whose_best_is_a_solution_stops_and_the_others_go_on() -> None:
    texts = {"0": ends(1), "1": ends(2), "2": word(2), "3": word(3), "2.0": ends(3), "2.1": word(1)}
    texts |= {"2.1.0": ends(0), "2.1.1": ends(3)}
    rewards = {"0": 0.3, "1": 0.6, "2": 0.5, "3": 0.4, "2.0": 0.8, "2.1": 0.9, "2.1.0": 0.2, "2.1.1": 0.1}
    tree, choice, asked = searched(DVTS(n=4, width=2), texts, rewards)
    assert asked[1:] == [("2.0", "2.1"), ("2.1.0", "2.1.1")]
    assert {vote.answer: vote.count for vote in choice.votes} == {"1": 1, "2": 1, "0": 1, "3": 1}
    assert choice.path == "1"
    assert tree.states["2.0"] == (State.PRUNED, "not the best of its subtree"), "its subtree went on from its sibling"


def test_an_earlier_solution_is_taken_back_where_no_subtree_comes_to_one() -> None:
    long = [*([GOOD] * 9), DIGIT + 1, 0]
    texts = {"0": word(0), "1": ends(2), "0.0": long, "0.1": long}
    tree, choice, _ = searched(DVTS(n=2, width=2), texts, {"0": 0.9, "1": 0.4})
    assert choice.path == "1"
    assert tree.states["1"][0] is State.FINISHED


def test_a_cut_step_is_not_a_solution() -> None:
    """Published: what the token limit cut counts as finished, and is chosen."""
    long = [*([GOOD] * 9), DIGIT + 1, 0]
    tree, choice, asked = searched(DVTS(n=2, width=2), {"0": long, "1": ends(2)}, {"1": 0.1})
    assert (choice.path, len(asked), list(tree.scores)) == ("1", 1, ["1"])


def test_at_the_last_depth_finished_siblings_of_an_open_best_count() -> None:
    texts = {"0": word(0), "1": ends(2), "2": word(2), "3": word(3)}
    rewards = {"0": 0.9, "1": 0.4, "2": 0.5, "3": 0.6}
    tree, choice, asked = searched(DVTS(n=4, width=2, depth=1), texts, rewards)
    assert (choice.path, len(asked)) == ("1", 1)
    assert tree.states["0"][0] is State.LIVE
    tree, choice, asked = searched(DVTS(n=4, width=2), texts, rewards, Budget(candidates=4))
    assert (choice.path, len(asked)) == ("1", 1), "nor when the budget ends it"


def test_all_first_steps_are_judged_in_one_request() -> None:
    tree = World().tree("p0")
    asked = [len(r.paths) for r, _ in by_hand(DVTS(n=12, width=2), tree, World()) if isinstance(r, Verify)]
    first = [c for p, c in tree.candidates.items() if depth_of(p) == 1 and p in tree.scores]
    assert asked[0] == len(first) > 6


def test_with_a_width_of_1_it_is_that_many_independent_samples() -> None:
    """As many chains as n, and as often right as best-of-n's samples (the seeds differ: the texts do too)."""
    world = World(names=tuple(f"p{i}" for i in range(150)), judge=constant, step_tokens=60, tokens=60)
    rates: dict[str, Counter[str]] = {"chains": Counter(), "samples": Counter()}
    for key, strategy in (("chains", DVTS(n=4, width=1)), ("samples", BestOfN(n=4))):
        for tree, _ in world.run(strategy).choices():
            ended = [p for p, c in tree.candidates.items() if c.finished]
            assert len(ended) == len({p.split(".")[0] for p in ended}) == 4
            rates[key].update(str(tree.answer(p).key == str(right_digit(tree.question))) for p in ended)
    p, q = (rates[key]["True"] / rates[key].total() for key in ("chains", "samples"))
    assert abs(p - q) < 4 * math.sqrt(2 * 0.25 / 600)
    assert 0.2 < p < 0.8


def test_selectors_see_the_last_siblings() -> None:
    texts = {"0": ends(1), "1": ends(1), "2": ends(2), "3": ends(3)}
    _, choice, _ = searched(DVTS(n=4, width=2, select=Selector("weighted")), texts, {"0": 0.3, "2": 0.4, "3": 0.35})
    assert (choice.answer, len(choice.votes)) == ("2", 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"n": 6, "width": 4}, "n must be a multiple of width, not n=6 with width=4"),
        ({"width": 0}, "width must be at least 1, not 0"),
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"lookahead": -1}, "lookahead must be 0"),
    ],
)
def test_impossible_numbers_are_refused(given: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DVTS(**given)  # type: ignore[arg-type]
