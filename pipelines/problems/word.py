"""Multi-step arithmetic word problems: a running total, or a chain of comparisons. Level = number of steps, 2 to 8.

    Ben has 27 coins. Ben finds 12 more. Ben gives away 9. How many coins does Ben have now?

    Finds 12 more: 27+12=39.

    Gives away 9: 39-9=30.

    The answer is \\boxed{30}

Each step restates the sentence it uses, and a comparison says whose value its result is ("Tom has 3 more than Ann: 12+3=15,
Tom=15."), so that checking a step and using it later are local. All values are 1 to 99.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .instance import Equation, Instance, apply, slip

NAMES = ("Ann", "Ben", "Cal", "Dora", "Eve", "Finn", "Gus", "Hana", "Ida", "Jon", "Kim", "Leo")
THINGS = ("coins", "marbles", "books", "cards", "apples", "shells")
EVENTS = {
    "+": (("finds", "more"), ("buys", "more"), ("gets", "more")),
    "-": (("loses", ""), ("sells", ""), ("gives away", "")),
}
EQUATION = re.compile(r"(\d{1,3})([-+*/])(\d{1,3})=(\d{1,3})")
HELD = re.compile(r"[A-Z][a-z]+=(\d+)")  # whose value a step's result is
ANSWER = re.compile(r"\\boxed\{(\d+)\}")
SLIP_RATE = 0.05  # of the steps the generator is taught


class Word:
    """The word-problem family."""

    name = "word"
    levels = (2, 3, 4, 5, 6, 7, 8)

    def make(self, rng: random.Random, level: int) -> Instance:
        build = self._running if rng.random() < 0.6 else self._comparison
        while True:
            instance = build(rng, level)
            if instance is not None:
                return instance

    def _running(self, rng: random.Random, level: int) -> Instance | None:
        name, things = rng.choice(NAMES), rng.choice(THINGS)
        value = rng.randint(2, 50)
        sentences, steps, plan = [f"{name} has {value} {things}."], [], []
        for _ in range(level):
            op, operand = _operation(rng, value)
            if op in EVENTS:
                verb, more = rng.choice(EVENTS[op])
                sentences.append(f"{name} {verb} {operand}{' ' + more if more else ''}.")
                said = f"{verb.capitalize()} {operand}{' ' + more if more else ''}"
            elif op == "*":
                sentences.append(f"Then the number grows {operand} times.")
                said = f"Grows {operand} times"
            else:
                sentences.append(f"{name} keeps one of {operand} equal parts.")
                said = f"Keeps one of {operand} equal parts"
            result = apply(value, op, operand)
            if result is None:
                return None
            plan.append(Equation(value, op, operand, result))
            steps.append(_line(said, plan[-1]))
            value = result
        question = " ".join([*sentences, f"How many {things} does {name} have now?"])
        return _instance(level, question, steps, plan)

    def _comparison(self, rng: random.Random, level: int) -> Instance | None:
        people = rng.sample(NAMES, level + 1)
        things = rng.choice(THINGS)
        held = {people[0]: rng.randint(2, 50)}
        sentences, steps, plan = [f"{people[0]} has {held[people[0]]} {things}."], [], []
        together = rng.random() < 0.3 and level >= 2
        for i in range(1, level + (0 if together else 1)):
            parent = people[i - 1] if i == 1 or rng.random() < 0.7 else rng.choice(people[: i - 1])
            op, operand = _operation(rng, held[parent])
            relation = {
                "+": f"{operand} more than {parent}",
                "-": f"{operand} fewer than {parent}",
                "*": f"{operand} times as many as {parent}",
                "/": f"one of {operand} equal parts of {parent}",
            }[op]
            result = apply(held[parent], op, operand)
            if result is None:
                return None
            held[people[i]] = result
            sentences.append(f"{people[i]} has {relation}.")
            plan.append(Equation(held[parent], op, operand, result))
            steps.append(_line(f"{people[i]} has {relation}", plan[-1]))
        if together:
            first, second = people[level - 2], people[level - 1]
            if held[first] + held[second] > 99:
                return None
            plan.append(Equation(held[first], "+", held[second], held[first] + held[second]))
            steps.append(_line(f"{first} and {second} together", plan[-1]))
            ask = f"How many {things} do {first} and {second} have together?"
        else:
            ask = f"How many {things} does {people[level]} have?"
        return _instance(level, " ".join([*sentences, ask]), steps, plan)

    def demonstrate(self, rng: random.Random, instance: Instance) -> list[str]:
        """Slips are carried on: what follows a wrong result uses it, and the answer comes out wrong."""
        changed: dict[int, int] = {}  # index of a slipped step -> what it wrote
        for i in range(len(instance.plan)):
            if rng.random() < SLIP_RATE:
                changed[i] = slip(rng, instance.plan[i].result)
        return _rewrite(instance, changed) or list(instance.steps)

    def corrupt(self, rng: random.Random, instance: Instance) -> list[str]:
        at = rng.randrange(len(instance.steps))
        good = list(instance.steps[:at])
        return [*good, self._wrong(rng, instance, at)]

    def _wrong(self, rng: random.Random, instance: Instance, at: int) -> str:
        plan = instance.plan
        numbers = sorted({n for e in plan for n in (e.left, e.right, e.result)})
        if at == len(plan) or rng.random() < 0.12:  # a wrong answer: at the end, or a step too early
            right = int(instance.answer)
            choices = [n for n in (*numbers, slip(rng, right), slip(rng, right)) if n != right]
            early = plan[at - 1].result if 0 < at < len(plan) else right
            value = early if early != right and rng.random() < 0.6 else rng.choice(choices)
            return f"The answer is \\boxed{{{value}}}"
        step, equation = instance.steps[at], plan[at]
        said = step.split(":")[0]
        kind = rng.random()
        if kind < 0.45:
            bad = Equation(equation.left, equation.op, equation.right, slip(rng, equation.result))
        elif kind < 0.6:  # the wrong starting value, carried through
            bad = _recomputed(rng, rng.choice([n for n in numbers if n != equation.left]), equation.op, equation.right)
        elif kind < 0.72:  # the wrong amount
            amount = rng.choice([n for n in (*numbers, equation.right + 1, equation.right + 2) if n != equation.right])
            bad = _recomputed(rng, equation.left, equation.op, amount)
            said = said.replace(str(equation.right), str(amount)) if rng.random() < 0.5 else said
        elif kind < 0.84:  # the wrong operation
            op = rng.choice([op for op in "+-*/" if op != equation.op])
            bad = _recomputed(rng, equation.left, op, equation.right)
        elif at + 1 < len(plan) and (plan[at + 1].op, plan[at + 1].right) != (equation.op, equation.right):  # a step left out
            said = instance.steps[at + 1].split(":")[0]
            bad = _recomputed(rng, equation.left, plan[at + 1].op, plan[at + 1].right)
        else:
            bad = Equation(equation.left, equation.op, equation.right, slip(rng, equation.result))
        return _line(said, bad)

    def label(self, instance: Instance, steps: Sequence[str]) -> list[bool]:
        """A step is right when its equation is the plan's at that place, with the result right."""
        labels = []
        for i, step in enumerate(steps):
            boxed = ANSWER.search(step)
            found = EQUATION.findall(step)
            if boxed:
                labels.append(boxed.group(1) == instance.answer)
            elif len(found) == 1 and i < len(instance.plan):
                a, op, b, c = found[0]
                written, planned = Equation(int(a), op, int(b), int(c)), instance.plan[i]
                swapped = Equation(planned.right, planned.op, planned.left, planned.result)
                same = written == planned or (op in "+*" and written == swapped)
                labels.append(same and all(int(held) == written.result for held in HELD.findall(step)))
            else:
                labels.append(False)
        return labels

    def check(self, reference: str, answer: str) -> bool:
        return answer.strip() == reference


