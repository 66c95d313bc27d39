"""Monte Carlo tree search: the formulas' numbers, trees worked by hand, what the statistics know, and the ends of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, perfect, right_digit, scripted
from laws import World, by_hand

from search.select import Selector
from search.strategies import Strategy
from search.strategies.best_of_n import BestOfN
from search.strategies.greedy import Greedy
from search.strategies.mcts import MCTS
from search.strategies.mcts_stats import Prior, Statistics, Stats, p_ucb, priors, puct, uct
from search.strategies.pgtd import PGTD
from search.strategies.rstar import RStar
from search.tree import Tree
from search.types import ROOT, Ask, Budget, Choice, Finish, Path, State, Trace, Verify, lineage, parent_of

Texts = Mapping[Path, Sequence[int]]
PRUNED, MERGED = State.PRUNED, State.MERGED


def word(mark: int) -> list[int]:
    return [GOOD + mark % 7, *([GOOD] * (mark // 7)), SEPARATOR]


def ends(digit: int) -> list[int]:
    return [DIGIT + digit, END]


SILENT = [GOOD, END]  # a solution without an answer
LONG = [*([GOOD] * 30), SEPARATOR]


def scored_by(texts: Texts, rewards: Mapping[Path, float], budget: Budget = Budget()) -> World:
    """A world in which each path has a text and a reward. What has none must not be asked for."""
    of = {tuple(tuple(texts[p]) for p in lineage(path)): reward for path, reward in rewards.items()}

    def judge(trace: Trace) -> tuple[float, ...]:
        return (of[tuple(tuple(step.tokens.tolist()) for step in trace.steps)],)

    return World(lambda **_: FakeGenerator(scripted(texts)), judge=judge, names=("q",), budget=budget)


def searched(
    strategy: Strategy, texts: Texts, rewards: Mapping[Path, float], budget: Budget = Budget()
) -> tuple[Tree, Choice, list[tuple[Path, ...]]]:
    """A search by a script, and the paths of each request in order."""
    ran = scored_by(texts, rewards, budget).run(strategy)
    [(tree, choice)] = ran.choices()
    return tree, choice, [tuple(row.path for row in request.rows) for _, request in ran.generator.asked]


def expanded(asked: Sequence[Sequence[Path]]) -> list[Path]:
    return [parent_of(paths[0]) for paths in asked]


# ------------------------------------------------------------------------------------------------------- the formulas


def test_the_formulas_have_the_numbers_of_the_cards() -> None:
    """Card K: q = .5, N = 8, n = 2 is 2.539. Of the others, with P: c(8) = ln(19661/19652) + 1.25 = 1.25046, and
    ln(19/10) + 4 = 4.64185."""
    assert uct(0.5, 8, 2, c=2) == pytest.approx(2.539, abs=5e-4)
    assert puct(0.5, 0.25, 8, 2, base=19652, init=1.25) == pytest.approx(0.5 + 0.25 * 1.25046 * math.sqrt(8) / 3, abs=1e-5)
    assert p_ucb(0.5, 0.5, 8, 2, base=10, c=4) == pytest.approx(0.5 + 4.64185 * 0.5 * math.sqrt(math.log(8)) / 3, abs=1e-5)


def test_what_was_never_visited_comes_before_all_that_was() -> None:
    assert uct(0.0, 1, 0, c=0) > uct(1.0, 10**9, 1, c=100)


def test_at_the_first_visit_no_logarithm_of_nothing_is_taken() -> None:
    """The root has no visit yet when its own children are first looked at."""
    assert p_ucb(0.3, 1.0, 0, 0, base=10, c=4) == 0.3
    assert puct(0.3, 1.0, 0, 0, base=19652, init=1.25) == 0.3


@pytest.mark.parametrize("init", [0.0, 1.25])
def test_the_weight_of_the_prior_grows_with_the_visits(init: float) -> None:
    """By c alone: what sqrt(N) / (n + 1) makes of it is divided out."""
    weights = [puct(0.0, 1.0, n, 0, base=100, init=init) / math.sqrt(n) for n in (1, 10, 100, 1000)]
    assert weights == pytest.approx([init + math.log((n + 101) / 100) for n in (1, 10, 100, 1000)])
    assert weights == sorted(weights)


def drawn(texts: Texts, rewards: Mapping[Path, float]) -> Tree:
    """A tree with the first steps drawn and judged."""

    @dataclass(frozen=True)
    class Steps:
        def search(self, tree: Tree) -> Ask[Choice]:
            steps = yield from tree.extend([ROOT], n=len(texts))
            yield from tree.verify(steps)
            return Choice(None, None, "nothing is chosen")

    return searched(Steps(), texts, rewards)[0]


def test_priors_are_shares_of_the_siblings() -> None:
    """By log-probability: exp of the mean, not of the sum, so that a longer step is not the less likely for its length."""
    tree = drawn({"0": ends(0), "1": [GOOD, GOOD, *ends(1)]}, {"0": 0.9, "1": 0.4})
    both = [tree.candidates[path] for path in "01"]
    means = [float(c.step.logprobs.mean(dtype="float64")) for c in both]
    expected = {
        "uniform": [0.5, 0.5],
        "value": [math.exp(0.9) / (math.exp(0.9) + math.exp(0.4)), math.exp(0.4) / (math.exp(0.9) + math.exp(0.4))],
        "logprob": [math.exp(means[0]) / sum(map(math.exp, means)), math.exp(means[1]) / sum(map(math.exp, means))],
    }
    kinds: tuple[Prior, ...] = ("uniform", "value", "logprob")
    for kind in kinds:
        assert priors(kind, tree, both) == pytest.approx(expected[kind])
    assert priors("logprob", tree, []) == []


# ----------------------------------------------------------------------------------------------------- the statistics


def backed_up(values: Mapping[Path, Sequence[float]]) -> Statistics:
    """Statistics of two first steps with what was backed up from each."""
    tree = drawn({"0": word(0), "1": word(1)}, {"0": 0.5, "1": 0.5})
    seen = Statistics(tree, depth=9)
    seen.add(ROOT, tree.candidates.values())
    for path, returns in values.items():
        for value in returns:
            seen.back_up(path, value)
    return seen


def test_the_mean_forgets_one_good_return_among_bad_ones_and_the_best_does_not() -> None:
    """The difference of PG-TD from the others: .9 and .1 twice is .367 in the mean, .9 at best; .5 is between."""
    seen = backed_up({"0": (0.9, 0.1, 0.1), "1": (0.5, 0.5, 0.5)})
    assert seen.of["0"].mean == pytest.approx(1.1 / 3)
    assert seen.of["0"].best == 0.9
    assert (seen.of[ROOT].visits, seen.of[ROOT].best) == (6, 0.9)
    assert seen.of[ROOT].total == pytest.approx(2.6)
    assert seen.pick(ROOT, lambda _, child: child.mean) == "1"
    assert seen.pick(ROOT, lambda _, child: child.best) == "0"


def test_a_value_stands_in_until_the_first_visit_and_a_pending_one_counts_as_lost() -> None:
    stats = Stats(value=0.8)
    assert stats.mean == 0.8
    stats.pending = 1
    assert stats.mean == 0.0
    stats.visits, stats.total = 3, 2.4
    assert stats.mean == pytest.approx(0.6)


def test_pgtd_goes_by_the_best_return_and_the_others_by_the_mean() -> None:
    """Three visits with .9, .1 and .1, and no exploration."""
    parent, child = Stats(visits=4), Stats(visits=3, total=1.1, best=0.9)
    assert MCTS(init=0.0, base=1e12)._merit(parent, child) == pytest.approx(1.1 / 3)
    assert RStar(c=0.0)._merit(parent, child) == pytest.approx(1.1 / 3)
    assert PGTD(c=0.0, base=1e12)._merit(parent, child) == pytest.approx(0.9)


def test_what_is_pending_counts_as_a_visit_of_parent_and_child() -> None:
    merit = MCTS()._merit(Stats(visits=3, pending=1), Stats(prior=0.5, visits=1, pending=1, total=0.8))
    assert merit == puct(0.4, 0.5, 4, 2, base=19652.0, init=1.25)


def test_the_line_follows_visits_and_between_equal_ones_the_mean() -> None:
    assert backed_up({"0": (0.1, 0.1), "1": (0.9,)}).line() == "0"
    assert backed_up({"0": (0.1,), "1": (0.9,)}).line() == "1"


def test_equal_merits_go_to_the_first() -> None:
    assert backed_up({}).pick(ROOT, lambda _, child: child.value) == "0"


# --------------------------------------------------------------------------------------------------------------- mcts

TWO = {"0": word(0), "1": word(1)}
TWO |= {"0.0": word(2), "0.1": word(3), "1.0": word(4), "1.1": word(5)}
TWO |= {"0.0.0": ends(1), "0.0.1": ends(2), "1.0.0": ends(3), "1.0.1": ends(0), "0.1.0": ends(1), "0.1.1": ends(2)}
TWO |= {"1.1.0": ends(1), "1.1.1": ends(2)}
VALUES = {"0": 0.8, "1": 0.6, "0.0": 0.1, "0.1": 0.1, "1.0": 0.5, "1.1": 0.5, "0.0.0": 0.2, "0.0.1": 0.1, "1.0.0": 0.7}
VALUES |= {"1.0.1": 0.1, "0.1.0": 0.1, "0.1.1": 0.1, "1.1.0": 0.1, "1.1.1": 0.1}


def test_puct_goes_from_one_to_the_other_as_worked_by_hand() -> None:
    """Q + .5 x 1.25 sqrt(N) / (n + 1):

    N = 1    0: .8 + .625 = 1.43            1: .6 + .625 = 1.23          -> 0
    N = 2    0: .8 + .884 / 2 = 1.24        1: .6 + .884 = 1.48          -> 1
    N = 3    0: .8 + 1.08 / 2 = 1.34        1: .6 + 1.08 / 2 = 1.14      -> 0, and 0.0 in it, worth .1: Q falls to .45
    N = 4    0: .45 + 1.25 / 3 = .87        1: .6 + 1.25 / 2 = 1.23      -> 1, and 1.0 in it
    """
    _, _, asked = searched(MCTS(k=2, simulations=5, prior="uniform"), TWO, VALUES)
    assert expanded(asked) == [ROOT, "0", "1", "0.0", "1.0"]


def test_without_exploration_the_better_value_is_followed() -> None:
    texts = {"0": word(0), "1": word(1), "1.0": ends(1), "1.1": word(3)}
    rewards = {"0": 0.6, "1": 0.8, "1.0": 0.7, "1.1": 0.9}
    _, choice, asked = searched(MCTS(k=2, simulations=2, init=0.0, prior="uniform"), texts, rewards)
    assert expanded(asked) == [ROOT, "1"]
    assert choice.path == "1.0"


def test_the_prior_decides_between_equal_values() -> None:
    """The fake's log-probabilities are a function of seed and token: whichever is likelier is gone down first."""
    texts = {"0": word(0), "1": word(1), **{f"{a}.{b}": ends(b) for a in "01" for b in range(2)}}
    rewards = dict.fromkeys(texts, 0.5)
    tree, _, asked = searched(MCTS(k=2, simulations=2), texts, rewards)
    mean = {path: tree.candidates[path].step.logprob / len(tree.candidates[path].step) for path in "01"}
    assert mean["0"] != mean["1"]
    assert expanded(asked)[1] == max(mean, key=lambda path: mean[path])


