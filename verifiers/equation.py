"""The rule verifier "equation": checks the arithmetic of every equation a step states. It sees no reference.

A step's value is 1.0 where all its equations hold and 0.0 where one is false. A step without an equation takes 1.0:
there is nothing to object to. So does a step whose false equation is repaired: a line that begins with "Wait" and
states the same left side with the right result makes good its own step and the step before it.

It reads `27+12=39`, chains `a=b=c`, decimals, brackets, powers, percent, thousands commas, LaTeX and Unicode operators,
GSM8K's `<<3*4=12>>`. Each neighbouring pair of a chain is compared in exact rational arithmetic; a decimal of two
places or more may be the rounding of the other side (10/3=3.33). What it cannot read for certain (letters, words
between the numbers, roots, "= 3 times 4", units on the left) it does not object to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from search.types import Reading, Trace

LONGEST_STEP = 10_000  # characters read of one step
LONGEST_SIDE = 200  # characters
BITS = 2048  # of a numerator or denominator
POWER = 64  # the largest exponent

TOKEN = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)|[-+*/^()%]", re.ASCII)
RUN = re.compile(r"(?:(?:\d+(?:\.\d+)?|\.\d+|[-+*/^()=%])[ \t]*)+", re.ASCII)
ANNOTATION = re.compile(r"<<([^<>\n]{0,200})>>")
REWRITES = (
    (re.compile(r"\\[dt]?frac\s*\{([\d.+\-*/ ]{1,40})\}\s*\{([\d.+\-*/ ]{1,40})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[$()\[\]!,;: ]|[$&€£]"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\boxed\s*\{([-\d.,]{1,40})\}"), r"\1"),
    (re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}\n]{0,80})\}"), r"\1"),
    (re.compile(r"\^\{(\d{1,3})\}"), r"^\1"),
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), ","),
    (re.compile(r"(?<![\d,])(\d{1,3}(?:,\d{3})+)(?![\d,]*\d)"), lambda match: match[1].replace(",", "")),
    (re.compile(r"([\d)])[ \t]*\*\*[ \t]*(?=[\d(])"), r"\1^"),
    (re.compile(r"\*\*"), " "),
    (re.compile(r"(?<=\d)[ \t]*[xX][ \t]*(?=\d)"), "*"),
    (re.compile(r"=="), "="),
    (re.compile(r"(?m)^[ \t]*[-+*][ \t]+"), " "),  # a bullet
)
CHARACTERS = str.maketrans("×·⋅∗÷−–＝\u00a0", "****/--= ")
UNSAFE_BEFORE = re.compile(r"(?:[A-Za-z_\\}\]!|√∛%°^′'±]|\d[:.,]|[^\W\d])$")
CARRIES_BEFORE = re.compile(
    r"(?:^|[^a-z])(?:of|times|by|minus|plus|and|than|half|twice|thrice|double|triple|over|from|per|to|less|more|root|mod)\s+$"
)
UNSAFE_AFTER = re.compile(
    r"[A-Za-z_{^!|°²³√π∞]|[:.]\d|\.\.\.|…|[ \t]+[b-zB-HJ-Z](?![A-Za-z'])|[ \t]*[±√π]|"
    r"[ \t]*\\(?!q?quad|Right|implies|end)[A-Za-z]"
)
CARRIES_AFTER = re.compile(
    r"[ \t]*(?:of|times|by|minus|plus|hundred|thousands?|millions?|billions?|dozens?|percent|per cent|more|less|fewer|"
    r"squared|cubed|divided|multiplied|mod|modulo|remainder|R|and a|and one|or)\b"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One stated equality: what its left side says (without spaces), and whether it holds."""

    left: str
    holds: bool


class EquationVerifier:
    """Values 1.0 or 0.0 a step, by the rules above. It runs no model: no passes, no tokens."""

    name = "equation"

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [_reading(trace) for trace in traces]


def _reading(trace: Trace) -> Reading:
    texts = trace.texts
    return Reading(judged(texts)) if texts else Reading((), "no step to check")


def judged(steps: Sequence[str]) -> tuple[float, ...]:
    """The value of each step's text."""
    false: list[set[str]] = [set() for _ in steps]  # left sides that stand uncorrected
    for at, text in enumerate(steps):
        for line in text[:LONGEST_STEP].splitlines():
            repair = line.lstrip(" *_").lower().startswith("wait")
            for claim in claims(line):
                if not claim.holds:
                    false[at].add(claim.left)
                elif repair:
                    for earlier in false[max(at - 1, 0) : at + 1]:
                        earlier.discard(claim.left)
    return tuple(0.0 if wrong else 1.0 for wrong in false)


def claims(text: str) -> Iterator[Claim]:
    """Every equality a text states that can be read for certain."""
    text = text[:LONGEST_STEP].translate(CHARACTERS)
    for inner in ANNOTATION.findall(text):
        yield from _stated(_plain(inner))
    yield from _stated(_plain(ANNOTATION.sub("", text)))


