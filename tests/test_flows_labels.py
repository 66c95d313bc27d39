"""The figures of label methods, calibration and the pass@N-aligned loss, on verifiers that are functions of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from flows.figures import calibration, dco, labels, stepwise
from pipelines.problems import FAMILIES, instances
from pipelines.train.labelled import Sample
from pipelines.train.samples import Solution
from search.types import Reading, Trace

WORD = [instance for instance, _ in zip(instances(FAMILIES["word"], "test", 4, [2, 3]), range(6), strict=False)]


@dataclass
class Knows:
    """Gives the steps of the reference solutions `high` and all others 1 - high."""

    high: float
    name: str = "knows"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        known = {step for instance in WORD for step in instance.steps}
        return [Reading(tuple(self.high if t.strip() in known else 1 - self.high for t in trace.texts)) for trace in traces]


def solutions() -> list[Solution]:
    """Of each problem a right one, and two that end wrong in the same way: the majority is wrong everywhere."""
    out = []
    for instance in WORD:
        wrong = (*instance.steps[:-1], r"The answer is \boxed{0}")
        out += [Solution(instance, instance.steps, 30), Solution(instance, wrong, 20), Solution(instance, wrong, 20)]
    return out


def test_a_verifier_that_knows_has_the_full_gain_over_a_wrong_majority_and_one_that_errs_has_none() -> None:
    found = stepwise.judged(Knows(0.9), solutions())
    assert stepwise.gain(found) == (1.0, 1.0, 1.0)
    assert stepwise.aucs(found) == (1.0, 1.0)
    assert stepwise.gain(stepwise.judged(Knows(0.1), solutions())) == (0.0, 0.0, 0.0)
    assert stepwise.aucs(stepwise.judged(Knows(0.1), solutions()))[0] == 0.5  # its minimum is the same everywhere


def test_the_first_wrong_step_is_the_exact_checkers() -> None:
    found = stepwise.judged(Knows(0.9), solutions())
    assert found.first_wrong()[:3] == [None, len(WORD[0].steps) - 1, len(WORD[0].steps) - 1]
    assert found.of("countdown").solutions == []


def test_a_verifier_that_loses_a_step_is_not_measured() -> None:
    """Values shifted by one step would pass for a weak model."""

    class Loses(Knows):
        def score(self, traces: Sequence[Trace]) -> list[Reading]:
            return [Reading(reading.parts[1:]) for reading in super().score(traces)]

    with pytest.raises(ValueError, match="values for"):
        stepwise.judged(Loses(0.9), solutions())


def row(question: str, *marks: float | None) -> Sample:
    return Sample("word", question, ("s",) * len(marks), marks, False)


def test_agreement_ends_at_the_first_wrong_step_and_counts_what_is_not_labelled_apart() -> None:
    exact = [row("a", 1, 0, 0), row("b", 1, 1, 1)]
    assert labels.agreement(exact, exact, "word") == labels.Agreement(4, 0, 1, 0, 0)
    other = [row("b", 1, None, 0.4), row("a", 1, 1, 1)]  # in any order
    assert labels.agreement(other, exact, "word") == labels.Agreement(2, 1, 0, 1, 1)
    assert str(labels.agreement(other, exact, "word")) == "0.500, 0.667, 0.000, 0.80"
    assert str(labels.agreement([row("a", None, None, None)], exact, "word")) == "nothing labelled"
    assert str(labels.agreement([row("c", 1, 1, 1)], exact, "word")) == "nothing labelled"  # has no exact labels
    assert str(labels.agreement(exact, exact, "countdown")) == "nothing labelled"


def test_calibration_reads_steps_up_to_the_first_wrong_one() -> None:
    found = stepwise.judged(Knows(0.9), solutions()[:2])
    values, marks = calibration.upto_first_wrong(found)
    steps = len(WORD[0].steps)
    assert marks == [1] * steps + [1] * (steps - 1) + [0]
    assert values[-1] == pytest.approx(0.1)


def test_a_trace_has_a_text_for_each_step() -> None:
    solution = solutions()[0]
    assert [t.strip() for t in stepwise.traced(solution).texts] == list(solution.steps)


def test_differences_are_paired_over_problems() -> None:
    """Unpaired, problems of different difficulty would hide a difference that is the same everywhere."""
    theirs = np.linspace(0, 0.5, 40)[:, None]
    (said,) = dco.compared(theirs + 0.1, theirs)
    assert said == "+0.100 [+0.100, +0.100]"


def test_what_is_left_of_the_gradient_is_all_with_one_sample_and_less_with_more() -> None:
    assert dco.left("word", 1, 2).tolist() == [1, 1]
    assert dco.left("word", 64, 6).mean() < 0.9