def test_one_simulation_is_the_best_of_k_first_steps() -> None:
    texts = {str(i): ends(i) for i in range(4)}
    tree, choice, asked = searched(MCTS(k=4, simulations=1), texts, {"0": 0.3, "1": 0.2, "2": 0.9, "3": 0.5})
    assert asked == [("0", "1", "2", "3")]
    assert (choice.path, choice.answer, tree.usage.verifier_passes) == ("2", "2", 4)


def test_leaves_of_one_round_are_different_and_asked_for_at_once() -> None:
    """The first is taken for lost while the second is looked for: without that both would be 0, and one of them wasted."""
    _, _, asked = searched(MCTS(k=2, simulations=9, leaves=2, prior="uniform", init=0.1), TWO, VALUES)
    assert asked[:2] == [("0", "1"), ("0.0", "0.1", "1.0", "1.1")]


def test_no_more_simulations_are_made_than_asked_for() -> None:
    """A round of leaves is cut to what is left of them: the third would be of two."""
    world = World(tokens=60, step_tokens=30)
    for simulations in (1, 2, 3, 4, 5):
        for tree, _ in world.run(MCTS(k=2, simulations=simulations, leaves=2)).choices():
            grown = {parent_of(path) for path in tree.candidates}
            assert len(grown) <= simulations + 1, "and at most the line that is completed"