def _line(said: str, equation: Equation) -> str:
    """A step: the sentence it uses, the equation, and in a comparison whose value the result is, for later steps to find."""
    owner = f", {said.split(' ')[0]}={equation.result}" if " has " in said else ""
    return f"{said}: {equation}{owner}."


def _operation(rng: random.Random, value: int) -> tuple[str, int]:
    """An operation that keeps the value between 1 and 99."""
    while True:
        op = rng.choices("+-*/", (0.34, 0.34, 0.16, 0.16))[0]
        if op == "+" and value < 96:
            return op, rng.randint(2, min(49, 99 - value))
        if op == "-" and value > 5:
            return op, rng.randint(2, min(49, value - 1))
        if op == "*" and value <= 33:
            return op, rng.randint(2, min(9, 99 // value))
        divisors = [d for d in range(2, 10) if value % d == 0 and value > d]
        if op == "/" and divisors:
            return op, rng.choice(divisors)


def _instance(level: int, question: str, steps: list[str], plan: list[Equation]) -> Instance:
    answer = str(plan[-1].result)
    steps = [*steps, f"The answer is \\boxed{{{answer}}}"]
    key = "word " + " ".join(str(e) for e in plan)
    return Instance("word", level, question, answer, key, tuple(steps), tuple(plan))


def _recomputed(rng: random.Random, left: int, op: str, right: int) -> Equation:
    """An equation that is right as arithmetic where it has an integer result between 1 and 99, else a made-up one."""
    result = apply(left, op, right)
    return Equation(left, op, right, result if result is not None and 1 <= result <= 99 else rng.randint(1, 99))


def _rewrite(instance: Instance, changed: dict[int, int]) -> list[str] | None:
    """The steps with some results changed and carried on; None where a later step could not use them."""
    if not changed:
        return None
    results: list[int] = []
    steps = []
    for i, planned in enumerate(instance.plan):
        sources = [_source(instance, i, side) for side in (0, 1)]
        left = results[sources[0]] if sources[0] is not None else planned.left
        right = results[sources[1]] if sources[1] is not None else planned.right
        result = apply(left, planned.op, right)
        if result is None or not 1 <= result <= 99:
            return None
        if i in changed:
            result = changed[i] if 1 <= changed[i] <= 99 and changed[i] != result else result
        results.append(result)
        steps.append(_line(instance.steps[i].split(":")[0], Equation(left, planned.op, right, result)))
    return [*steps, f"The answer is \\boxed{{{results[-1]}}}"]


def _source(instance: Instance, i: int, side: int) -> int | None:
    """Which earlier step's result an operand of step i is, or None for a number of the question."""
    said = instance.steps[i].split(":")[0]
    running = " has " not in said and " together" not in said
    if running:
        return i - 1 if side == 0 and i > 0 else None
    owners = [s.split(":")[0].split(" ")[0] for s in instance.steps[:i]]
    if " together" in said:
        who = said.split(" ")[0] if side == 0 else said.split(" ")[2]
    elif side == 0:
        who = said.rsplit(" ", 1)[1]
    else:
        return None
    return owners.index(who) if who in owners else None
