"""A*-decoding: the table of card A, backtracking, what the costs sum to, and the ends of a search."""

from __future__ import annotations

from itertools import accumulate, pairwise

import plays
import pytest
from fakes import (
    DIGIT,
    END,
    GOOD,
    SEPARATOR,
    FakeGenerator,
    Language,
    constant,
    perfect,
    scripted,
    step_of,
)
from hypothesis import given
from hypothesis import strategies as st
from laws import World, by_hand

from search.strategies.astar import COSTS, AStar, Cost, Seen, f_value, novel
from search.strategies.greedy import Greedy
from search.tree import Tree
from search.types import GREEDY, Budget, Candidate, Choice, Extend, Finish, Path, State, Trace, lineage, parent_of

ROOT_R = 0.5


@pytest.mark.parametrize(
    ("rewards", "rises", "consistent", "greedy"),
    [
        ((0.8,), 0.2, 0.5, 0.2),
        ((0.3,), 0.9, 0.7, 0.7),
        ((0.8, 0.9), 0.1, 0.5, 0.1),
        ((0.8, 0.6), 0.6, 0.7, 0.4),
        ((0.8, 0.1), 1.6, 1.2, 0.9),
        ((0.3, 0.7), 0.5, 0.7, 0.3),
    ],
)
def test_f_is_as_in_the_table(rewards: tuple[float, ...], rises: float, consistent: float, greedy: float) -> None:
    path = [ROOT_R, *rewards]
    assert f_value("rises", path) == pytest.approx(rises)
    assert f_value("consistent", path) == pytest.approx(consistent)
    assert f_value("greedy", path) == pytest.approx(greedy)


REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(REWARDS)
def test_f_is_the_sum_of_edge_costs_and_the_last_h(rewards: list[float]) -> None:
    """By the definition f = g + h, edge by edge, not by the closed forms that the code uses."""
    h = [1 - r for r in rewards]
    literal = sum(max(0.0, after - before) for before, after in pairwise(h)) + h[-1]
    needed = sum(max(0.0, before - after) for before, after in pairwise(h)) + h[-1]
    assert f_value("rises", rewards) == pytest.approx(literal, abs=1e-9)
    assert f_value("consistent", rewards) == pytest.approx(needed, abs=1e-9)
    assert f_value("greedy", rewards) == pytest.approx(h[-1], abs=1e-9)


@given(REWARDS)
def test_rises_is_h0_plus_2d_minus_u_and_consistent_is_h0_plus_d(rewards: list[float]) -> None:
    down = sum(max(0.0, a - b) for a, b in pairwise(rewards))
    up = sum(max(0.0, b - a) for a, b in pairwise(rewards))
    assert f_value("rises", rewards) == pytest.approx(1 - rewards[0] + 2 * down - up, abs=1e-9)
    assert f_value("consistent", rewards) == pytest.approx(1 - rewards[0] + down, abs=1e-9)


@given(REWARDS)
def test_consistent_never_falls_along_a_path(rewards: list[float]) -> None:
    """Exactly, not nearly: a fall by rounding would break the order of the frontier."""
    values = [f_value("consistent", rewards[: i + 1]) for i in range(len(rewards))]
    assert values == list(accumulate(values, max))


def test_rises_may_fall_along_a_path() -> None:
    assert f_value("rises", [0.5, 0.8]) < f_value("rises", [0.5])


# ------------------------------------------------------------------------------------------------- searches by a script