def test_a_round_leaves_nothing_pending() -> None:
    tree = drawn({"0": word(0), "1": word(1)}, {"0": 0.5, "1": 0.5})
    seen = Statistics(tree, depth=9)
    seen.add(ROOT, tree.candidates.values())
    seen.hold("0", 1)
    assert (seen.of[ROOT].tries, seen.of["0"].tries, seen.of["1"].tries) == (1, 1, 0)
    seen.hold("0", -1)
    assert {stats.tries for stats in seen.of.values()} == {0}


def test_a_finished_solution_backs_up_its_value_again_and_is_never_asked_to_go_on() -> None:
    """Of .9 finished and .1 open, the finished one has visits 2 to 5, for no token. With P c = .5, at N = 5 it has
    .9 + .5 sqrt(5) / 5 = 1.12, and the other .1 + .5 sqrt(5) = 1.22."""
    texts = {"0": ends(1), "1": word(1), "1.0": ends(2), "1.1": ends(3)}
    rewards = {"0": 0.9, "1": 0.1, "1.0": 0.2, "1.1": 0.1}
    costs = [len(searched(MCTS(k=2, simulations=n, init=1.0, prior="uniform"), texts, rewards)[2]) for n in range(1, 9)]
    assert costs == [1, 1, 1, 1, 1, 2, 2, 2]


