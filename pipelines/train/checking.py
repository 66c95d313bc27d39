"""What the bundled judge is taught to write: a check of a solution, line by line, and a comparison of two. All exact.

    Finds 12 more: 27+12=39, yes.

    Gives away 9: 39-9=30 not 39-9=31, no.

    The answer is 30 not 31, no.

    Answer: no.

A line of a check works the step out anew and then says what the solution has instead, where that differs; so what must be
compared stands in the line before the verdict. There is one line a step and then the verdict: on the answer where the solution
gives one, else on whether every step so far is right. A comparison works out what settles it and ends in "Better: A." or
"Better: B.".
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from pipelines.problems import FAMILIES, Instance
from pipelines.problems.countdown import LINE as MOVE
from pipelines.problems.countdown import evaluate, moves, outlook, parse, reachable
from pipelines.problems.guess import LINE as TRY
from pipelines.problems.instance import apply
from pipelines.problems.word import EQUATION
from search.strategies.asking import filled
from search.strategies.knockout import compared
from search.types import SEPARATOR

BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
ASK = "{question}\n\n<{nonce}>\n\n{solution}\n\n</{nonce}>\n\n"
CHECK, DIRECT = f"{ASK}Check.", f"{ASK}Right?"  # a check with its verdict, and the verdict alone
YES, NO = "yes", "no"


def asked(template: str, question: str, steps: Sequence[str], nonce: str) -> str:
    """The prompt of a check."""
    return filled(template, question=question, solution=SEPARATOR.join(steps), nonce=nonce)


def asked_pair(question: str, first: Sequence[str], second: Sequence[str], nonce: str) -> str:
    """The prompt of a comparison, as the strategy "knockout" writes it."""
    return compared(question, SEPARATOR.join(first), SEPARATOR.join(second), nonce)


def right(instance: Instance, steps: Sequence[str]) -> bool:
    """What the verdict of a check is on: the answer where the last step gives one, else every step."""
    labels = FAMILIES[instance.family].label(instance, steps)
    return bool(labels) and (labels[-1] if BOXED.search(steps[-1]) else all(labels))


def checked(instance: Instance, steps: Sequence[str]) -> list[str]:
    """The lines of a check: one a step, then the verdict."""
    labels = FAMILIES[instance.family].label(instance, steps)
    said = {"word": _word, "guess": _guess, "countdown": _countdown}[instance.family](instance, steps, labels)
    lines = [f"{line}, {YES if label else NO}." for line, label in zip(said, labels, strict=True)]
    return [*lines, verdict(instance, steps)]


def verdict(instance: Instance, steps: Sequence[str]) -> str:
    return f"Answer: {YES if right(instance, steps) else NO}."


def better(rng: random.Random, instance: Instance, first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The lines of a comparison. Where both are right, or both wrong, the letter is drawn."""
    found = right(instance, first), right(instance, second)
    letter = rng.choice("AB") if found[0] == found[1] else "A" if found[0] else "B"
    begun = list(instance.steps[:-1]) if instance.family == "word" else []
    sides = [f"{name}: {_settled(instance, steps)}." for name, steps in zip("AB", (first, second), strict=True)]
    return [*begun, *sides, f"Better: {letter}."]


def _settled(instance: Instance, steps: Sequence[str]) -> str:
    """What decides whether a solution's answer is right, worked out, and whether it is."""
    boxed = BOXED.search(steps[-1]) if steps else None
    if boxed is None:
        return f"None, {NO}"
    value = boxed[1]
    said = {"word": _answer, "guess": _substituted, "countdown": _evaluated}[instance.family](instance, value)
    return f"{said}, {YES if right(instance, steps) else NO}"


def _answer(instance: Instance, value: str) -> str:
    return f"The answer is {instance.answer}{'' if value == instance.answer else f' not {value[:8]}'}"


def _word(instance: Instance, steps: Sequence[str], labels: Sequence[bool]) -> list[str]:
    lines = []
    for i, (step, good) in enumerate(zip(steps, labels, strict=True)):
        boxed, found = BOXED.search(step), EQUATION.findall(step)
        if boxed:
            lines.append("Not yet" if i < len(instance.plan) and not good else _answer(instance, boxed[1]))
        elif i >= len(instance.plan):
            lines.append("No step")
        else:
            own = instance.steps[i].removesuffix(".")
            written = "{}{}{}={}".format(*found[0]) if len(found) == 1 else "that"
            lines.append(own if good else f"{own} not {written}")
    return lines


