"""SPARE's single pass (arXiv 2506.15498): each step is held against a reference solution, and labelled by what it states.

By program, for solutions that state equations: no text is generated. A step is aligned with the steps of the reference that
state the same equation, use the same sentence, or combine the same numbers. It is wrong where an error is seen:

- it states neither an equation nor an answer;
- its equation does not hold, or uses a number that is neither in the problem nor a result before it;
- a step of the reference that uses the same sentence, or combines the same numbers, states another equation.

A step with no counterpart and no visible error is right: the reference is one way among several. So it finds most right
steps and misses wrong ones that only looking ahead tells (a dead end). The last label is the outcome's.
By a language model, for any text: pipelines.train.annotator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.problems.instance import Equation, apply
from pipelines.train.rollouts import ANSWER

EQUATION = re.compile(r"(\d{1,3})([-+*/])(\d{1,3})=(\d{1,3})")
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a step says."""

    said: str  # the sentence it uses: what stands before its colon, "" without
    equation: Equation | None
    answer: str | None


def stated(step: str) -> Stated:
    found, boxed = EQUATION.search(step), ANSWER.search(step)
    said = step[: found.start()].rpartition(":")[0] if found else ""
    equation = Equation(int(found[1]), found[2], int(found[3]), int(found[4])) if found else None
    return Stated(said, equation, boxed[1] if boxed else None)


def canonical(equation: Equation) -> Equation:
    """One form for sums and products that differ in order only."""
    swap = equation.op in "+*" and equation.left > equation.right
    return Equation(equation.right, equation.op, equation.left, equation.result) if swap else equation


def aligned(step: Stated, reference: Sequence[Stated]) -> tuple[int, ...]:
    """The indices of the reference's steps that say the same: the same equation, else the same sentence, else the same two
    numbers and operation; () where none does."""
    if step.equation is None:
        return tuple(i for i, other in enumerate(reference) if step.answer is not None and other.answer is not None)
    ours = canonical(step.equation)
    known = [(i, canonical(other.equation), other.said) for i, other in enumerate(reference) if other.equation]
    same = tuple(i for i, theirs, _ in known if theirs == ours)
    sentence = tuple(i for i, _, said in known if said and said == step.said)
    combined = tuple(i for i, theirs, _ in known if (theirs.left, theirs.op, theirs.right) == (ours.left, ours.op, ours.right))
    return same or sentence or combined


def by_program(question: str, steps: Sequence[str], reference: Sequence[str], outcome: bool) -> tuple[float, ...]:
    """Labels of a solution's steps in one pass."""
    theirs = [stated(step) for step in reference]
    held = {int(number) for number in NUMBER.findall(question)}
    labels = []
    for step in steps:
        ours = stated(step)
        labels.append(float(_right(ours, theirs, held)))
        if ours.equation is not None:
            held.add(ours.equation.result)
    return (*labels[:-1], float(outcome))


def _right(step: Stated, reference: Sequence[Stated], held: set[int]) -> bool:
    peers = [reference[i] for i in aligned(step, reference)]
    if step.equation is None:
        return step.answer is not None and any(peer.answer == step.answer for peer in peers)
    e = step.equation
    if apply(e.left, e.op, e.right) != e.result or not {e.left, e.right} <= held:
        return False
    agreeing = [peer for peer in peers if peer.equation and canonical(peer.equation) == canonical(e)]
    return bool(agreeing) or not peers


__all__ = ["Stated", "aligned", "by_program", "canonical", "stated"]