def test_when_all_is_explored_the_search_is_over() -> None:
    """Simulations beyond that would change nothing: with a million of them it would not come back."""
    texts = {"0": ends(1), "1": word(1), "1.0": ends(2), "1.1": ends(3)}
    rewards = {"0": 0.9, "1": 0.1, "1.0": 0.95, "1.1": 0.1}
    _, choice, asked = searched(MCTS(k=2, simulations=1_000_000), texts, rewards)
    assert expanded(asked) == [ROOT, "1"]
    assert choice.path == "1.0"
    assert len(choice.votes) == 3


def test_an_explored_subtree_is_left_alone_while_there_is_another() -> None:
    """0 leads to two solutions of .9, and 1 is worth .05: by merit alone all further visits would be 0's."""
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": ends(2), "1.0": word(2), "1.1": word(3)}
    rewards = {"0": 0.9, "1": 0.05, "0.0": 0.9, "0.1": 0.9, "1.0": 0.1, "1.1": 0.1}
    _, _, asked = searched(MCTS(k=2, simulations=5, init=0.001, prior="uniform"), texts, rewards)
    assert expanded(asked) == [ROOT, "0", "1"], "0, 0.0 and 0.1 are visited once each, and then 1"


def test_a_dead_end_is_worth_nothing() -> None:
    """0 promises .9, and all that follows it is cut or gives no answer: its 0 is backed up, and it is not come back to."""
    texts = {"0": word(0), "1": word(1), "0.0": LONG, "0.1": SILENT, "1.0": ends(1), "1.1": ends(2)}
    tree, choice, asked = searched(MCTS(k=2, simulations=9), texts, {"0": 0.9, "1": 0.1, "1.0": 0.4, "1.1": 0.3})
    assert tree.candidates["0.0"].step.finish is Finish.LENGTH
    assert tree.states["0.1"] == (PRUNED, "no answer")
    assert not {"0.0", "0.1"} & set(tree.scores), "neither costs a pass"
    assert expanded(asked).count("0") == 1
    assert choice.path == "1.0"


def test_a_dead_end_takes_its_value_from_all_above_it() -> None:
    """Of 0 (.8) and 0.0 (.9) nothing is left: with a 0 the mean of 0 is .4, below the .6 of 1; with its own value .85."""
    texts = {"0": word(0), "1": word(1), "0.0": word(2), "0.1": word(3), "0.0.0": LONG, "0.0.1": SILENT}
    texts |= {"1.0": ends(1), "1.1": ends(2)}
    rewards = {"0": 0.8, "1": 0.6, "0.0": 0.9, "0.1": 0.9, "1.0": 0.4, "1.1": 0.3}
    _, _, asked = searched(MCTS(k=2, simulations=4, init=0.0, prior="uniform"), texts, rewards)
    assert expanded(asked) == [ROOT, "0", "0.0", "1"]