def _numbers(question: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", question)]


def _guess(instance: Instance, steps: Sequence[str], labels: Sequence[bool]) -> list[str]:
    lines = []
    for step in steps:
        boxed, match = BOXED.search(step), TRY.match(step)
        if boxed:
            lines.append(_substituted(instance, boxed[1]))
        elif match is None:
            lines.append("No value is left" if step.startswith("No value") else "No step")
        else:
            lines.append(_tried(instance, match))
    return lines


def _tried(instance: Instance, match: re.Match[str]) -> str:
    """A check up to the first thing in it that is wrong."""
    _, _, a, b, target = _numbers(instance.question)
    x, product = int(match[1]), a * int(match[1])
    total = product + b
    side = "yes" if total == target else "low" if total < target else "high"
    pieces = [(f"Try {x}: ", f"{a}*{x}", f"{match[2]}*{match[3]}"), ("=", str(product), match[4])]
    pieces += [(", ", f"{product}+{b}", f"{match[5]}+{match[6]}"), ("=", str(total), match[7]), (", ", side, match[8])]
    return _up_to_the_first(pieces)


def _up_to_the_first(pieces: Sequence[tuple[str, str, str]]) -> str:
    """(what stands before, what is right, what is written) one after another; ends where the last two differ."""
    said = ""
    for before, own, written in pieces:
        said += before + own
        if own != written:
            return f"{said} not {written}"
    return said


def _substituted(instance: Instance, value: str) -> str:
    _, _, a, b, target = _numbers(instance.question)
    if not re.fullmatch(r"\d{1,2}", value):
        return "The answer is no value"
    total = a * int(value) + b
    return (
        f"The answer is {value}: {a}*{value}={total - b}, {total - b}+{b}={total}{'' if total == target else f' not {target}'}"
    )


def _countdown(instance: Instance, steps: Sequence[str], labels: Sequence[bool]) -> list[str]:
    *given, target = _numbers(instance.question)
    state: list[int] | None = given
    lines = []
    for step in steps:
        boxed = BOXED.search(step)
        if boxed:
            lines.append(_evaluated(instance, boxed[1]))
            continue
        match = MOVE.match(step)
        if state is None or match is None:
            lines.append("Lost" if match else "No step")
            state = None
            continue
        line, state = _moved(state, match, target)
        lines.append(line)
    return lines


def _moved(state: list[int], match: re.Match[str], target: int) -> tuple[str, list[int] | None]:
    """The check of one move, and what is left after it; None where it is not legal or not truthfully written."""
    a, op, b = int(match[1]), match[2], int(match[3])
    begun, rest = f"{_list(state)}: ", list(state)
    for number in (a, b):
        if number not in rest:
            return f"{begun}no {number}", None
        rest.remove(number)
    result = apply(a, op, b)
    if result is None or not 1 <= result <= 99:
        return f"{begun}{a}{op}{b} makes none", None
    written = [int(n) for n in match[5].split(",") if n]
    after = written if sorted(written) == sorted([*rest, result]) else [*rest, result]
    pieces = [(begun, f"{a}{op}{b}={result}", f"{a}{op}{b}={match[4]}"), (", left ", _list(after), _list(written))]
    if outlook(after) or match[6]:
        pieces.append((": ", _list(outlook(after)) or "none", match[6] or "none"))
    pieces.append((", need ", str(target), match[7]))
    said = _up_to_the_first(pieces)
    if any(own != wrote for _, own, wrote in pieces):
        return said, None
    return said + (f", {_way(after, target)}" if len(after) > 2 else ""), after


def _way(state: Sequence[int], target: int) -> str:
    """A move from which the target is still within reach, or that there is none."""
    good = (equation for equation, left in moves(state) if reachable(tuple(sorted(left)), target))
    found = next(good, None)
    return f"so {found}" if found else "so none"


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _evaluated(instance: Instance, expression: str) -> str:
    """An answer worked out from the inside: its equations, its value, and which number is not used as it should be."""
    *given, target = _numbers(instance.question)
    found = evaluate(expression)
    if found is None:
        return "The answer is no value"
    value, used = found
    over = next((n for n in used if used.count(n) > given.count(n)), None)
    left = next((n for n in given if used.count(n) < given.count(n)), None)
    equations: list[str] = []
    _walked(parse(expression), equations)
    said = f"The answer is {', '.join(equations) or value}"
    if value != target:
        return f"{said} not {target}"
    wrong = over if over is not None else left
    return said if wrong is None else f"{said} with {wrong}"


def _walked(node: int | tuple[str, object, object] | None, equations: list[str]) -> int:
    if node is None or isinstance(node, int):
        return node or 0
    op, left, right_side = node
    a, b = _walked(left, equations), _walked(right_side, equations)  # type: ignore[arg-type]
    result = apply(a, op, b) or 0
    equations.append(f"{a}{op}{b}={result}")
    return result