def _plain(text: str) -> str:
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    return text


def _stated(text: str) -> Iterator[Claim]:
    for run in RUN.finditer(text):
        if "=" not in run.group():
            continue
        sides: list[str | None] = list(run.group().split("="))
        if _cut_before(text, run.start(), str(sides[0])):
            sides[0] = None
        if _cut_after(text, run):
            sides[-1] = None
        values = [None if side is None else value(side) for side in sides]
        for i in range(len(sides) - 1):
            left, right = values[i], values[i + 1]
            if left is not None and right is not None:
                yield Claim(_key(str(sides[i]), str(sides[i + 1])), _equal(left, right, sides[i], sides[i + 1]))


def _key(left: str, right: str) -> str:
    """What names the claim: the left side, or the right one where only that has an operation."""
    plain = [re.sub(r"\s", "", side) for side in (left, right)]
    return plain[1] if plain[0].isdigit() and not plain[1].isdigit() else plain[0]


def _cut_before(text: str, start: int, side: str) -> bool:
    """Whether the first side is only the end of something longer, so that its value is not what is stated."""
    before = text[max(start - 24, 0) : start]
    words = before.rstrip()
    if UNSAFE_BEFORE.search(before) or CARRIES_BEFORE.search(before.lower()):
        return True
    after_word = bool(words) and (words[-1].isalnum() or words[-1] in ")]}%")
    bare = not re.search(r"\d\s*[-+*/^]", side)
    return after_word and (bare or side.lstrip()[:1] in ("+", "-", "*", "/", "^", ")"))


def _cut_after(text: str, run: re.Match[str]) -> bool:
    """Whether the last side goes on in a way that changes its value."""
    end = run.start() + len(run.group().rstrip())
    after = text[end : end + 24]
    return UNSAFE_AFTER.match(after) is not None or CARRIES_AFTER.match(after) is not None


def _equal(left: Fraction, right: Fraction, left_text: str | None, right_text: str | None) -> bool:
    return left == right or _rounds(left, right_text) or _rounds(right, left_text)


def _rounds(exact: Fraction, written: str | None) -> bool:
    """Whether a bare decimal of at least two places is the exact value, rounded."""
    match = re.fullmatch(r"\s*(-?)(\d*)\.(\d{2,30})\s*", written or "")
    if match is None:
        return False
    shown = Fraction(int(f"{match[2]}{match[3]}"), 10 ** len(match[3])) * (-1 if match[1] else 1)
    return bool(abs(exact - shown) * 2 * 10 ** len(match[3]) <= 1)


def value(text: str) -> Fraction | None:
    """The exact value of a side, or None where it is not an expression in numbers, + - * / ^ % and brackets, or is too
    large. Never Python's own evaluation: the text is a model's."""
    if len(text) > LONGEST_SIDE:
        return None
    tokens = [match.group() for match in TOKEN.finditer(text)]
    if "".join(tokens) != re.sub(r"[ \t]", "", text) or re.search(r"[\d.)%][ \t]+[\d.(]", text):
        return None
    try:
        parser = _Parser(tokens)
        result = parser.sum()
    except (ArithmeticError, IndexError, ValueError, RecursionError):
        return None
    return result if parser.at == len(tokens) else None


class _Parser:
    """Recursive descent over the tokens of one side; raises ValueError or ArithmeticError for what has no value."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def _next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def sum(self) -> Fraction:
        self.depth += 1
        if self.depth > 20:
            raise ValueError("too many brackets")
        total = self._product()
        while self._peek() in ("+", "-"):
            total = _bounded(total + self._product() if self._next() == "+" else total - self._product())
        self.depth -= 1
        return total

    def _product(self) -> Fraction:
        total = self._signed()
        while self._peek() in ("*", "/"):
            total = _bounded(total * self._signed() if self._next() == "*" else total / self._signed())
        return total

    def _signed(self) -> Fraction:
        sign = 1
        while self._peek() in ("-", "+"):
            sign = -sign if self._next() == "-" else sign
        return sign * self._power()

    def _power(self) -> Fraction:
        base = self._atom()
        if self._peek() != "^":
            return base
        self._next()
        exponent = self._signed()
        if exponent.denominator != 1 or abs(exponent) > POWER or (base == 0 and exponent <= 0):
            raise ValueError("exponent")
        return _bounded(base ** int(exponent))

    def _atom(self) -> Fraction:
        token = self._next()
        if token == "(":
            inner = self.sum()
            if self._next() != ")":
                raise ValueError("brackets")
        elif token[0] in "0123456789.":
            inner = Fraction(token)
        else:
            raise ValueError(token)
        if self._peek() == "%":
            self._next()
            inner /= 100
        return inner


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > BITS:
        raise OverflowError("too large")
    return number


__all__ = ["Claim", "EquationVerifier", "claims", "judged", "value"]