def test_a_dead_end_is_not_the_line_that_is_completed() -> None:
    """It has the visits, and nothing came of it."""
    texts = {"0": word(0), "1": word(1), "0.0": LONG, "0.1": SILENT, "1.0": ends(1), "1.1": ends(2)}
    _, choice, asked = searched(MCTS(k=2, simulations=2), texts, {"0": 0.9, "1": 0.1, "1.0": 0.4, "1.1": 0.3})
    assert expanded(asked) == [ROOT, "0", "1"]
    assert choice.path == "1.0"


def test_equal_siblings_are_merged_and_judged_once() -> None:
    texts = {"0": ends(1), "1": ends(1), "2": ends(2)}
    tree, _, _ = searched(MCTS(k=3, simulations=1), texts, {"0": 0.5, "2": 0.4})
    assert tree.states["1"] == (MERGED, "same step as a sibling")
    assert set(tree.scores) == {"0", "2"}


def test_candidates_at_the_depth_are_not_gone_on_from() -> None:
    texts = {"0": word(0), "1": ends(1)}
    tree, choice, asked = searched(MCTS(k=2, simulations=20, depth=1), texts, {"0": 0.9, "1": 0.2})
    assert asked == [("0", "1")]
    assert choice.path == "1"
    assert tree.states["0"] == (PRUNED, "left unexpanded")


def test_where_nothing_has_finished_the_most_visited_line_is_completed() -> None:
    """A search that is too broad for its simulations had nothing to say."""
    texts = {"0": word(0), "1": word(1), "1.0": [*word(2), *ends(3)], "1.1": [*word(3), *ends(2)]}
    rewards = {"0": 0.2, "1": 0.8, "1.0": 0.4, "1.1": 0.6}
    tree, choice, asked = searched(MCTS(k=2, simulations=1), texts, rewards)
    assert asked == [("0", "1"), ("1.0", "1.1")]
    assert (choice.path, choice.answer) == ("1.1", "2")
    assert tree.states["0"] == (PRUNED, "left unexpanded")


def test_the_most_visited_line_may_be_chosen_instead_of_the_best_value() -> None:
    """2.0 is found last and has the highest value; 0 was visited twice and 2 once."""
    texts = {"0": ends(1), "1": ends(2), "2": word(1), "2.0": ends(3), "2.1": word(3), "2.2": word(4)}
    rewards = {"0": 0.9, "1": 0.8, "2": 0.85, "2.0": 0.95, "2.1": 0.0, "2.2": 0.0}
    strategy = MCTS(k=3, simulations=4, init=0.3, prior="uniform")
    assert searched(strategy, texts, rewards)[1].path == "2.0"
    _, choice, _ = searched(replace(strategy, final="visits"), texts, rewards)
    assert choice.path == "0"
    assert [vote.count for vote in choice.votes] == [1], "the others are not asked"


def test_the_most_visited_line_is_completed_where_it_is_what_is_chosen() -> None:
    deep = {"0": ends(1), "1": word(1), **{f"1.{i}": [*word(i), *ends(i)] for i in range(3)}}
    rewards = {"0": 0.3, "1": 0.9, "1.0": 0.2, "1.1": 0.1}
    assert searched(MCTS(k=2, simulations=1, final="visits"), deep, rewards)[1].path == "1.0", "its line is completed"
    assert searched(MCTS(k=2, simulations=1), deep, rewards)[1].path == "0"


@pytest.mark.parametrize("strategy", [MCTS(), MCTS(leaves=3), RStar(), PGTD()], ids=["mcts", "leaves", "rstar", "pg-td"])
def test_once_the_verifier_passes_are_spent_no_more_is_generated(strategy: Strategy) -> None:
    """What is written then can be judged by nobody."""
    world = World(budget=Budget(passes=3))
    for name in world.names:
        tree = world.tree(name)
        for request, _ in by_hand(strategy, tree, world):
            assert isinstance(request, Verify) or tree.usage.verifier_passes < 3
        assert tree.usage.verifier_passes == 3


