"""Whether an answer is too large to compute with: powers, factorials and binomials that would fill the memory.

A cheap look at the text, before any algebra. What it lets through is still held by the grading child's limits.
"""

from __future__ import annotations

import re

POWER = 10_000  # the largest exponent
FACTORIAL = 2_000
TOWER = 12  # powers of powers that are looked at
DEPTH = 60  # of brackets: a parser that calls itself for each runs out of stack
NUMERIC = re.compile(r"[\d\s.,{}()^*+\-]|\\(?:cdot|times|left|right|,|!)")
SIMPLE = re.compile(r"\d+")
ATOM = re.compile(r"\\[A-Za-z]+|[A-Za-z]|\d+")
GROUPS = {"{": "}", "(": ")"}


def too_large(text: str) -> bool:
    """Whether the text holds a numeric exponent above 10,000, a factorial above 2,000! or a binomial above 10,000."""
    plain = re.sub(r"\\left|\\right|\s|\\[,!;:]|\{,\}|(?<=\d),(?=\d{3})", "", text).replace("**", "^")
    exponents = (_operand(plain, match.end()) for match in re.finditer(r"\^", plain))
    arguments = [_before(plain, match.start()) for match in re.finditer("!", plain)]
    chosen = [_operand(plain, match.end()) for match in re.finditer(r"\\[dt]?binom|\\binomial|\\Gamma|\\factorial", plain)]
    return (
        any(_bound(exponent) > POWER for exponent in exponents)
        or any(_bound(argument) > FACTORIAL for argument in arguments)
        or any(_bound(argument) > POWER for argument in chosen)
    )


def too_deep(text: str) -> bool:
    """Whether the brackets of a text, of any kind, are nested more than 60 deep."""
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > DEPTH:
            return True
    return False


def _operand(text: str, start: int) -> str:
    """The group or the atom that begins at `start`, with the powers it is itself raised to."""
    end = start
    for _ in range(TOWER):
        sign = 1 if text[end : end + 1] in ("-", "+") else 0
        end = _group_end(text, end + sign)
        if text[end : end + 1] == "!":
            return text[start : end + 1]
        if text[end : end + 1] != "^":
            return text[start:end]
        end += 1
    return "9^9^9"  # a tower of this height is out of all bounds, whatever stands in it


def _group_end(text: str, start: int) -> int:
    close = GROUPS.get(text[start : start + 1])
    if close is None:
        match = ATOM.match(text, start)
        return match.end() if match else min(start + 1, len(text))
    depth = 0
    for at in range(start, len(text)):
        if text[at] == text[start]:
            depth += 1
        elif text[at] == close:
            depth -= 1
            if depth == 0:
                return at + 1
    return len(text)


def _before(text: str, end: int) -> str:
    """The number or the bracketed group that ends at `end`; a second factorial counts as too large."""
    if end == 0 or text[end - 1] == "!":
        return "9" * 9 if end else ""
    if text[end - 1].isdigit():
        found = re.search(r"\d+$", text[:end])
        return found.group() if found else ""
    if text[end - 1] not in ")}":
        return ""
    opening = "(" if text[end - 1] == ")" else "{"
    depth = 0
    for at in range(end - 1, -1, -1):
        depth += (text[at] == text[end - 1]) - (text[at] == opening)
        if depth == 0:
            return text[at:end]
    return text[:end]


def _bound(text: str) -> float:
    """An upper bound of a numeric text: the sum and product of its numbers; infinite for a power of a power."""
    numbers = [float(found) if len(found) < 300 else float("inf") for found in SIMPLE.findall(text)]
    if not numbers:
        return 0.0
    if "!" in text and max(numbers) > 8:
        return float("inf")
    if "^" in text:
        return max(numbers) if not _numeric(text) else _tower(text)
    if not re.search(r"\*|\\cdot|\\times|\)\(", text):
        return max(numbers) if "+" not in text else sum(numbers)
    product = 1.0
    for value in numbers:
        product *= max(value, 1.0)
    return product


def _numeric(text: str) -> bool:
    return not NUMERIC.sub("", text)


def _tower(text: str) -> float:
    """An upper bound of a numeric text with powers in it: every number to the power of all the later ones."""
    value = 1.0
    for found in reversed(SIMPLE.findall(text)):
        base = float(found) if len(found) < 16 else float("inf")
        if value * len(found) > 300:
            return float("inf")
        value = base**value if base > 1 else max(base, value)
    return value


__all__ = ["too_deep", "too_large"]
