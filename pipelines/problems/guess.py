"""Guess and check: find x by trying. Level = how wide the range is; a family whose wrong traces are longer.

    Find x from 1 to 12 with 7*x+5=47.

    Try 4: 7*4=28, 28+5=33, low.

    Try 6: 7*6=42, 42+5=47, yes.

    The answer is \\boxed{6}

A slip in one check throws the right value away; the search then runs until no value is left, starts again, and ends in a
guess. So within one problem a long trace is more often wrong, which is what first-finish decoding feeds on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .instance import Instance, slip

LINE = re.compile(r"^Try (\d+): (\d+)\*(\d+)=(\d+), (\d+)\+(\d+)=(\d+), (low|high|yes)\.$")
AGAIN = "No value is left, so start again."
GIVE_UP = "No value is left, so guess."
ANSWER = re.compile(r"\\boxed\{(\d+)\}")
SLIP_RATES = {AGAIN: 0.3, GIVE_UP: 0.6}  # of the checks in the first round, and in the second


class Guess:
    """The guess-and-check family."""

    name = "guess"
    levels = (1, 2, 3)

    def make(self, rng: random.Random, level: int) -> Instance:
        a = rng.randint(2, 9)
        b = rng.randint(1, 30)
        high = min((99 - b) // a, (6, 12, 20)[level - 1])
        x = rng.randint(1, high)
        question = f"Find x from 1 to {high} with {a}*x+{b}={a * x + b}."
        steps = (_tried(x, a, b, a * x, a * x + b, a * x + b), f"The answer is \\boxed{{{x}}}")
        return Instance(self.name, level, question, str(x), f"guess {a} {b} {high} {x}", steps)

    def demonstrate(self, rng: random.Random, instance: Instance) -> list[str]:
        a, b, high, target = _problem(instance)
        steps: list[str] = []
        for ending, rate in SLIP_RATES.items():
            low, top = 1, high
            while low <= top:
                x = rng.randint(low, top)
                product, total = a * x, a * x + b
                if rng.random() < rate:
                    if rng.random() < 0.5:
                        product = slip(rng, product)
                    total = slip(rng, product + b) if product == a * x else product + b
                    if total == target:
                        total += 1
                steps.append(_tried(x, a, b, product, total, target))
                if total == target:
                    return [*steps, f"The answer is \\boxed{{{x}}}"]
                low, top = (x + 1, top) if total < target else (low, x - 1)
            steps.append(ending)
        return [*steps, f"The answer is \\boxed{{{rng.randint(1, high)}}}"]

    def corrupt(self, rng: random.Random, instance: Instance) -> list[str]:
        a, b, high, target = _problem(instance)
        steps: list[str] = []
        low, top = 1, high
        while True:
            x = rng.randint(low, top)
            product, total = a * x, a * x + b
            if rng.random() < 0.35 or total == target:
                break
            steps.append(_tried(x, a, b, product, total, target))
            low, top = (x + 1, top) if total < target else (low, x - 1)
        kind = rng.random()
        if kind < 0.35:
            product = slip(rng, product)
            return [*steps, _tried(x, a, b, product, product + b, target)]
        if kind < 0.7:
            return [*steps, _tried(x, a, b, product, slip(rng, total), target)]
        if kind < 0.85:
            verdict = "yes" if total != target else rng.choice(("low", "high"))
            return [*steps, f"Try {x}: {a}*{x}={product}, {product}+{b}={total}, {verdict}."]
        if total == target:
            steps.append(_tried(x, a, b, product, total, target))
        wrong = rng.choice([n for n in range(1, high + 2) if n != int(instance.answer)])
        return [*steps, f"The answer is \\boxed{{{wrong}}}"]

    def label(self, instance: Instance, steps: Sequence[str]) -> list[bool]:
        """A check is right when both equations and the verdict are; running out of values never is."""
        a, b, _, target = _problem(instance)
        labels = []
        for step in steps:
            boxed, match = ANSWER.search(step), LINE.match(step)
            if boxed:
                labels.append(boxed.group(1) == instance.answer)
            elif match:
                x = int(match[1])
                labels.append(step == _tried(x, a, b, a * x, a * x + b, target))
            else:
                labels.append(False)
        return labels

    def check(self, reference: str, answer: str) -> bool:
        return answer.strip() == reference


def _tried(x: int, a: int, b: int, product: int, total: int, target: int) -> str:
    verdict = "yes" if total == target else "low" if total < target else "high"
    return f"Try {x}: {a}*{x}={product}, {product}+{b}={total}, {verdict}."


def _problem(instance: Instance) -> tuple[int, int, int, int]:
    match = re.match(r"Find x from 1 to (\d+) with (\d+)\*x\+(\d+)=(\d+)\.$", instance.question)
    assert match is not None
    return int(match[2]), int(match[3]), int(match[1]), int(match[4])