# -------------------------------------------------------------------------------------------------------------- rstar


def test_rstar_visits_all_siblings_once_and_then_goes_where_uct_says() -> None:
    """Root, 0 and 1 first, unvisited ones in their order. Then q + 2 sqrt(ln 2 / 1): .9 of 1 beats .2 of 0; 1 was visited, so
    it is given two steps and a solution is written from the first."""
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "1.0": ends(2), "1.1": word(2), "1.2": word(3), "1.1.0": ends(3)}
    rewards = {"0.0": 0.2, "1.0": 0.9, "1.1.0": 0.4}
    tree, choice, asked = searched(RStar(k=2, simulations=3), texts, rewards)
    assert asked == [("0", "1"), ("0.0",), ("1.0",), ("1.1", "1.2"), ("1.1.0",)]
    assert set(tree.scores) == {"0.0", "1.0", "1.1.0"}, "steps are not judged, only whole solutions"
    assert choice.path == "1.0"
    assert tree.states["1.2"] == (PRUNED, "left unexpanded")


def test_rstar_backs_up_the_mean_of_its_rollouts_and_what_is_no_solution_is_worth_0() -> None:
    """0: .9, cut, without an answer, .3 is .3 in the mean; 1: .4 each. So the third goes to 1."""
    texts: dict[Path, list[int]] = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": LONG, "0.2": SILENT, "0.3": ends(2)}
    texts |= {f"1.{i}": ends(3) for i in range(4)} | {"1.4": word(1), "1.5": word(2)} | {f"1.4.{i}": ends(3) for i in range(4)}
    rewards = {"0.0": 0.9, "0.3": 0.3, **{f"1.{i}": 0.4 for i in range(4)}, **{f"1.4.{i}": 0.4 for i in range(4)}}
    tree, _, asked = searched(RStar(k=2, simulations=3, rollouts=4), texts, rewards)
    assert expanded(asked) == [ROOT, "0", "1", "1", "1.4"]
    assert tree.states["0.2"] == (PRUNED, "no answer")
    assert tree.states["0.1"][0] is State.FAILED


def test_rstar_takes_a_finished_step_for_its_own_rollout() -> None:
    texts = {"0": ends(1), "1": ends(2)}
    tree, choice, asked = searched(RStar(k=2, simulations=50), texts, {"0": 0.2, "1": 0.9})
    assert asked == [("0", "1")]
    assert (choice.path, tree.usage.verifier_passes) == ("1", 2)


def test_rstar_lets_the_solutions_of_the_highest_rewards_vote() -> None:
    """Two of .5 outweigh one of .9 where all vote, and are not asked where two do."""
    texts = {str(i): ends(d) for i, d in enumerate((1, 2, 2, 3))}
    rewards = {"0": 0.9, "1": 0.5, "2": 0.5, "3": 0.6}
    texts["2"] = [GOOD, *ends(2)]
    assert searched(RStar(k=4, simulations=9), texts, rewards)[1].answer == "2"
    _, choice, _ = searched(RStar(k=4, simulations=9, top=2), texts, rewards)
    assert {vote.answer for vote in choice.votes} == {"1", "3"}
    assert choice.answer == "1"


def test_rstar_by_agreement_needs_no_verifier() -> None:
    """Of the solutions found so far, the share with the same answer: 1 of 1, then 1 of 2; the next with 1 has 2 of 3."""
    texts = {"0": word(0), "1": word(1), "2": word(2), "0.0": ends(1), "1.0": ends(2), "2.0": ends(1)}
    strategy = RStar(k=3, simulations=3, reward="agreement", select=Selector("majority"))
    tree, choice, _ = searched(strategy, texts, {})
    assert (choice.answer, choice.votes[0].count, tree.usage.verifier_passes) == ("1", 2, 0)
    tree, choice, _ = searched(RStar(k=3, simulations=3, reward="agreement"), texts, {"0.0": 0.1, "1.0": 0.8, "2.0": 0.1})
    assert (choice.answer, tree.usage.verifier_passes) == ("2", 3), "a selector that reads scores has the voters judged"


