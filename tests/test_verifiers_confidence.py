"""The generator's own confidence as a verifier."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.tree import scored
from search.types import Finish, Join, Part, Question, Step, Trace, Verifier
from verifiers.confidence import GNLL, Confidence, Entropy, LogProb, Perplexity, SelfCertainty
from verifiers.equation import EquationVerifier
from verifiers.registry import check_verifier, load_verifier, signals


def step(
    logprobs: Sequence[float] = (),
    certainties: Sequence[float] = (),
    entropies: Sequence[float] = (),
    confidences: Sequence[float] | None = None,
) -> Step:
    size = max(len(logprobs), len(certainties), len(entropies), len(confidences or ()))
    return Step(
        tokens=np.arange(size, dtype=np.int32),
        text="x" * size,
        logprobs=np.array(logprobs or [0.0] * size, dtype=np.float32),
        certainties=np.array(certainties or [0.0] * size, dtype=np.float32),
        entropies=np.array(entropies or [0.0] * size, dtype=np.float32),
        finish=Finish.STEP,
        confidences=None if confidences is None else np.array(confidences, dtype=np.float32),
    )


def parts(verifier: Verifier, *steps: Step) -> tuple[float, ...]:
    (reading,) = verifier.score([Trace(Question("q", "", ()), steps)])
    assert (reading.passes, reading.tokens, reading.flops) == (0, 0, 0.0)
    return reading.parts


@given(st.lists(st.lists(st.floats(-8, 0, width=32), min_size=1, max_size=5), min_size=1, max_size=4))
def test_joined_by_product_the_values_are_the_sequences_probability(tokens: list[list[float]]) -> None:
    found = Join.PROD(parts(LogProb(), *(step(list(row)) for row in tokens)))
    assert math.isclose(found, math.exp(math.fsum(p for row in tokens for p in row)), rel_tol=1e-5)


def test_self_certainty_keeps_the_order_of_the_means() -> None:
    found = parts(SelfCertainty(), *(step(certainties=[c, c + 2.0]) for c in (0.0, 1.0, 5.0, 50.0)))
    assert list(found) == sorted(found)
    assert found[0] == pytest.approx(0.5)
    assert all(0 <= value < 1 for value in found)


def test_an_empty_step_is_neutral() -> None:
    assert parts(LogProb(), step()) == (1.0,)
    assert parts(SelfCertainty(), step()) == (0.5,)


def test_rounding_just_outside_the_range_is_no_invalid_value() -> None:
    assert parts(LogProb(), step([1e-7])) == (1.0,)
    assert parts(SelfCertainty(), step(certainties=[-1e-7])) == (0.0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 5.0, 1e5])
def test_a_bad_log_probability_is_passed_on_to_be_refused(bad: float) -> None:
    found = parts(LogProb(), step([bad]))
    assert scored("0", "logprob", found, "", Join.PROD).value is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -5.0])
def test_a_bad_certainty_is_passed_on_to_be_refused(bad: float) -> None:
    found = parts(SelfCertainty(), step(certainties=[bad]))
    assert scored("0", "self-certainty", found, "", Join.MIN).value is None


def test_an_impossible_token_makes_the_step_impossible() -> None:
    assert parts(LogProb(), step([-math.inf])) == (0.0,)


def test_perplexity_is_of_the_mean_token_so_repeating_changes_nothing() -> None:
    """p = .5 and .8: exp(-.9163 / 2), one over a perplexity of 1.5811."""
    tokens = [math.log(0.5), math.log(0.8)]
    assert parts(Perplexity(), step(tokens)) == pytest.approx([1 / 1.5811], rel=1e-4)
    assert parts(Perplexity(), step(tokens * 3)) == pytest.approx([1 / 1.5811], rel=1e-4)


def test_entropy_is_one_over_the_tokens_that_it_wavers_between() -> None:
    """Uniform over 4 has ln 4 nats; certain has 0."""
    assert parts(Entropy(), step(entropies=[math.log(4)] * 3), step(entropies=[1e-9])) == pytest.approx([0.25, 1.0], rel=1e-5)
    two = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert parts(Entropy(), step(entropies=[two])) == pytest.approx([math.exp(-0.3251)], rel=1e-4)


def test_g_nll_is_the_sum_over_the_whole_and_not_the_mean() -> None:
    """Card J: p = (.5, .8) gives .9163, however the tokens are cut into steps."""
    tokens = [math.log(0.5), math.log(0.8)]
    wanted = 1 / (1 + 0.9163)
    assert parts(GNLL(), step(tokens)) == pytest.approx([wanted], rel=1e-4)
    assert parts(GNLL(), *(step([p]) for p in tokens)) == pytest.approx([wanted], rel=1e-4)
    assert parts(GNLL(), step(tokens * 2)) == pytest.approx([1 / (1 + 2 * 0.9163)], rel=1e-4)


def test_g_nll_orders_long_solutions_whose_probability_underflows() -> None:
    longer, shorter = (parts(GNLL(), step([-2.0] * n)) for n in (900, 800))
    assert Join.PROD(parts(LogProb(), step([-2.0] * 900))) == Join.PROD(parts(LogProb(), step([-2.0] * 800))) == 0.0
    assert longer[0] < shorter[0]


def test_self_certainty_is_the_cards() -> None:
    """Card C1: p = (.9, .1) has .5108 nats, (.7, .2, .1) has .3243, uniform 0."""
    for p, nats in (((0.9, 0.1), 0.5108), ((0.7, 0.2, 0.1), 0.3243), ((0.25,) * 4, 0.0)):
        found = -math.fsum(map(math.log, p)) / len(p) - math.log(len(p))
        assert found == pytest.approx(nats, abs=1e-4)
        assert parts(SelfCertainty(), step(certainties=[found] * 2)) == pytest.approx([nats / (1 + nats)], abs=1e-4)


@pytest.mark.parametrize(
    ("group", "window", "share", "nats"),
    [
        ("lowest", 2, 0.1, 1.5),
        ("tail", 2, 0.1, 3.5),
        ("mean", 2, 0.1, 2.5),
        ("bottom", 2, 0.1, 1.5),
        ("bottom", 2, 0.67, 2.0),
        ("bottom", 2, 1.0, 2.5),
        ("lowest", 2048, 0.1, 2.5),
        ("tail", 2048, 0.1, 2.5),
    ],
)
def test_a_groups_confidence_is_the_cards(group: str, window: int, share: float, nats: float) -> None:
    """Card C2: 1, 2, 3, 4 with a window of 2 has the means 1.5, 2.5, 3.5; cut into steps as they may be."""
    verifier = Confidence(group, window, share)
    for steps in ([step(confidences=[1, 2, 3, 4])], [step(confidences=[1, 2, 3]), step(confidences=[]), step(confidences=[4])]):
        assert parts(verifier, *steps) == pytest.approx([nats / (1 + nats)])


def test_confidence_of_self_certainty_needs_no_top_k_and_the_other_says_what_it_lacks() -> None:
    trace = Trace(Question("q", "", ()), (step(certainties=[1, 2, 3, 4]),))
    (reading,) = Confidence(window=2, of="self-certainty").score([trace])
    assert reading.parts == pytest.approx([0.6])
    (reading,) = Confidence(window=2).score([trace])
    assert reading.parts == ()
    assert "top-k confidences are not stored: ask for them with --confidence 20" in reading.reason


@pytest.mark.parametrize("name", signals())
@given(st.lists(st.lists(st.floats(0, 30, width=32), min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_every_signal_is_in_range_and_rises_with_how_sure_the_generator_is(
    name: str, rows: list[list[float]], data: st.DataObject
) -> None:
    verifier, join = load_verifier(Part(name))

    def made(surer: float) -> Trace:
        steps = [
            step(
                [-x + min(x, surer) for x in row],
                [x + surer for x in row],
                [x - min(x, surer) for x in row],
                [x + surer for x in row],
            )
            for row in rows
        ]
        return Trace(Question("q", "", ()), tuple(steps))

    low, high = (join(reading.parts) for reading in verifier.score([made(0.0), made(data.draw(st.floats(0, 5)))]))
    assert 0 <= low <= high + 1e-12 <= 1 + 1e-9


@pytest.mark.parametrize("bad", [math.nan, math.inf, -5.0])
def test_a_bad_entropy_is_passed_on_to_be_refused(bad: float) -> None:
    assert scored("0", "entropy", parts(Entropy(), step(entropies=[bad])), "", Join.MEAN).value is None


@pytest.mark.parametrize("bad", [math.nan, 5.0, 1.0, 1e5])
def test_a_bad_log_probability_gives_the_other_signals_no_value_either(bad: float) -> None:
    for verifier in (Perplexity(), GNLL()):
        assert scored("0", verifier.name, parts(verifier, step([bad])), "", Join.LAST).value is None
        assert parts(verifier, step([-math.inf])) == (0.0,)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"group": "lowst"}, "unknown group 'lowst'; did you mean 'lowest'?"),
        ({"of": "entropy"}, "unknown source of confidences 'entropy'"),
        ({"window": 0}, "window must be at least 1 token, not 0"),
        ({"window": "2k"}, "window must be a whole number of tokens, not 2k"),
        ({"share": 0}, "share must be above 0 and at most 1, not 0"),
        ({"share": "x"}, "share must be a number, not x"),
        ({"size": 3}, "verifier 'confidence' has no parameter 'size' (it takes join, group, window, share, of)"),
    ],
)
def test_a_wrong_parameter_of_confidence_is_refused_before_a_run(params: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check_verifier(Part("confidence", params))


def test_no_steps_give_no_value_but_a_reason() -> None:
    for verifier in (*(load_verifier(Part(name))[0] for name in signals()), EquationVerifier()):
        (reading,) = verifier.score([Trace(Question("q", "", ()), ())])
        assert reading.parts == ()
        assert reading.reason


def test_the_names_are_those_of_the_command_line() -> None:
    assert [v.name for v in (LogProb(), SelfCertainty(), EquationVerifier())] == [
        "logprob",
        "self-certainty",
        "equation",
    ]
