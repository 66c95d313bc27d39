"""The generator's own confidence as a verifier."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.tree import scored
from search.types import Finish, Join, Question, Step, Trace, Verifier
from verifiers.confidence import LogProb, SelfCertainty
from verifiers.equation import EquationVerifier


def step(logprobs: Sequence[float] = (), certainties: Sequence[float] = ()) -> Step:
    size = max(len(logprobs), len(certainties))
    return Step(
        tokens=np.arange(size, dtype=np.int32),
        text="x" * size,
        logprobs=np.array(logprobs or [0.0] * size, dtype=np.float32),
        certainties=np.array(certainties or [0.0] * size, dtype=np.float32),
        entropies=np.zeros(size, dtype=np.float32),
        finish=Finish.STEP,
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


def test_no_steps_give_no_value_but_a_reason() -> None:
    for verifier in (LogProb(), SelfCertainty(), EquationVerifier()):
        (reading,) = verifier.score([Trace(Question("q", "", ()), ())])
        assert reading.parts == ()
        assert reading.reason


def test_the_names_are_those_of_the_command_line() -> None:
    assert [v.name for v in (LogProb(), SelfCertainty(), EquationVerifier())] == [
        "logprob",
        "self-certainty",
        "equation",
    ]
