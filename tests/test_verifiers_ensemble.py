"""The mean of several verifiers: of two copies it is the one, it costs what they cost, and it hides nobody's refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from fakes import question, step_of

from flows.parts import part, weights
from search.tree import scored
from search.types import Join, Part, Reading, Trace
from verifiers.ensemble import Ensemble, members
from verifiers.equation import EquationVerifier
from verifiers.registry import check_verifier, load_verifier, reward_models


@dataclass
class Saying:
    """Gives every trace the same reading."""

    name: str
    reading: Reading

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self.reading for _ in traces]


TRACE = Trace(question("p"), (step_of([100]), step_of([101])))


def mean(*readings: Reading) -> Reading:
    [found] = Ensemble(tuple(Saying(f"v{i}", reading) for i, reading in enumerate(readings))).score([TRACE])
    return found


def test_a_step_has_the_mean_of_the_members_values_and_all_their_costs() -> None:
    found = mean(Reading((0.2, 0.9), passes=1, tokens=30, flops=5.0), Reading((0.4, 0.1), passes=2, tokens=7, flops=2.0))
    assert found.parts == pytest.approx((0.3, 0.5))
    assert (found.passes, found.tokens, found.flops) == (3, 37, 7.0)


def test_values_are_clamped_before_they_are_averaged() -> None:
    """A member that is off the scale would else outweigh the others (FETCH clamps each)."""
    assert mean(Reading((5.0,)), Reading((0.0,))).parts == (0.5,)
    assert mean(Reading((-3.0,)), Reading((1.0,))).parts == (0.5,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_makes_no_value(bad: float) -> None:
    """min(max(nan, 0), 1) is 0 or 1 by the order of its arguments: a candidate nobody judged would be taken for one."""
    found = mean(Reading((bad,)), Reading((1.0,)))
    assert scored("0", "ensemble", found.parts, found.reason, Join.MIN).value is None


def test_a_trace_that_a_member_does_not_judge_has_no_value_and_says_whose_fault_it_is() -> None:
    found = mean(Reading((0.5,), passes=1), Reading((), "over the context", passes=1))
    assert (found.parts, found.reason, found.passes) == ((), "v1: over the context", 2)


def test_members_that_cut_a_trace_differently_are_an_error_in_one_line() -> None:
    """Averaged by position, the value of one step would be another's."""
    with pytest.raises(ValueError, match=r"different numbers of values \(v0 2, v1 1\): they cannot be averaged$"):
        mean(Reading((0.5, 0.5)), Reading((0.5,)))


def test_two_copies_of_a_verifier_are_that_verifier() -> None:
    """Card D. On the real reward model, to the last bit; its weights are in memory once, and what the first copy has computed
    is not computed, nor charged, again by the second. Read whole, both are charged."""
    texts = ("3*7=21, left 5,2,21, need 24.\n\n", "5-2=3, left 21,3: 24, need 24.\n\n", "21+3=25, left 25, need 24.\n\n")
    steps = [step_of([100 + i]) for i in range(3)]
    written = [
        type(s)(s.tokens, text, s.logprobs, s.certainties, s.entropies, s.finish) for s, text in zip(steps, texts, strict=True)
    ]
    traces = [Trace(question("p", "Use 3, 5, 7, 2 to make 24."), tuple(written[:n])) for n in (1, 2, 3)]
    alone, _ = load_verifier(Part("prm"))
    both, join = load_verifier(part("ensemble:of=prm+prm,join=last"))
    assert isinstance(both, Ensemble)
    assert both.verifiers[0] is both.verifiers[1]
    assert join is Join.LAST
    for one, two in zip(alone.score(traces), both.score(traces), strict=True):
        assert one.parts == two.parts
        assert (two.passes, two.tokens, two.flops) == (2 * one.passes, one.tokens, one.flops)
    twice, _ = load_verifier(part("ensemble:of=prm:path=whole+prm:path=whole"))
    once, _ = load_verifier(part("prm:path=whole"))
    for one, two in zip(once.score(traces), twice.score(traces), strict=True):
        assert (two.parts, two.passes, two.tokens, two.flops) == (one.parts, 2 * one.passes, 2 * one.tokens, 2 * one.flops)
    assert EquationVerifier().score(traces)[2].parts == (1.0, 1.0, 0.0)
    mixed, _ = load_verifier(part("ensemble:of=prm+equation"))
    assert mixed.score(traces)[2].parts[2] == alone.score(traces)[2].parts[2] / 2


def test_members_may_have_parameters() -> None:
    assert members("prm:model=/a:b/c++;device=cpu+equation+prm") == (
        Part("prm", {"model": "/a:b/c++", "device": "cpu"}),
        Part("equation"),
        Part("prm"),
    )


def test_a_members_numbers_are_numbers() -> None:
    """They were text, so that no parameter that counts could be given in an ensemble."""
    both, _ = load_verifier(part("ensemble:of=prm:temperature=2;cache_mb=64+equation"))
    assert isinstance(both, Ensemble)
    assert getattr(both.verifiers[0], "temperature", None) == 2.0
    assert part("ensemble:of=prm:model=x;device=cpu+equation,join=min") == Part(
        "ensemble", {"of": "prm:model=x;device=cpu+equation", "join": "min"}
    )


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ("prm", "needs at least 2 verifiers"),
        ("", "needs at least 2 verifiers"),
        ("prm+equasion", "unknown verifier 'equasion'; did you mean 'equation'?"),
        ("prm+equation:strict=1", "verifier 'equation' has no parameter 'strict'"),
        ("prm:device+equation", "'device' in ensemble member 'prm:device' is not KEY=VALUE"),
        ("prm:device=a;device=b+equation", "'device' is given twice"),
        ("prm:join=min+equation", "member 'prm' has no join of its own"),
        ("prm+ensemble", "an ensemble cannot be a member of one"),
    ],
)
def test_words_that_cannot_be_are_refused_before_anything_is_loaded(of: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        check_verifier(Part("ensemble", {"of": of}))


def test_the_weights_of_every_member_are_in_a_runs_fingerprint() -> None:
    """A run would else be resumed with another reward model under its name."""
    plain = weights(Part("bundled"), Part("prm"))
    assert reward_models(part("ensemble:of=prm+equation+prm:model=x")) == ["bundled", "x"]
    assert weights(Part("bundled"), part("ensemble:of=prm+equation")) == plain
    assert weights(Part("bundled"), Part("equation")) != plain