def words(mark: int, finish: int = SEPARATOR) -> list[int]:
    return [GOOD + mark % 7, *([GOOD] * (mark // 7)), finish]


def ends(digit: int) -> list[int]:
    return [DIGIT + digit, END]


def scored_by(texts: dict[Path, list[int]], rewards: dict[Path, float]) -> World:
    """A world in which each path has a text and a reward."""
    of = {tuple(tuple(texts[p]) for p in lineage(path)): reward for path, reward in rewards.items()}

    def judge(trace: Trace) -> tuple[float, ...]:
        steps = tuple(tuple(step.tokens.tolist()) for step in trace.steps)
        return (of[steps],)

    language: Language = scripted(texts)
    return World(lambda **_: FakeGenerator(language), judge=judge, names=("q",))


def searched(world: World, strategy: AStar) -> tuple[Tree, Choice, list[Path]]:
    """A search, and the states that it expanded, in order."""
    ran = world.run(strategy)
    [(tree, choice)] = ran.choices()
    expanded = [parent_of(request.rows[0].path) for _, request in ran.generator.asked]
    return tree, choice, expanded


@pytest.mark.parametrize("cost", COSTS)
def test_when_all_children_of_the_better_state_are_bad_the_search_goes_back(cost: Cost) -> None:
    """Card A: A (.8) is expanded first; its children have .1; the next is B (.3), which ends."""
    texts = {"0": words(0), "1": words(1), "0.0": words(2), "0.1": words(3), "1.0": ends(1), "1.1": ends(2)}
    rewards = {"0": 0.8, "1": 0.3, "0.0": 0.1, "0.1": 0.1, "1.0": 0.3, "1.1": 0.2}
    tree, choice, expanded = searched(scored_by(texts, rewards), AStar(k=2, cost=cost))
    assert expanded == ["", "0", "1"]
    assert (choice.path, choice.answer) == ("1.0", "1")
    assert tree.usage.verifier_passes == 6
    assert tree.usage.generated_tokens == sum(map(len, texts.values()))
    assert tree.states["0.0"] == (State.PRUNED, "left in the frontier")


def test_the_costs_rank_differently() -> None:
    """A drop to .6 after .8, or .44 at once: f is .7 and .56, literally .6 and .62, greedily .4 and .56."""
    texts = {"0": words(0), "1": words(1), "0.0": ends(1), "0.1": words(3), "1.0": ends(2), "1.1": words(5)}
    rewards = {"0": 0.8, "1": 0.44, "0.0": 0.6, "0.1": 0.1, "1.0": 0.44, "1.1": 0.1}
    chosen = {cost: searched(scored_by(texts, rewards), AStar(k=2, cost=cost))[1].path for cost in COSTS}
    assert chosen == {"consistent": "1.0", "rises": "0.0", "greedy": "0.0"}


def test_ties_of_the_consistent_cost_go_to_the_higher_reward_and_then_the_deeper_path() -> None:
    """Steps that do not lose all have f = h0: without the tie-break the search would be breadth-first."""
    texts = {"0": words(0), "1": words(1), "1.0": words(2), "1.1": words(3), "1.0.0": ends(1), "1.0.1": ends(2)}
    rewards = {"0": 0.7, "1": 0.8, "1.0": 0.8, "1.1": 0.75, "1.0.0": 0.8, "1.0.1": 0.8}
    _, choice, expanded = searched(scored_by(texts, rewards), AStar(k=2))
    assert expanded == ["", "1", "1.0"]
    assert choice.path == "1.0.0"


def test_a_goal_is_tested_when_popped_not_when_generated() -> None:
    """A finished solution of .4 is met first; a better one two steps away is still found."""
    texts = {"0": ends(1), "1": words(1), "1.0": ends(2), "1.1": words(3)}
    rewards = {"0": 0.4, "1": 0.9, "1.0": 0.9, "1.1": 0.2}
    _, choice, _ = searched(scored_by(texts, rewards), AStar(k=2))
    assert choice.path == "1.0"


def test_a_frontier_of_finished_states_only_ends_the_search() -> None:
    texts = {"0": ends(1), "1": ends(2)}
    tree, choice, expanded = searched(scored_by(texts, {"0": 0.4, "1": 0.9}), AStar(k=2, goals=5))
    assert expanded == [""]
    assert (choice.path, len(choice.votes)) == ("1", 2)
    assert all(state is State.FINISHED for state, _ in tree.states.values())


def test_goals_are_the_number_of_solutions_to_choose_among() -> None:
    texts = {"0": ends(1), "1": ends(2), "2": ends(3)}
    world = scored_by(texts, {"0": 0.4, "1": 0.9, "2": 0.8})
    for goals in (1, 2, 3):
        assert len(searched(world, AStar(k=3, goals=goals))[1].votes) == goals


def test_a_solution_in_the_frontier_is_used_when_the_expansions_are_spent() -> None:
    texts = {"0": words(0), "1": ends(2)}
    tree, choice, expanded = searched(scored_by(texts, {"0": 0.9, "1": 0.4}), AStar(k=2, expansions=1))
    assert expanded == [""]
    assert choice.path == "1"
    assert tree.states["0"] == (State.PRUNED, "left in the frontier"), "popped, and never expanded"


def test_siblings_with_one_text_are_merged_and_one_is_expanded() -> None:
    texts = {"0": words(1), "1": words(1), "2": words(2), "0.0": ends(1), "0.1": ends(2), "0.2": ends(3)}
    rewards = {"0": 0.9, "2": 0.2, "0.0": 0.9, "0.1": 0.8, "0.2": 0.7}
    tree, _, expanded = searched(scored_by(texts, rewards), AStar(k=3))
    assert expanded == ["", "0"]
    assert tree.states["1"] == (State.MERGED, "same step as a sibling")


def test_a_cut_step_is_neither_a_goal_nor_scored() -> None:
    texts = {"0": [*([GOOD] * 9), DIGIT + 1, END], "1": ends(2)}
    tree, choice, _ = searched(scored_by(texts, {"1": 0.1}), AStar(k=2))
    assert tree.candidates["0"].step.finish is Finish.LENGTH
    assert "0" not in tree.scores
    assert choice.path == "1"


def test_once_the_verifier_passes_are_spent_no_more_is_generated() -> None:
    """New steps would have no score: they were generated all the same, up to the limit of expansions."""
    world = World(budget=Budget(passes=4))
    for name in world.names:
        tree = world.tree(name)
        for request, _ in by_hand(AStar(k=4), tree, world):
            assert tree.usage.verifier_passes < 4, f"asked for {type(request).__name__} with nothing left to judge it"
        assert tree.usage.verifier_passes == 4


def test_with_k_of_1_the_search_is_plain_sampling() -> None:
    """Step by step with the seeds of the paths 0, 0.0, 0.0.0: whatever the rewards, the chain is one sample."""
    one, other = World(tokens=40), World(tokens=40, judge=constant)
    for (a, chosen), (b, also) in zip(one.run(AStar(k=1)).choices(), other.run(AStar(k=1)).choices(), strict=True):
        assert {p: c.step.text for p, c in a.candidates.items()} == {p: c.step.text for p, c in b.candidates.items()}
        assert chosen.path == also.path
        assert [c.depth for c in a.candidates.values()] == list(range(1, len(a.candidates) + 1))


def test_with_k_of_1_and_temperature_0_the_search_is_greedy_decoding() -> None:
    """The steps put together are the text that is decoded in one go."""
    world = World(tokens=60, step_tokens=60)
    whole = {tree.question.id: (tree, choice) for tree, choice in world.run(Greedy()).choices()}
    for name in world.names:
        tree = world.tree(name)
        tree.sampling = GREEDY
        for _ in by_hand(AStar(k=1), tree, world):
            pass
        last = max(tree.candidates, key=lambda path: tree.candidates[path].depth)
        assert tree.text(last) == whole[name][0].text("0")
        assert tree.candidates[last].depth > 1


def wrong_before_right(world: World, strategy: AStar) -> tuple[int, int]:
    """How often a wrong state was expanded while a right one was open, and how often there was that choice."""
    ran = world.run(strategy)
    faults = choices = 0
    for tree, _ in ran.choices():
        good = {p: perfect(Trace(tree.question, tree.steps(p)))[-1] == 1 for p, c in tree.candidates.items() if c.open}
        expanded: list[Path] = []
        for _, request in (each for each in ran.generator.asked if world.names[each[0]] == tree.question.id):
            state = parent_of(request.rows[0].path)
            minted = {p for p in good if parent_of(p) in expanded and tree.states[p][0] is not State.MERGED}
            right = {p for p in minted.difference(expanded) if good[p]}
            wrong = minted.difference(expanded) - right
            choices += bool(right and wrong)
            faults += bool(right and state in wrong)
            expanded.append(state)
    return faults, choices


@pytest.mark.parametrize("cost", COSTS)
def test_a_perfect_verifier_never_has_a_wrong_state_expanded_while_a_right_one_is_open(cost: Cost) -> None:
    names = tuple(f"p{i}" for i in range(8))
    faults, choices = wrong_before_right(World(judge=perfect, names=names), AStar(k=4, cost=cost))
    assert faults == 0
    assert choices > 8
    assert wrong_before_right(World(judge=constant, names=names), AStar(k=4, cost=cost))[0] > 0, "it would be seen"


def test_the_best_states_are_expanded_at_once() -> None:
    """In one request, and never more of them than `expansions` has left."""
    texts = {"0": words(0), "1": words(1), "2": words(2)} | {
        f"{i}.{j}": words(7 * i + j + 3) for i in range(3) for j in range(3)
    }
    texts |= {f"{i}.{j}.{k}": ends(k) for i in range(3) for j in range(3) for k in range(3)}
    rewards = {path: 0.9 - 0.1 * sum(map(int, path.split("."))) / len(path) for path in texts}
    world = scored_by(texts, rewards)
    asked = [
        [[parent_of(row.path) for row in request.rows][::3] for _, request in world.run(AStar(**given)).generator.asked]
        for given in ({"k": 3, "pops": 2}, {"k": 3, "pops": 3, "expansions": 3})
    ]
    assert asked[0][:2] == [[""], ["0", "1"]]
    assert asked[1] == [[""], ["0", "1"]]


def test_a_goal_behind_a_state_waits_for_its_children() -> None:
    """Popped in one batch with a better state, the goal won before that state was expanded."""
    texts = {"0": ends(1), "1": words(1), "1.0": ends(2), "1.1": words(3)}
    world = scored_by(texts, {"0": 0.6, "1": 0.9, "1.0": 0.9, "1.1": 0.2})
    for cost in COSTS:
        _, choice, expanded = searched(world, AStar(k=2, pops=4, cost=cost))
        assert (choice.path, expanded) == ("1.0", ["", "1"])


@pytest.mark.parametrize("cost", COSTS)
def test_whatever_is_popped_at_once_the_goal_is_the_one_of_the_lowest_f(cost: Cost) -> None:
    """No open state that is left has a lower f than the goal chosen."""
    for pops in (1, 2, 5):
        for tree, choice in World(tokens=40).run(AStar(k=3, pops=pops, cost=cost)).choices():
            if choice.path is None or tree.states[choice.path][0] is not State.FINISHED:
                continue
            f = {p: f_value(cost, [0.5, *(tree.scores[q].value or 0.0 for q in lineage(p))]) for p in tree.scores}
            left = [p for p, state in tree.states.items() if state == (State.PRUNED, "left in the frontier")]
            assert all(f[choice.path] <= f[p] for p in left)


def test_a_solution_is_a_goal_at_once_where_that_is_asked_for() -> None:
    """The ablation: the finished solution of .4 ends the search that would have found a better one."""
    texts = {"0": ends(1), "1": words(1), "1.0": ends(2), "1.1": words(3)}
    world = scored_by(texts, {"0": 0.4, "1": 0.9, "1.0": 0.9, "1.1": 0.2})
    tree, choice, expanded = searched(world, AStar(k=2, goal_on_pop=False))
    assert (choice.path, expanded) == ("0", [""])
    assert tree.states["1"] == (State.PRUNED, "left in the frontier")
    _, choice, expanded = searched(world, AStar(k=2, goal_on_pop=False, goals=2))
    assert ({vote.answer for vote in choice.votes}, expanded) == ({"1", "2"}, ["", "1"])


def test_a_solution_without_an_answer_is_no_goal_at_once_either() -> None:
    texts = {"0": words(2, END), "1": words(1), "1.0": ends(2), "1.1": ends(3)}
    world = scored_by(texts, {"0": 0.9, "1": 0.8, "1.0": 0.5, "1.1": 0.7})
    tree, choice, _ = searched(world, AStar(k=2, goal_on_pop=False))
    assert tree.states["0"] == (State.PRUNED, "no answer")
    assert choice.path == "1.1", "of those generated together the one with the lowest f"


def test_a_full_frontier_loses_its_worst_open_states_and_no_solution() -> None:
    texts = {str(i): words(i) for i in range(4)} | {"4": ends(3)} | {f"3.{i}": ends(i) for i in range(5)}
    rewards = {"0": 0.3, "1": 0.8, "2": 0.2, "3": 0.9, "4": 0.1} | {f"3.{i}": 0.9 for i in range(5)}
    tree, choice, expanded = searched(scored_by(texts, rewards), AStar(k=5, frontier=2))
    assert tree.states["0"] == tree.states["2"] == (State.PRUNED, "frontier full")
    assert tree.states["1"] == (State.PRUNED, "left in the frontier")
    assert tree.states["4"][0] is State.FINISHED
    assert (choice.path, expanded) == ("3.0", ["", "3"])


def test_no_frontier_is_ever_larger_than_asked_for() -> None:
    for name in World().names:
        tree = World(tokens=60).tree(name)
        for request, _ in by_hand(AStar(k=4, frontier=3), tree, World(tokens=60)):
            if isinstance(request, Extend):
                expanded = {parent_of(row.path) for row in request.rows}
                done = {parent_of(path) for path in tree.candidates}
                still = {p for p, (s, _) in tree.states.items() if s is State.LIVE} - done
                assert len(still | expanded - {""}) <= 3


def test_siblings_of_one_text_in_other_tokens_are_merged() -> None:
    """Two tokens are written alike: the states are the same to a verifier and in a vote."""
    texts = {"0": [200, SEPARATOR], "1": [300, SEPARATOR], "2": words(2), "0.0": ends(1), "0.1": ends(2), "0.2": ends(3)}
    rewards = {"0": 0.9, "2": 0.2, "0.0": 0.9, "0.1": 0.8, "0.2": 0.7}
    tree, _, expanded = searched(scored_by(texts, rewards), AStar(k=3))
    assert tree.states["1"] == (State.MERGED, "same text as an earlier state")
    assert (expanded, tree.usage.verifier_passes) == (["", "0"], 5)


def test_equal_texts_below_different_parents_are_one_state() -> None:
    """Written as good0 | good1 and as good0 good1 | nothing: the second costs no pass and no place. An open text is not a
    finished one."""
    tree = World().tree("q")
    parts = {
        "0": ([GOOD], Finish.PAUSE),
        "1": ([GOOD, GOOD + 1], Finish.PAUSE),
        "0.0": ([GOOD + 1, SEPARATOR], Finish.STEP),
        "1.0": ([SEPARATOR], Finish.STEP),
        "1.1": ([SEPARATOR, END], Finish.END),
        "1.2": ([GOOD + 2, SEPARATOR], Finish.STEP),
        "1.3": ([GOOD + 2, GOOD], Finish.LENGTH),
    }
    tree.candidates |= {path: Candidate(path, step_of(tokens, 0, finish)) for path, (tokens, finish) in parts.items()}
    seen: Seen = {}
    assert [c.path for c in novel(tree, (tree.candidates[p] for p in ("0", "1")), seen)] == ["0", "1"]
    below = [tree.candidates[p] for p in parts if "." in p]
    assert [c.path for c in novel(tree, below, seen)] == ["0.0", "1.1", "1.2"]
    assert tree.states == {"1.0": (State.MERGED, "same text as an earlier state")}


def test_a_lookahead_orders_the_frontier_by_what_a_rollout_comes_to() -> None:
    texts = {"0": words(0), "1": words(1), "0.0": ends(3), "1.0": ends(0), "1.1": ends(1), "1.2": ends(2)}
    rewards = {"0.0": 0.2, "1.0": 0.9, "1.1": 0.9, "1.2": 0.4}
    tree, choice, _ = searched(scored_by(texts, rewards), AStar(k=2, lookahead=1))
    assert (tree.value("0"), tree.value("1")) == (0.2, 0.9)
    assert "0" not in tree.scores
    assert choice.path == "1.1"


def test_every_scored_successor_is_one_pass_and_every_token_is_counted() -> None:
    ran = World().run(AStar(k=3))
    for tree, _ in ran.choices():
        merged = {path for path, (state, _) in tree.states.items() if state is State.MERGED}
        successors = [c for c in tree.candidates.values() if (c.open or c.finished) and c.path not in merged]
        assert tree.usage.verifier_passes == len(successors) == len(tree.scores)
        assert tree.usage.generated_tokens == sum(len(c.step) for c in tree.candidates.values())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"k": 0}, "k must be at least 1, not 0"),
        ({"expansions": 0}, "expansions must be at least 1, not 0"),
        ({"goals": 0}, "goals must be at least 1, not 0"),
        ({"pops": 0}, "pops must be at least 1, not 0"),
        ({"frontier": -1}, "frontier must be 0 \\(off\\) or more, not -1"),
        ({"lookahead": -1}, "lookahead must be 0 \\(off\\) or more, not -1"),
        ({"root": 1.5}, "root must be between 0 and 1, not 1.5"),
        ({"cost": "rise"}, "unknown cost 'rise'; did you mean 'rises'\\?"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AStar(**wrong)  # type: ignore[arg-type]


LATE = {"0": plays.word(0), "1": plays.word(1), "1.0": plays.ends(2), "0.0": plays.word(3), "0.0.0": plays.ends(1)}
LATE_R = {"0": 0.1, "1": 0.95, "1.0": 0.95, "0.0": 0.1, "0.0.0": 0.1}


def test_a_state_that_stays_open_gets_new_children_where_the_first_were_wrong() -> None:
    """Closed after k children, A* had to follow a wrong first step to its end, whatever the verifier said of it."""
    _, closed, asked = plays.searched(AStar(k=1), LATE, LATE_R)
    assert (closed.answer, asked) == ("1", [("0",), ("0.0",), ("0.0.0",)])
    tree, choice, asked = plays.searched(AStar(k=1, reopen=0.1), LATE, LATE_R)
    assert (choice.answer, asked) == ("2", [("0",), ("1",), ("1.0",)])
    assert tree.states["0"] == (State.PRUNED, "left in the frontier")


def test_taking_a_state_again_costs_more_each_time() -> None:
    """f of the root is 0.5, then 0.7, 0.9 and 1.1; the steps of r = 0.1 have 0.9, and of equal f the higher r goes first."""
    texts = {"0": plays.word(0), "1": plays.word(1), "2": plays.word(2), "0.0": plays.ends(1), "1.0": plays.ends(3)}
    rewards = {"0": 0.1, "1": 0.1, "2": 0.1, "0.0": 0.1, "1.0": 0.1}
    _, choice, asked = plays.searched(AStar(k=1, reopen=0.2), texts, rewards)
    assert asked[:4] == [("0",), ("1",), ("2",), ("0.0",)]
    assert choice.answer == "1"


def test_a_text_that_comes_again_from_a_state_taken_again_is_merged() -> None:
    texts = {
        "0": plays.word(0),
        "1": plays.word(0),
        "2": plays.word(2),
        "2.0": plays.ends(2),
        "0.0": plays.word(4),
        "0.0.0": plays.ends(1),
    }
    rewards = {"0": 0.1, "1": 0.1, "2": 0.9, "2.0": 0.9, "0.0": 0.1, "0.0.0": 0.1}
    tree, choice, _ = plays.searched(AStar(k=1, reopen=0.05), texts, rewards)
    assert tree.states["1"] == (State.MERGED, "same text as an earlier state")
    assert choice.answer == "2"


def test_a_search_that_never_closes_a_state_ends_with_its_expansions() -> None:
    texts = {str(i): plays.word(i % 7) for i in range(40)} | {f"{i}.{j}": plays.word(j) for i in range(40) for j in range(40)}
    _, choice, asked = plays.searched(AStar(k=1, reopen=0.01, expansions=12), texts, dict.fromkeys(texts, 0.2))
    assert len(asked) == 12
    assert choice.path is None


def test_a_reopening_that_costs_nothing_or_no_number_is_refused() -> None:
    for bad in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="reopen must be 0"):
            AStar(reopen=bad)
