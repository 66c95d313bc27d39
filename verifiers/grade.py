"""Grading against the reference, after the search. A search never sees what is here.

Three graders: `exact` for the synthetic families (their own checkers), `integer` for AIME, `math` for the rest:
equal as text or as numbers, else math-verify in a child process. The verdicts keep apart a wrong answer, one that could
not be read (or is too large to compute with), one that took too long, and a failure of the grader itself.

    with Graders() as graders:
        verdict = graders.grade(problem, choice.answer, text)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import TracebackType
from typing import Any, Literal

from pipelines.problems import FAMILIES, countdown
from search.types import Problem

from .child import Child
from .extract import LONGEST, STYLES, extractor_for, latex, number
from .size import too_large

Grader = Literal["exact", "integer", "math"]
LETTER = re.compile(r"\(?([A-J])\)?(?:[).:]\s.*|\)\S.*|\s+\S.*)?", re.DOTALL)
REMEMBERED = 100_000  # pairs


class Verdict(StrEnum):
    """What grading found. Only CORRECT counts as solved; each of the others is counted by itself."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer could be read, or it is too long or too large
    TIMEOUT = "timeout"
    ERROR = "error"  # the grader failed, or cannot read the reference
    NONE = "none"  # no answer was chosen


def grader_for(problem: Problem) -> Grader:
    """Which grader a problem gets, from its meta and its source."""
    if problem.meta.get("family") in FAMILIES:
        return "exact"
    style = problem.meta.get("style")
    return "integer" if style == "aime" or (style is None and problem.source.split("/")[0] == "aime") else "math"


class Graders:
    """Grades answers; equal (gold, answer) pairs are computed once. Close it, or use it as a context manager."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.child = Child(seconds)
        self.detail = ""  # why the last pair that was computed got its verdict, where there is something to say
        self._known: dict[tuple[str, str, str, bool], Verdict] = {}

    def grade(self, problem: Problem, answer_key: str | None, text: str = "") -> Verdict:
        """The verdict on an answer. Where there is no key but a text, the answer is looked for in the text."""
        if answer_key is None and not text:
            return Verdict.NONE
        kind = grader_for(problem)
        key = answer_key if answer_key is not None else _extract(problem, text)
        prose = key is None and kind == "math"
        if prose:
            key = text
        if key is None or not key.strip():
            return Verdict.UNPARSED
        family = str(problem.meta.get("family", "")) if kind == "exact" else kind
        pair = (family, problem.answer, key, prose)
        if pair not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[pair] = self._computed(kind, problem, key, prose)
        return self._known[pair]

    def _computed(self, kind: Grader, problem: Problem, key: str, prose: bool) -> Verdict:
        self.detail = ""
        match kind:
            case "exact":
                return exact(problem, key)
            case "integer":
                return integer(problem.answer, key)
            case "math":
                return self._math(problem.answer, key, prose)

    def _math(self, gold: str, key: str, prose: bool) -> Verdict:
        if len(key) > LONGEST:
            self.detail = f"{len(key)} characters, more than {LONGEST}"
            return Verdict.UNPARSED
        decided = plainly(gold, key)
        if decided is not None:
            return decided
        if too_large(key):
            self.detail = "too large to compute with"
            return Verdict.UNPARSED
        letters = prose and _letter(gold) is not None
        verdict, self.detail = self.child.ask(gold, key, prose=prose, letters=letters)
        return Verdict(verdict)

    def close(self) -> None:
        self.child.close()

    def __enter__(self) -> Graders:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def exact(problem: Problem, key: str) -> Verdict:
    """The family's own checker; an answer not of the family's form is unparsed."""
    name = str(problem.meta["family"])
    readable = countdown.parse(key) is not None if name == "countdown" else number(key) is not None
    if not readable:
        return Verdict.UNPARSED
    return Verdict.CORRECT if FAMILIES[name].check(problem.answer, key) else Verdict.WRONG


def integer(gold: str, key: str) -> Verdict:
    """AIME: both are integers, and equal."""
    wanted, given = number(gold), number(latex(key))
    if wanted is None or "." in wanted:
        return Verdict.ERROR
    if given is None or "." in given:
        return Verdict.UNPARSED
    return Verdict.CORRECT if wanted == given else Verdict.WRONG


def plainly(gold: str, key: str) -> Verdict | None:
    """The verdict where no algebra is needed: the same LaTeX, two integers, or two letters of a choice; else None."""
    wanted, given = latex(gold), latex(key)
    if wanted and wanted == given:
        return Verdict.CORRECT
    numbers = number(wanted), number(given)
    if numbers[0] is not None and numbers[1] is not None:
        if numbers[0] == numbers[1]:
            return Verdict.CORRECT
        if "." not in numbers[0] + numbers[1]:
            return Verdict.WRONG
    letters = _letter(gold), _letter(key)
    if None not in letters and "(" in gold + key:
        return Verdict.CORRECT if letters[0] == letters[1] else Verdict.WRONG
    return None


def _letter(text: str) -> str | None:
    """The letter of a multiple-choice answer: "B", "(B)", "(B) Cecile"."""
    text = text.strip().strip("$").strip()
    match = LETTER.fullmatch(text)
    return match[1] if match and (len(text) == 1 or text[0] == "(" or text[1:2] in (")", ".", ":")) else None


def _extract(problem: Problem, text: str) -> str | None:
    return extractor_for(_answer_style(problem.meta))(text).key


def _answer_style(meta: Mapping[str, Any]) -> str:
    style = str(meta.get("family") or meta.get("style") or "math")
    return style if style in STYLES else "math"


__all__ = ["Grader", "Graders", "Verdict", "exact", "grader_for", "integer", "plainly"]
