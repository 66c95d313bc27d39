"""What a step says, apart from how it is written: equal for two steps that state the same equations.

    7*3=21, left 5,2,21, need 24.        says what        3 * 7 = 21, left 2,5,21, need 24.

Sums and products are flattened and sorted (a+b = b+a, a-b stays), so are the sides of an equation and plain lists of numbers;
spaces, "×" and "\\cdot" are one thing. Where a step states an equation its words are left out: "so in all 3+4=7" and "3+4=7"
are the same. Every number counts, wherever it stands. Where it states none, only spaces and capitals are forgiven. Nothing
is computed: a wrong equation equals none but itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

LONGEST = 2_000  # characters read of a step
DEEPEST = 20  # brackets within brackets

Factor = tuple[int, str]  # 1 or -1 (divided by), and what
Term = tuple[int, tuple[Factor, ...]]  # sign, sorted factors

CHARACTERS = str.maketrans("×·⋅∗÷−–＝{}[]", "****/--=()()")
REWRITES = (
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\[dt]?frac\s*\(([^()]{1,80})\)\s*\(([^()]{1,80})\)"), r"((\1)/(\2))"),
    (re.compile(r"\\left|\\right|\\[,;:! ]|\$"), ""),
)
TOKEN = re.compile(r"\d+(?:\.\d+)?[A-Za-z]\w*|\d+(?:\.\d+)?|\.\d+|[A-Za-z_]\w*\(|\\?[A-Za-z_]\w*|\S", re.ASCII)
LIST = re.compile(r"(?<![\w.,])\d+(?:\.\d+)?(?:,[ ]?\d+(?:\.\d+)?)+(?![\w.]*[\w(])", re.ASCII)
BESIDE = tuple("=+-*/^(")  # what stands before or after numbers that are no plain list: their order may mean something


def said(text: str) -> str:
    """The step's text as what it says; equal for two that say the same."""
    text = text[:LONGEST].translate(CHARACTERS)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    text = LIST.sub(_sorted_list, text)
    reader, found, boxed = _Reader(TOKEN.findall(text)), [], False
    while reader.more:
        phrase = reader.phrase()
        if phrase is None:
            word = reader.next().lower()
            boxed = boxed or word == "\\boxed"
            found.append((word, boxed))
        else:
            found.append((phrase, True))
    stated = any(kept and "=" in phrase for phrase, kept in found)
    return " ".join(phrase for phrase, kept in found if kept or not stated)


def _sorted_list(found: re.Match[str]) -> str:
    """Numbers parted by commas in rising order, in a form that is read as one word."""
    text, written = found.string, found.group()
    if text[: found.start()].rstrip().endswith(BESIDE) or text[found.end() :].lstrip().startswith(BESIDE):
        return written
    numbers = sorted((number.strip() for number in written.split(",")), key=lambda number: (Fraction(number), number))
    return ("list_" + "_".join(numbers)).replace(".", "p")


class _No(Exception):
    """No expression begins here."""


class _Reader:
    """Recursive descent over the tokens of a step; whatever is no expression is given back a token at a time."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.tokens)

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def _peek(self) -> str:
        return self.tokens[self.at] if self.more else ""

    def phrase(self) -> str | None:
        """The expression or equation that begins here, in its one form; None where there is only a word or a sign."""
        start, self.depth = self.at, 0
        try:
            sides = [_written(self._sum())]
        except _No:
            self.at = start
            return None
        while right := self._after("=", self._sum):
            sides.append(_written(right[1]))
        phrase = "=".join(sorted(sides))
        if "=" not in phrase and not any(character.isdigit() for character in phrase):
            self.at = start
            return None
        return phrase

    def _after(self, signs: str, read: Callable[[], list[Term]]) -> tuple[str, list[Term]] | None:
        """One of the signs and what follows it; None, and nothing is read, where either is not there."""
        if not self.more or self._peek() not in signs:
            return None
        at, depth = self.at, self.depth
        sign = self.next()
        try:
            return sign, read()
        except _No:
            self.at, self.depth = at, depth
            return None

    def _sum(self) -> list[Term]:
        terms = self._product()
        while found := self._after("+-", self._product):
            sign = 1 if found[0] == "+" else -1
            terms = [*terms, *((sign * own, factors) for own, factors in found[1])]
        return terms

    def _product(self) -> list[Term]:
        terms = self._signed()
        while found := self._after("*/", self._signed):
            terms = [_times(terms, found[1], 1 if found[0] == "*" else -1)]
        return terms

    def _signed(self) -> list[Term]:
        sign = 1
        while self._peek() == "-":
            self.next()
            sign = -sign
        return [(sign * own, factors) for own, factors in self._power()]

    def _power(self) -> list[Term]:
        base = self._atom()
        found = self._after("^", self._signed)
        return base if found is None else [(1, ((1, f"({_written(base)})^({_written(found[1])})"),))]

    def _atom(self) -> list[Term]:
        token = self.next() if self.more else ""
        if token == "(" or token.endswith("("):
            inner = self._bracketed()
            return inner if token == "(" else [(1, ((1, f"{token}{_written(inner)})"),))]
        if not token or not (token[0].isalnum() or token[0] in "._"):
            raise _No
        plain = str(Fraction(token)) if re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", token, re.ASCII) else token.lower()
        if self._peek() == "%":
            plain += self.next()
        return [(1, ((1, plain),))]

    def _bracketed(self) -> list[Term]:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _No
        inner = self._sum()
        if self._peek() != ")":
            raise _No
        self.next()
        self.depth -= 1
        return inner


def _times(left: list[Term], right: list[Term], power: int) -> Term:
    """The product, or with power -1 the quotient, of two sums: brackets of one term are opened."""
    (sign, factors), (other, more) = _one(left), _one(right)
    return sign * other, tuple(sorted((*factors, *((power * own, what) for own, what in more))))


def _one(terms: list[Term]) -> Term:
    """A sum as one term."""
    return terms[0] if len(terms) == 1 else (1, ((1, f"({_written(terms)})"),))


def _written(terms: list[Term]) -> str:
    """The one form of a sum: its terms sorted, each with its sign and its sorted factors."""
    out = []
    for sign, factors in terms:
        product = "".join(("*" if power > 0 else "/") + what for power, what in sorted(factors, key=lambda f: (-f[0], f[1])))
        out.append(("+" if sign > 0 else "-") + product.removeprefix("*"))
    return "".join(sorted(out)).removeprefix("+") if len(out) > 1 else out[0].removeprefix("+")


__all__ = ["said"]
