"""Countdown: combine the numbers, each once, with + - * / into the target. Levels: three numbers to 9, three to 15, four to 15.

    Use 15, 12, 8, 4 to make 39.

    12/4=3, left 15,8,3, need 39.

    8*3=24, left 15,24: 39,9, need 39.

    15+24=39, left 39, need 39.

    The answer is \\boxed{15+(8*(12/4))}

A search problem: a legal step may be a dead end, and only looking ahead tells. Each step restates what is left and what is
needed, and of two numbers left all they can make, so that judging a step needs nothing before it. Targets are 10 to 60, every
intermediate value 1 to 99.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .instance import Equation, Instance, apply, slip

LINE = re.compile(r"^(\d{1,3})([-+*/])(\d{1,3})=(\d{1,3}), left ([\d,]+)(?:: ([\d,]+))?, need (\d{1,3})\.$")
NUMBERS = {1: (3, 9), 2: (3, 15), 3: (4, 15)}  # level -> how many, how large
ANSWER = re.compile(r"\\boxed\{([^{}]*)\}")
STRAY_RATE = 0.25  # of the demonstrations walk at random from some step on, and end honestly beside the target


@lru_cache(maxsize=2_000_000)
def reachable(numbers: tuple[int, ...], target: int) -> bool:
    """Whether the target can be made from all the (sorted) numbers through values 1 to 99."""
    if len(numbers) == 1:
        return numbers[0] == target
    return any(reachable(tuple(sorted(rest)), target) for _, rest in moves(numbers))


def moves(numbers: Sequence[int]) -> Iterator[tuple[Equation, tuple[int, ...]]]:
    """Every legal operation, with the numbers it leaves: the others in their order, then the result."""
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            for op in "+-*/":
                if op in "+*" and i > j:
                    continue
                result = apply(a, op, b)
                if result is not None and 1 <= result <= 99:
                    rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
                    yield Equation(a, op, b, result), (*rest, result)


class Countdown:
    """The Countdown family."""

    name = "countdown"
    levels = tuple(NUMBERS)

    def make(self, rng: random.Random, level: int) -> Instance:
        while True:
            many, largest = NUMBERS[level]
            numbers = tuple(rng.randint(1, largest) for _ in range(many))
            path: list[Equation] = []
            state = numbers
            while len(state) > 1:
                options = list(moves(state))
                equation, state = rng.choice(options)
                path.append(equation)
            target = state[0]
            if 10 <= target <= 60 and target not in numbers:
                break
        question = f"Use {', '.join(map(str, numbers))} to make {target}."
        reference = f"{target} from {','.join(map(str, sorted(numbers)))}"
        steps = tuple(_written(numbers, path, target))
        return Instance(self.name, level, question, reference, f"countdown {reference}", steps)

    def demonstrate(self, rng: random.Random, instance: Instance) -> list[str]:
        numbers, target = _problem(instance)
        stray = rng.randrange(len(numbers) - 1) if rng.random() < STRAY_RATE else len(numbers)
        path: list[Equation] = []
        state = numbers
        while len(state) > 1:
            options = list(moves(state))
            if len(path) < stray:
                options = [o for o in options if reachable(tuple(sorted(o[1])), target)]
            equation, state = rng.choice(options)
            path.append(equation)
        return _written(numbers, path, target)

    def corrupt(self, rng: random.Random, instance: Instance) -> list[str]:
        numbers, target = _problem(instance)
        at = rng.randrange(len(numbers))
        path: list[Equation] = []
        states = [numbers]
        while len(states[-1]) > 1:
            options = [o for o in moves(states[-1]) if reachable(tuple(sorted(o[1])), target)]
            equation, state = rng.choice(options)
            path.append(equation)
            states.append(state)
        written = _written(numbers, path, target)
        if at == len(path):
            return [*written[:-1], f"The answer is \\boxed{{{_spoiled(rng, written[-1], numbers, target)}}}"]
        before, equation, after = states[at], path[at], states[at + 1]
        kind = rng.random()
        dead = [o for o in moves(before) if not reachable(tuple(sorted(o[1])), target)]
        need = target
        if kind < 0.58 and dead:
            equation, after = rng.choice(dead)
        elif kind < 0.76 or not dead:  # a wrong result, often the one wished for
            wished = target if len(after) == 1 and equation.result != target else slip(rng, equation.result)
            wrong = wished if rng.random() < 0.5 else slip(rng, equation.result)
            equation = Equation(equation.left, equation.op, equation.right, wrong)
            after = (*after[:-1], wrong)
        elif kind < 0.86:  # a number that is not there, or a list that is wrong
            if rng.random() < 0.5 or len(after) == 1:
                other = _recombined(rng, equation)
                equation, after = other, (*after[:-1], other.result)
            else:
                i = rng.randrange(len(after))
                after = (*after[:i], slip(rng, after[i]), *after[i + 1 :])
        elif len(after) == 2 and rng.random() < 0.8:
            return [*written[:at], f"{equation}, {listed(after, misjudged(rng, after, target), target)}"]
        else:
            need = slip(rng, target)
        return [*written[:at], _line(equation, after, need)]

    def label(self, instance: Instance, steps: Sequence[str]) -> list[bool]:
        """A step is right when its numbers were there, its arithmetic and its list are right, and the target is still
        within reach."""
        numbers, target = _problem(instance)
        state: tuple[int, ...] | None = tuple(sorted(numbers))
        labels = []
        for step in steps:
            boxed = ANSWER.search(step)
            if boxed:
                labels.append(self.check(instance.answer, boxed.group(1)))
                continue
            state = _advance(state, step, target)
            labels.append(state is not None and reachable(state, target))
        return labels

    def check(self, reference: str, answer: str) -> bool:
        target, _, given = reference.partition(" from ")
        parsed = evaluate(answer)
        return parsed is not None and parsed[0] == int(target) and parsed[1] == sorted(map(int, given.split(",")))


def _advance(state: tuple[int, ...] | None, step: str, target: int) -> tuple[int, ...] | None:
    """The sorted numbers left after a legal, truthfully written step; None for any other."""
    match = LINE.match(step)
    if state is None or match is None or int(match[7]) != target:
        return None
    a, op, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
    rest = list(state)
    for number in (a, b):
        if number not in rest:
            return None
        rest.remove(number)
    after = tuple(sorted([*rest, result]))
    left = [int(n) for n in match[5].split(",") if n]
    if apply(a, op, b) != result or result < 1 or tuple(sorted(left)) != after:
        return None
    return after if (match[6] or "") == ",".join(map(str, outlook(left))) else None


def evaluate(expression: str) -> tuple[int, list[int]] | None:
    """(value, sorted numbers used) of an integer expression in + - * / ( ), or None where it is not one.

    Division must leave no remainder. Never Python's own evaluation: the text is a model's.
    """
    tree = parse(expression)
    if tree is None:
        return None
    numbers: list[int] = []

    def value(node: Node) -> int | None:
        if isinstance(node, int):
            numbers.append(node)
            return node
        op, left, right = node
        a, b = value(left), value(right)
        return None if a is None or b is None else apply(a, op, b)

    result = value(tree)
    return None if result is None else (result, sorted(numbers))


Node = int | tuple[str, "Node", "Node"]


def parse(expression: str) -> Node | None:
    """The syntax tree of an expression with the usual precedence, or None; at most 200 characters."""
    tokens = re.findall(r"\d{1,6}|[-+*/()]", expression)
    if len(expression) > 200 or "".join(tokens) != re.sub(r"\s+", "", expression) or not tokens:
        return None
    tokens.reverse()

    def atom() -> Node:
        token = tokens.pop()
        if token == "(":
            inner = chain("+-")
            if tokens.pop() != ")":
                raise ValueError
            return inner
        return int(token)

    def chain(ops: str) -> Node:
        node = chain("*/") if ops == "+-" else atom()
        while tokens and tokens[-1] in ops:
            op = tokens.pop()
            node = (op, node, chain("*/") if ops == "+-" else atom())
        return node

    try:
        tree = chain("+-")
    except (ValueError, IndexError):
        return None
    return tree if not tokens else None


def canonical(expression: str) -> str | None:
    """One text for expressions that differ only in the order of sums and products and in brackets; None if not parsed.

    So a vote counts 8*3+15 and 15+(3*8) as one answer.
    """
    tree = parse(expression)
    return None if tree is None else _text(tree)


def _text(node: Node) -> str:
    if isinstance(node, int):
        return str(node)
    op, left, right = node
    sides = [_text(left), _text(right)]
    if op in "+*":
        sides.sort()
    return f"({sides[0]}{op}{sides[1]})"


def _problem(instance: Instance) -> tuple[tuple[int, ...], int]:
    asked, _, target = instance.question.removeprefix("Use ").partition(" to make ")
    return tuple(int(n) for n in asked.split(", ")), int(target.rstrip("."))


def outlook(left: Sequence[int]) -> list[int]:
    """What two numbers can make, from 1 to 99: sum, difference, product, quotient. Nothing for any other count."""
    if len(left) != 2:
        return []
    high, low = max(left), min(left)
    made = [high + low, high - low, high * low, *([high // low] if high % low == 0 else [])]
    return [n for n in made if 1 <= n <= 99]


def listed(left: Sequence[int], made: Sequence[int], need: int) -> str:
    """What is left, what that can make, and what is needed."""
    outlooks = f": {','.join(map(str, made))}" if made else ""
    return f"left {','.join(map(str, left))}{outlooks}, need {need}."


def _line(equation: Equation, left: Sequence[int], need: int) -> str:
    return f"{equation}, {listed(left, outlook(left), need)}"


def _written(numbers: Sequence[int], path: Sequence[Equation], target: int) -> list[str]:
    """The lines of a path, and the expression it builds."""
    steps = []
    pool = [(n, str(n)) for n in numbers]
    for equation in path:
        texts = []
        for number in (equation.left, equation.right):
            at = max(i for i, (n, _) in enumerate(pool) if n == number)
            texts.append(pool.pop(at)[1])
        pool.append((equation.result, f"({texts[0]}{equation.op}{texts[1]})"))
        steps.append(_line(equation, [n for n, _ in pool], target))
    expression = pool[0][1]
    inner = expression[1:-1] if expression.startswith("(") else expression
    return [*steps, f"The answer is \\boxed{{{inner}}}"]


def misjudged(rng: random.Random, left: Sequence[int], target: int) -> list[int]:
    """A wrong outlook of two numbers, often one that shows the target where it is not."""
    made = outlook(left)
    i = rng.randrange(len(made))
    made[i] = target if target not in made and rng.random() < 0.5 else slip(rng, made[i])
    return made


def _recombined(rng: random.Random, equation: Equation) -> Equation:
    """An equation that holds, over a number that was not there."""
    for _ in range(20):
        left = slip(rng, equation.left)
        result = apply(left, equation.op, equation.right)
        if result is not None and 1 <= result <= 99:
            return Equation(left, equation.op, equation.right, result)
    return Equation(equation.left, equation.op, equation.right, slip(rng, equation.result))


def _spoiled(rng: random.Random, step: str, numbers: Sequence[int], target: int) -> str:
    """A wrong expression near a right one."""
    match = ANSWER.search(step)
    assert match is not None
    right = match.group(1)
    reference = f"{target} from {','.join(map(str, sorted(numbers)))}"
    while True:
        spots = list(re.finditer(r"\d+|[-+*/]", right))
        spot = rng.choice(spots)
        if spot.group() in "+-*/":
            new = rng.choice([op for op in "+-*/" if op != spot.group()])
        else:
            new = str(rng.choice([*numbers, slip(rng, int(spot.group()))]))
        wrong = right[: spot.start()] + new + right[spot.end() :]
        if not Countdown().check(reference, wrong):
            return wrong
