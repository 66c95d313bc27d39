"""Selection rules: the hand-worked values of the method cards, ties, absent answers and absent scores."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import END, SEPARATOR, boxed, question, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import selection_does_not_mind_order

from search.select import SELECTORS, Entry, Selector, entries, oracle
from search.strategies import resolved
from search.tree import Tree
from search.types import Candidate, Finish, Join, Part, Score


def entry(path: str, answer: str | None, tokens: int = 10, value: float | None = None, certainty: float = 0.0) -> Entry:
    parts = () if value is None else (value,)
    return traced(Entry(path, answer, tokens, certainty=certainty, parts=parts, value=value))


def traced(entry: Entry, confidences: Sequence[float] | None = None) -> Entry:
    """With confidences, as deepconf needs them: those given, or the certainty for each token."""
    trace = np.full(entry.tokens, entry.certainty) if confidences is None else np.array(confidences)
    return replace(entry, confidences=trace.astype(np.float32), source="top-k confidence")


SCORED = [entry("0", "A", value=0.9), entry("1", "B", value=0.5), entry("2", "B", value=0.5)]


@pytest.mark.parametrize(("rule", "answer", "weight"), [("best", "A", 0.9), ("weighted", "B", 1.0), ("majority", "B", 2.0)])
def test_best_takes_the_top_score_weighted_the_top_sum_majority_the_most(rule: str, answer: str, weight: float) -> None:
    """Card K: scores (A .9), (B .5), (B .5)."""
    choice = Selector(rule)(SCORED)
    assert choice.answer == answer
    assert choice.votes[0].weight == pytest.approx(weight)


@pytest.mark.parametrize(
    ("power", "winner", "first", "second"),
    [(0, "B", 2, 1), (0.5, "B", 3.146, 2), (1, "B", 5, 4), (1.2, "B", 6.035, 5.278), (2, "A", 16, 13)],
)
def test_borda_gives_the_votes_of_the_card(power: float, winner: str, first: float, second: float) -> None:
    """Card C1: N = 4, answers by falling self-certainty A, B, B, C."""
    pool = [entry(str(i), answer, certainty=9.0 - i) for i, answer in enumerate("ABBC")]
    choice = Selector("borda", power=power)(pool[::-1])
    assert choice.answer == winner
    assert [vote.weight for vote in choice.votes[:2]] == pytest.approx([first, second], abs=5e-4)


@given(st.lists(st.sampled_from(["A", "B", "C", None]), min_size=1, max_size=12), st.floats(0, 1))
def test_constant_scores_make_weighted_voting_a_majority(answers: list[str | None], value: float) -> None:
    pool = [entry(str(i), answer, value=max(value, 0.01)) for i, answer in enumerate(answers)]
    majority, weighted = Selector("majority")(pool), Selector("weighted")(pool)
    assert (weighted.path, weighted.answer) == (majority.path, majority.answer)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.floats(0, 9)), min_size=1, max_size=12))
def test_borda_with_power_0_is_a_majority(drawn: list[tuple[str, float]]) -> None:
    pool = [entry(str(i), answer, certainty=certainty) for i, (answer, certainty) in enumerate(drawn)]
    assert Selector("borda", power=0)(pool).answer == Selector("majority")(pool).answer


def test_deepconf_keeps_the_surest_by_the_measure_and_weighs_their_votes_with_it() -> None:
    """Card C2: weakest groups of two tokens of 1.5, 1.4 and 2.5; the last groups 3.5, 4 and 2.5; the means 2.5, 2.6 and 2.5."""
    rises, dips, flat = [1.0, 2, 3, 4], [1.4, 1.4, 3.6, 4.4], [2.5] * 4
    pool = [traced(entry(str(i), a, 4), c) for i, (a, c) in enumerate([("A", rises), ("A", dips), ("B", flat)])]

    def votes(measure: str, keep: float) -> list[tuple[str, float]]:
        made = Selector("deepconf", measure=measure, window=2, keep=keep)(pool)
        return [(vote.answer, pytest.approx(vote.weight, abs=1e-6)) for vote in made.votes]

    assert votes("lowest", 0.1) == [("B", 2.5)]
    assert votes("tail", 0.1) == [("A", 4.0)]
    assert votes("mean", 0.1) == [("A", 2.7)]
    assert votes("lowest", 0.5) == [("B", 2.5), ("A", 1.5)]
    assert votes("lowest", 1.0) == [("A", 2.9), ("B", 2.5)]
    said = Selector("deepconf", window=2)(pool).reason
    assert said == "deepconf: top-k confidence 2.5 from 1 of 3 candidates"


@given(st.lists(st.sampled_from(["A", "B", "C", None]), min_size=1, max_size=12), st.floats(0.5, 9))
def test_deepconf_that_keeps_all_with_equal_confidences_is_a_majority(answers: list[str | None], value: float) -> None:
    """Card C2: eta = 100 with unit weights. Equal traces stay together, so any other share keeps them all too."""
    pool = [entry(str(i), answer, certainty=value) for i, answer in enumerate(answers)]
    for keep in (1.0, 0.1):
        found = Selector("deepconf", keep=keep)(pool)
        assert (found.path, found.answer) == (Selector("majority")(pool).path, Selector("majority")(pool).answer)


@given(st.lists(st.floats(0.5, 9, width=16), min_size=1, max_size=12))
def test_deepconf_that_keeps_the_fewest_is_the_surest_of_all(values: list[float]) -> None:
    pool = [entry(str(i), f"{i}", certainty=value) for i, value in enumerate(values)]
    assert Selector("deepconf", keep=1e-6)(pool).answer == Selector("self-certainty")(pool).answer


def test_a_strategy_takes_deepconfs_parameters_and_keeps_its_own_of_the_same_name() -> None:
    asked = Part("best-of-n", {"select": "deepconf", "measure": "tail", "window": "64", "keep": 0.5})
    assert resolved(asked).params == {"n": 16, "select": "deepconf", "measure": "tail", "window": 64, "keep": 0.5}
    assert resolved(resolved(asked)) == resolved(asked)
    beam = resolved(Part("beam", {"n": 6, "keep": 3, "select": "deepconf"}))  # a beam's keep is a number of survivors
    assert (beam.params["keep"], beam.params["window"]) == (3, 2048)
    assert resolved(beam) == beam
    with pytest.raises(ValueError, match="selector 'borda' takes no window; deepconf does"):
        resolved(Part("best-of-n", {"select": "borda", "window": 9}))


def test_a_pool_without_confidences_gives_deepconf_nothing_to_choose_by() -> None:
    assert Selector("deepconf")([Entry("0", "A", 5)]).path is None


POOLS = st.lists(
    st.builds(
        Entry,
        path=st.just("0"),
        answer=st.sampled_from(["A", "B", "C", None]),
        tokens=st.integers(1, 4),
        certainty=st.sampled_from([0.1, 0.2, 0.3]),
        logprob=st.sampled_from([-1.0, -2.0]),
        value=st.sampled_from([None, 0.1, 0.2, 0.3, 0.6]),
    ),
    max_size=9,
)


@pytest.mark.parametrize("name", SELECTORS)
@settings(deadline=None, max_examples=60)
@given(drawn=POOLS, shuffle=st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_pool(name: str, drawn: list[Entry], shuffle: random.Random) -> None:
    pool = [traced(Entry(str(i), e.answer, e.tokens, e.certainty, e.logprob, (), e.value)) for i, e in enumerate(drawn)]
    shuffled = list(pool)
    shuffle.shuffle(shuffled)
    selection_does_not_mind_order(Selector(name), pool, shuffled)


def test_sums_of_scores_do_not_depend_on_the_order_of_addition() -> None:
    """.1 + .2 + .3 is above .3 + .2 + .1 in floating point, and once decided against an answer with a plain .6."""
    pool = [entry(str(i), "A", tokens=20, value=value) for i, value in enumerate((0.1, 0.2, 0.3))]
    rival = entry("3", "B", tokens=5, value=0.6)
    assert Selector("weighted")([*pool, rival]).answer == Selector("weighted")([rival, *pool[::-1]]).answer == "B"


def test_the_law_of_order_fails_for_a_selector_that_takes_the_first() -> None:
    class First(Selector):
        def __call__(self, pool: object) -> object:  # type: ignore[override]
            return pool[0]  # type: ignore[index]

    with pytest.raises(AssertionError, match="the order of the pool decides"):
        selection_does_not_mind_order(First(), SCORED, SCORED[::-1])


@pytest.mark.parametrize("name", SELECTORS)
def test_a_tie_goes_to_fewer_tokens_and_then_to_the_earlier_path(name: str) -> None:
    long, short = entry("0", "A", 12, 0.5), entry("1", "B", 7, 0.5)
    late, early = entry("10", "C", 7, 0.5), entry("2", "D", 7, 0.5)
    assert Selector(name)([long, short]).answer == "B"
    assert Selector(name)([late, early]).answer == "D"


def test_of_answers_with_equal_votes_the_one_with_the_earliest_of_the_shortest_wins() -> None:
    """Paths in numbers: A's earliest is 2, not 10, and is before B's 3."""
    pool = [entry(path, answer) for path, answer in (("10", "A"), ("30", "B"), ("3", "B"), ("2", "A"))]
    assert (Selector("majority")(pool).answer, Selector("majority")(pool).path) == ("A", "2")


def test_of_the_winning_answer_the_shortest_candidate_is_chosen_by_a_majority() -> None:
    pool = [entry("0", "A", 9), entry("1", "B", 2), entry("2", "A", 5), entry("3", "A", 7)]
    assert Selector("majority")(pool).path == "2"


@pytest.mark.parametrize("name", SELECTORS)
def test_an_entry_without_an_answer_neither_wins_nor_votes(name: str) -> None:
    """A cut-off solution may have the best score, the highest certainty and the fewest tokens."""
    none = [entry(str(i), None, 1, 1.0, certainty=99.0) for i in range(5)]
    choice = Selector(name)([*none, entry("9", "A", 30, 0.1)])
    assert (choice.path, choice.answer) == ("9", "A")
    assert sum(vote.count for vote in choice.votes) == 1
    nothing = Selector(name)(none)
    assert (nothing.path, nothing.answer, nothing.votes) == (None, None, ())
    assert nothing.reason == "none of 5 candidates gave an answer"


@pytest.mark.parametrize("name", [name for name, rule in SELECTORS.items() if rule.needs_verifier])
def test_an_entry_without_a_score_does_not_win_by_score(name: str) -> None:
    pool = [entry("0", "A"), entry("1", "A"), entry("2", "B", value=0.0)]
    assert Selector(name)(pool).answer == "B"
    assert Selector(name)(pool[:2]).reason == "none of 2 candidates has a valid score"


@pytest.mark.parametrize("name", SELECTORS)
def test_an_empty_pool_gives_no_choice_and_a_reason(name: str) -> None:
    assert Selector(name)([]).path is None
    assert Selector(name)([]).reason == "none of 0 candidates gave an answer"


@pytest.mark.parametrize(("join", "value"), [("min", 0.2), ("prod", 0.144), ("last", 0.8), ("mean", 0.6333)])
def test_joins_give_the_values_of_the_card(join: str, value: float) -> None:
    """Card K: [.9, .2, .8]."""
    parts = (0.9, 0.2, 0.8)
    assert Join(join)(parts) == pytest.approx(value, abs=5e-5)
    reread = Selector("best", join=Join(join))([Entry("0", "A", 5, parts=parts, value=0.33)])
    assert reread.votes[0].weight == pytest.approx(value, abs=5e-5)


def test_without_a_join_the_runs_own_value_is_used() -> None:
    assert Selector("best")([Entry("0", "A", 5, parts=(0.9, 0.2), value=0.33)]).votes[0].weight == 0.33


@pytest.mark.parametrize("join", Join)
def test_a_join_may_turn_the_choice_round(join: Join) -> None:
    """Last prefers the solution that ends well, min and prod the one without a weak step."""
    ends_well = Entry("0", "A", 5, parts=(0.2, 0.9), value=0.5)
    even = Entry("1", "B", 5, parts=(0.6, 0.6), value=0.5)
    assert Selector("best", join=join)([ends_well, even]).answer == ("A" if join is Join.LAST else "B")


def test_entries_are_the_whole_solution_not_its_last_step() -> None:
    tree = Tree(question("q"), boxed)
    first, last = step_of([100, 101, SEPARATOR], 1, Finish.STEP), step_of([12, END], 2, Finish.END)
    tree.candidates = {"0": Candidate("0", first), "0.0": Candidate("0.0", last)}
    tree.scores["0.0"] = Score("0.0", "fake", 0.4, (0.4, 0.7))
    [one] = entries(tree, [tree.candidates["0.0"]])
    assert (one.path, one.answer, one.tokens, one.parts, one.value) == ("0.0", "2", 5, (0.4, 0.7), 0.4)
    both = [*first.certainties, *last.certainties]
    assert one.certainty == pytest.approx(math.fsum(both) / 5)
    assert one.logprob == pytest.approx(first.logprob + last.logprob)
    assert one.confidences is not None
    assert (one.source, one.confidences.tolist()) == ("self-certainty", both)
    [cut] = entries(tree, [tree.candidates["0"]])
    assert (cut.answer, cut.parts, cut.value) == (None, (), None)


def test_an_invalid_score_leaves_no_parts_for_a_join_to_read() -> None:
    tree = Tree(question("q"), boxed)
    tree.candidates["0"] = Candidate("0", step_of([12, END], 2, Finish.END))
    tree.scores["0"] = Score("0", "fake", None, (0.9,), "invalid")
    [one] = entries(tree, [tree.candidates["0"]])
    assert one.parts == ()
    assert Selector("best", join=Join.LAST)([one]).path is None


def test_the_oracle_is_right_where_any_entry_is() -> None:
    assert oracle(SCORED, lambda answer: answer == "B")
    assert not oracle([*SCORED, entry("9", None)], lambda answer: answer == "C")


def test_a_bad_selector_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^unknown selector 'majorty'; did you mean 'majority'\? \(best, borda, "):
        Selector("majorty")
    with pytest.raises(ValueError, match=r"^unknown measure 'least'"):
        Selector("deepconf", measure="least")
    with pytest.raises(ValueError, match="window must be at least 1 token, not 0"):
        Selector("deepconf", window=0)
    with pytest.raises(ValueError, match="keep must be above 0 and at most 1, not 10"):
        Selector("deepconf", keep=10)
    for power in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="power must be between 0 and 100, not"):
            Selector("borda", power=power)


def test_confidences_are_the_top_k_ones_only_where_the_whole_pool_has_them() -> None:
    """The two are different numbers: a pool that had both would be ordered by which candidate has which."""
    tree = Tree(question("q"), boxed)
    bare, kept = step_of([12, END], 1, Finish.END), replace(step_of([12, END], 2, Finish.END), confidences=np.float32([3, 4]))
    tree.candidates = {"0": Candidate("0", bare), "1": Candidate("1", kept)}
    both = entries(tree, list(tree.candidates.values()))
    assert [entry.source for entry in both] == ["self-certainty"] * 2
    [alone] = entries(tree, [tree.candidates["1"]])
    assert alone.confidences is not None
    assert (alone.source, alone.confidences.tolist()) == ("top-k confidence", [3.0, 4.0])