def test_rstar_by_agreement_goes_where_the_answers_agree() -> None:
    """0 gives 1 and 2, a half each; 1 gives 1 twice, three of the four found by then. So 1 is gone on from."""
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": ends(2), "1.0": ends(1), "1.1": [GOOD, *ends(1)]}
    texts |= {"1.2": word(3), "1.3": word(4), "1.2.0": ends(1), "1.2.1": ends(1)}
    strategy = RStar(k=2, simulations=3, rollouts=2, c=0.0, reward="agreement", select=Selector("majority"))
    assert expanded(searched(strategy, texts, {})[2]) == [ROOT, "0", "1", "1", "1.2"]


# -------------------------------------------------------------------------------------------------------------- pg-td


def test_pgtd_of_width_1_is_greedy_decoding_at_its_cost() -> None:
    """Card J. Simulations beyond the first go along what is known, and the search ends when all is."""
    world = World(tokens=60, step_tokens=30)
    whole = {tree.question.id: (tree, choice) for tree, choice in world.run(Greedy()).choices()}
    deep = 0
    for tree, choice in world.run(PGTD(k=1, simulations=50)).choices():
        greedy, chosen = whole[tree.question.id]
        last = max(tree.candidates, key=lambda path: tree.candidates[path].depth)
        assert tree.text(last) == greedy.text("0")
        assert tree.usage.generated_tokens == greedy.usage.generated_tokens
        assert choice.answer == chosen.answer
        deep += tree.candidates[last].depth > 1
    assert deep, "some must have more than one step for this to say something"


def test_pgtd_of_one_simulation_is_greedy_decoding() -> None:
    world = World(tokens=60, step_tokens=30)
    one = {tree.question.id: choice.answer for tree, choice in world.run(PGTD(simulations=1)).choices()}
    assert one == {tree.question.id: choice.answer for tree, choice in world.run(Greedy()).choices()}


PLAN = {"0": word(0), "0.0": word(1), "0.0.0": ends(1)}  # what greedy decoding makes of the question
PLAN |= {"1": word(2), "1.0": ends(2)}  # what is drawn beside it, and its completion


def test_pgtd_completes_what_is_new_and_keeps_what_is_known() -> None:
    """The second simulation comes to the greedy first step: its completion is known, and costs neither token nor pass. The
    third comes to the other one."""
    rewards = {"0.0.0": 0.4, "1.0": 0.7}
    costs = {}
    for simulations in (1, 2, 3):
        tree, choice, asked = searched(PGTD(k=2, simulations=simulations), PLAN, rewards)
        costs[simulations] = asked, tree.usage.verifier_passes, choice.path
    chain = [("0",), ("0.0",), ("0.0.0",)]
    assert costs[1] == (chain, 1, "0.0.0")
    assert costs[2] == ([*chain, ("1",)], 1, "0.0.0")
    assert costs[3] == ([*chain, ("1",), ("1.0",)], 2, "1.0")


def test_pgtd_merges_a_drawn_step_that_greedy_decoding_wrote_and_gives_it_its_return() -> None:
    """All that is drawn is what greedy decoding wrote: one completion and one pass, however many simulations."""
    texts = PLAN | {"1": word(0), "0.1": word(1), "0.0.1": ends(1)}
    tree, choice, _ = searched(PGTD(k=2, simulations=1_000_000), texts, {"0.0.0": 0.4})
    assert {path for path, (state, _) in tree.states.items() if state is MERGED} == {"1", "0.1", "0.0.1"}
    assert (choice.path, tree.usage.verifier_passes) == ("0.0.0", 1)


def test_pgtd_keeps_the_best_of_all_its_completions() -> None:
    """The greedy one is the better: what comes after it does not take its place."""
    _, choice, _ = searched(PGTD(k=2, simulations=3), PLAN, {"0.0.0": 0.8, "1.0": 0.7})
    assert choice.path == "0.0.0"
    assert {vote.answer for vote in choice.votes} == {"1", "2"}


