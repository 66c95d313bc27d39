"""What a synthetic problem family provides, and how its instances are split.

A family makes instances (question, reference, canonical key), demonstrates them step by step with the noise the bundled
generator is trained on, corrupts demonstrations for the reward model, and labels any solution exactly.
The split of an instance is a function of its key alone, so train, validation and test cannot share one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Equation:
    """One binary operation and its result, as a step states it."""

    left: int
    op: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.op}{self.right}={self.result}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem of a family, with everything its exact checker needs."""

    family: str
    level: int
    question: str
    answer: str  # the reference: a number, or "TARGET from N,N,..." for Countdown
    key: str  # canonical form: two instances with one key are the same problem
    steps: tuple[str, ...]  # one right solution, the last step holding \boxed{}
    plan: tuple[Equation, ...] = ()  # the equations of that solution, where the family has one plan

    @property
    def split(self) -> Split:
        """One key in ten is test, one validation, the rest train."""
        digit = hashlib.blake2b(self.key.encode(), digest_size=4).digest()[0] % 10
        return "test" if digit == 0 else "validation" if digit == 1 else "train"


class Family(Protocol):
    """A family of synthetic problems with levels of difficulty and an exact checker."""

    @property
    def name(self) -> str: ...

    @property
    def levels(self) -> tuple[int, ...]: ...

    def make(self, rng: random.Random, level: int) -> Instance:
        """One random instance of a level, of any split."""

    def demonstrate(self, rng: random.Random, instance: Instance) -> list[str]:
        """A solution as the generator is taught it: mostly right, with this family's slips."""

    def corrupt(self, rng: random.Random, instance: Instance) -> list[str]:
        """A right beginning followed by one wrong step, as the reward model is taught it."""

    def label(self, instance: Instance, steps: Sequence[str]) -> list[bool]:
        """Exact labels, one a step: is this step right, given the ones before it?"""

    def check(self, reference: str, answer: str) -> bool:
        """Whether an extracted answer is right for a reference."""


def instances(family: Family, split: Split, seed: int, levels: Sequence[int] | None = None) -> Iterator[Instance]:
    """Endless distinct-by-draw instances of one split, levels in turn; the same seed gives the same sequence."""
    rng = random.Random(f"{family.name}/{split}/{seed}")
    cycle = tuple(levels or family.levels)
    count = 0
    while True:
        instance = family.make(rng, cycle[count % len(cycle)])
        if instance.split == split:
            count += 1
            yield instance


def apply(left: int, op: str, right: int) -> int | None:
    """The integer result of an operation, or None where division leaves a remainder."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    return left // right if right and left % right == 0 else None


def slip(rng: random.Random, value: int) -> int:
    """A believable wrong result: mostly near the right one, sometimes any; at least 1."""
    while True:
        near = value + rng.choice((-10, -9, -3, -2, -1, -1, 1, 1, 2, 3, 9, 10))
        wrong = near if rng.random() < 0.6 else rng.randint(1, 99)
        if wrong >= 1 and wrong != value:
            return wrong
