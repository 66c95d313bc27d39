"""DeepConf online: the threshold of the warm-up, who votes, who is stopped and when sampling ends (card C2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeGenerator, boxed, constant, question, scripted, solution, step_of
from laws import World

from search.strategies import build
from search.strategies.deepconf import DeepConf, consensus
from search.tree import Tree
from search.types import Ask, Choice, Extend, Extension, Finish, Part, Reply, Request, State, Step


def trace(confidences: Sequence[float], digit: int, finish: Finish = Finish.END) -> Step:
    """A solution with these confidences, a token each."""
    step = step_of(solution(len(confidences), digit)[: len(confidences)], 0, finish)
    return replace(step, confidences=np.array(confidences, dtype=np.float32))


def by_hand(strategy: DeepConf, *replies: Sequence[Step]) -> tuple[list[Extend], Choice, Tree]:
    """A search that is answered with these steps; what it asked for and chose."""
    tree = Tree(question("q"), boxed)
    running: Ask[Choice] = strategy.search(tree)
    asked: list[Extend] = []
    answers: Iterator[Sequence[Step]] = iter(replies)
    try:
        request: Request = next(running)
        while True:
            assert isinstance(request, Extend)
            asked.append(request)
            reply: Reply = Extension(tuple(next(answers)))
            request = running.send(reply)
    except StopIteration as end:
        return asked, end.value, tree


WARM = [trace([value] * 4, i % 3) for i, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])]


@pytest.mark.parametrize(("keep", "least", "voting"), [(0.1, 9.1, ["10"]), (0.9, 1.9, [str(v) for v in range(2, 11)])])
def test_the_threshold_is_the_percentile_of_the_warm_ups_lowest_groups(keep: float, least: float, voting: list[str]) -> None:
    """Card C2: lowest values 1..10, linear percentile: low 9.1, high 1.9; of the warm-up those at or above it vote."""
    stopped = [trace([0.5] * 3, 0, Finish.UNSURE)] * 2
    asked, choice, _ = by_hand(DeepConf(n=12, warmup=10, window=2, keep=keep, tau=0), WARM, stopped)
    assert [len(request.rows) for request in asked] == [10, 2]
    assert asked[1].rules.unsure is not None
    assert asked[1].rules.unsure.window == 2
    assert math.isclose(asked[1].rules.unsure.below, least, abs_tol=1e-6)
    assert sum(vote.count for vote in choice.votes) == len(voting)
    assert math.isclose(sum(vote.weight for vote in choice.votes), sum(map(float, voting)), abs_tol=1e-6)


def test_a_trace_is_worth_its_lowest_window() -> None:
    """Card C2: 1, 2, 3, 4 in windows of 2: 1.5; shorter than the window: its mean."""
    of = trace([1.0, 2.0, 3.0, 4.0], 1)
    assert DeepConf(window=2).trust(of) == 1.5
    assert DeepConf(window=9).trust(of) == 2.5


def test_stopped_traces_never_vote_and_a_plain_majority_does_not_overwrite_the_weighted_one() -> None:
    """Three stopped ones had written the answer 2 by then; two unsure ones ended with 1 against a sure one with 3."""
    warm = [trace([8.0] * 4, 3), trace([1.0] * 4, 1), trace([0.5] * 4, 2)]
    rest = [trace([1.5] * 4, 1), *[replace(trace([0.2] * 4, 2), finish=Finish.UNSURE)] * 3]
    asked, choice, tree = by_hand(DeepConf(n=7, warmup=3, window=2, keep=0.5, tau=0), warm, rest)
    assert [(vote.answer, vote.count, vote.weight) for vote in choice.votes] == [("3", 1, 8.0), ("1", 2, 2.5)]
    assert choice.answer == "3"
    assert [tree.states[str(i)] for i in (4, 5, 6)] == [(State.CANCELLED, "too unsure")] * 3
    assert asked[1].rules.halt is None


def test_a_cut_trace_sets_no_threshold_and_does_not_vote() -> None:
    warm = [trace([9.0] * 4, 1, Finish.LENGTH), trace([1.0] * 4, 2), trace([3.0] * 4, 2)]
    asked, choice, _ = by_hand(DeepConf(n=4, warmup=3, window=2, keep=0.1, tau=0), warm, [trace([4.0] * 4, 3)])
    assert asked[1].rules.unsure is not None
    assert math.isclose(asked[1].rules.unsure.below, 2.8, abs_tol=1e-6)
    assert [(vote.answer, vote.weight) for vote in choice.votes] == [("3", 4.0), ("2", 3.0)]
    nothing, _, _ = by_hand(DeepConf(n=4, warmup=3, tau=0), [warm[0]] * 3, [trace([4.0] * 4, 3)])
    assert nothing[1].rules.unsure is None


def test_consensus_is_the_leaders_share_of_the_weight() -> None:
    assert consensus([("1", 3.0), ("2", 1.0), (None, 9.0)]) == 0.75
    assert consensus([(None, 1.0)]) == consensus([]) == consensus([("1", 0.0)]) == 0.0


def test_a_warm_up_of_one_mind_ends_it_and_one_sure_trace_alone_does_not() -> None:
    """keep=0.1 lets one of four through: that one agrees with itself, whatever the others say."""
    alike = [trace([value] * 4, 1) for value in (1.0, 2.0, 3.0, 4.0)]
    asked, choice, _ = by_hand(DeepConf(n=9, warmup=4, window=2, keep=0.1), alike)
    assert (len(asked), choice.answer) == (1, "1")
    mixed = [*alike[:3], trace([4.0] * 4, 2)]
    asked, _, _ = by_hand(DeepConf(n=9, warmup=4, window=2, keep=0.1), mixed, [trace([4.0] * 4, 1)] * 5)
    assert len(asked) == 2


def test_sampling_ends_when_what_has_ended_agrees_by_weight() -> None:
    """6 of 7 by then: at tau=0.85 the halt says enough, at 0.9 it does not; what it rests on is in its name."""
    warm = [trace([1.0] * 4, 2), trace([2.0] * 4, 1)]
    ended = [trace([3.0] * 4, 1), trace([1.0] * 4, 1)]
    names = set()
    for tau, enough in ((0.85, True), (0.9, False)):
        asked, _, _ = by_hand(DeepConf(n=4, warmup=2, window=2, keep=1, tau=tau), warm, ended)
        halt = asked[1].rules.halt
        assert halt is not None
        assert halt.decide(ended[:1]) is False
        assert halt.decide(ended) is enough
        names.add(halt.name)
    other, _, _ = by_hand(DeepConf(n=4, warmup=2, window=2, keep=1, tau=0.9), warm[::-1], ended)
    assert other[1].rules.halt is not None
    assert len(names | {other[1].rules.halt.name}) == 3


def test_the_confidence_is_asked_for_and_the_rest_of_the_sampling_is_the_runs() -> None:
    tree = replace(World().tree("p0"), sampling=replace(World().tree("p0").sampling, temperature=0.6, top_p=0.95))
    request = next(DeepConf(k=7).search(tree))
    assert isinstance(request, Extend)
    assert request.sampling == replace(tree.sampling, confidence=7)
    assert len(request.rows) == 16


def test_with_no_rule_that_can_fire_it_is_the_offline_selector_over_n() -> None:
    """A window longer than any solution stops nobody; keep=1 lets all vote; k=0 is what best-of-n has to go by."""
    world = World(tokens=40)
    online = world.run(DeepConf(n=9, warmup=3, window=1000, keep=1, tau=0, k=0))
    offline = world.run(build(Part("best-of-n", {"n": 9, "select": "deepconf", "window": 1000, "keep": 1})))
    for name in world.names:
        one, two = online.outcomes[name].choice, offline.outcomes[name].choice
        assert one is not None
        assert two is not None
        assert (one.path, one.answer, one.votes) == (two.path, two.answer, two.votes)


def test_stopping_saves_tokens_and_stopped_rows_stop_where_their_window_fell() -> None:
    lengths = (5, 6, 7, 30, 30, 30, 30, 30)
    texts = {str(i): solution(n, i % 2) for i, n in enumerate(lengths)}
    world = World(lambda **_: FakeGenerator(scripted(texts)), judge=constant, names=("q",), tokens=40)
    strategy = DeepConf(n=8, warmup=3, window=4, keep=0.5, tau=0)
    [(tree, _)] = world.run(strategy).choices()
    stopped = [c for c in tree.candidates.values() if c.step.finish is Finish.UNSURE]
    assert stopped
    assert tree.usage.generated_tokens < sum(lengths)
    warm = sorted(strategy.trust(tree.candidates[str(i)].step) for i in range(3))
    for candidate in stopped:
        found = candidate.step.confidences
        assert found is not None
        means = [float(found[i - 4 : i].mean()) for i in range(4, len(found) + 1)]
        assert means[-1] < warm[1] + 0.01  # the median; stored values are rounded
        assert all(mean > warm[1] - 0.01 for mean in means[:-1])


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"n": 4}, "warmup must be at most n, not warmup=16 with n=4"),
        ({"keep": 0}, "keep must be above 0"),
        ({"tau": 0.4}, "tau must be above 0.5 and at most 1, or 0"),
        ({"k": -1}, "k must be at least 1, or 0 for self-certainty"),
    ],
)
def test_what_deepconf_cannot_do_is_said(params: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(Part("deepconf", params))