def test_pgtd_gives_0_to_a_completion_that_is_cut_or_gives_no_answer() -> None:
    texts = {"0": word(0), "0.0": SILENT, "1": word(1), "1.0": LONG, "2": word(2), "2.0": ends(1)}
    texts |= {f"{a}.{b}": LONG for a in "012" for b in "12"}
    tree, choice, _ = searched(PGTD(k=3, simulations=50), texts, {"2.0": 0.1})
    assert tree.states["0.0"] == (PRUNED, "no answer")
    assert list(tree.scores) == ["2.0"]
    assert choice.path == "2.0"


def test_pgtd_drops_a_greedy_step_without_an_answer_once() -> None:
    """It came up again among the children of what it follows: the generator was told twice to free it."""
    texts = {"0": word(0), "0.0": SILENT, "1": ends(1), "0.1": ends(2)}
    ran = scored_by(texts, {"1": 0.1, "0.1": 0.2}).run(PGTD(k=2, simulations=50))
    [(tree, choice)] = ran.choices()
    dropped = [path for _, request in ran.generator.asked for path in request.dropped]
    assert dropped == ["0.0"]
    assert choice.path == "0.1"
    assert not tree._dropped


def test_pgtd_does_not_choose_what_the_verifier_could_not_judge() -> None:
    tree, choice, _ = searched(PGTD(k=2, simulations=3), PLAN, {"0.0.0": 1.5, "1.0": 0.2})
    assert tree.states["0.0.0"] == (PRUNED, "invalid value 1.5")
    assert choice.path == "1.0"


# ------------------------------------------------------------------------------------------------------ against others

NAMES = tuple(f"p{i}" for i in range(24))


def right(strategy: Strategy, tokens: int) -> int:
    """On how many of 24 problems a search of so many tokens, and a verifier that is never wrong, chooses the right answer."""
    world = World(judge=perfect, names=NAMES, tokens=60, step_tokens=30, budget=Budget(tokens=tokens))
    return sum(choice.answer == str(right_digit(tree.question)) for tree, choice in world.run(strategy).choices())


@pytest.mark.parametrize("strategy", [MCTS(), PGTD()], ids=["mcts", "pg-td"])
def test_a_perfect_verifier_makes_a_tree_find_more_than_best_of_n_at_one_budget(strategy: Strategy) -> None:
    """Whatever n: a wrong first step is given up after a few tokens, and not written to its end."""
    best = max(right(BestOfN(n=n, select=Selector("best")), 40) for n in (1, 2, 3, 4, 6, 8))
    assert right(strategy, 40) > best


def test_a_perfect_verifier_makes_rstar_find_all_that_its_first_steps_allow() -> None:
    """More simulations find more, up to the one problem whose first steps are all wrong."""
    found = [right(RStar(simulations=n), 10_000) for n in (1, 4, 16)]
    assert found == sorted(found)
    assert found[0] < found[-1] == 23


@pytest.mark.parametrize(
    ("strategy", "wrong", "says"),
    [
        (MCTS, {"k": 0}, "k must be at least 1, not 0"),
        (MCTS, {"simulations": 0}, "simulations must be at least 1"),
        (MCTS, {"leaves": 0}, "leaves must be at least 1"),
        (MCTS, {"depth": 0}, "depth must be at least 1"),
        (MCTS, {"base": 0.0}, "base must be above 0, not 0.0"),
        (MCTS, {"init": math.nan}, "init must be at least 0, not nan"),
        (MCTS, {"prior": "logprobs"}, "unknown prior 'logprobs'; did you mean 'logprob'"),
        (MCTS, {"final": "visit"}, "unknown final 'visit'; did you mean 'visits'"),
        (RStar, {"rollouts": 0}, "rollouts must be at least 1"),
        (RStar, {"top": 0}, "top must be at least 1"),
        (RStar, {"c": -1.0}, "c must be at least 0, not -1.0"),
        (RStar, {"reward": "agree"}, "unknown reward 'agree'; did you mean 'agreement'"),
        (PGTD, {"k": 0}, "k must be at least 1, not 0"),
        (PGTD, {"c": math.inf}, "c must be at least 0, not inf"),
        (PGTD, {"base": -1.0}, "base must be above 0, not -1.0"),
    ],
)
def test_bad_parameters_are_refused(strategy: type[Strategy], wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strategy(**wrong)
