"""The graders by name, one by one: GRADERS. Each compares an answer with the reference, and says what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from pipelines.problems import FAMILIES, countdown
from pipelines.problems.code import FORGEABLE
from search.types import Problem

from . import choice, numeric
from .code import judge
from .extract import LONGEST, latex, number, written
from .pool import Pool
from .size import too_deep, too_large

SPACES = re.compile(r"[ \t]{2,}")
PROSE = re.compile(r"[a-z]{2,} [a-z]{2,} ")  # no mathematics has two words in a row


class Verdict(StrEnum):
    """What grading found. Only CORRECT counts as solved; each of the others is counted by itself."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer could be read, or it is too long
    TIMEOUT = "timeout"  # more time or memory than there is, or so large that it would be
    ERROR = "error"  # the grader failed, or cannot read the reference
    NONE = "none"  # no answer was chosen


class Judged(NamedTuple):
    """A verdict, and why, where there is something to say."""

    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer to judge."""

    problem: Problem
    key: str  # the answer; the whole text where `prose`
    prose: bool = False  # no answer was marked in the text


@dataclass(frozen=True, slots=True)
class Known:
    """A grader that can be named."""

    judge: Callable[[Asked, Pool], Judged]
    about: str
    meta: tuple[str, ...] = ()  # what of a problem's meta it goes by, beside the reference
    prose: bool = False  # it is given the whole text where no answer is marked in it


def exact(asked: Asked, _: Pool) -> Judged:
    """The family's own checker; an answer not of the family's form is unparsed."""
    name = str(asked.problem.meta.get("family"))
    if name not in FAMILIES:
        return Judged(Verdict.ERROR, "the problem is of no family")
    readable = countdown.parse(asked.key) is not None if name == "countdown" else number(asked.key) is not None
    if not readable:
        return Judged(Verdict.UNPARSED)
    return _found(FAMILIES[name].check(asked.problem.answer, asked.key))


def integer(asked: Asked, _: Pool) -> Judged:
    """AIME: both are integers, and equal."""
    wanted, given = number(asked.problem.answer), number(latex(asked.key))
    if wanted is None or "." in wanted:
        return Judged(Verdict.ERROR, "the reference is no integer")
    if given is None or "." in given:
        return Judged(Verdict.UNPARSED, "not an integer")
    return _found(wanted == given)


def multiple_choice(asked: Asked, _: Pool) -> Judged:
    """The same letter, as `choice.letter` reads both: an option's text stands for its letter."""
    options = choice.options_of(asked.problem.meta)
    wanted = _reference(asked.problem.answer, options)
    if asked.prose and written(asked.key).key is not None:
        return Judged(Verdict.UNPARSED, "the answer that it marks names no option, or several")
    given = choice.chosen(asked.key, options) if asked.prose else choice.letter(asked.key, options)
    if wanted is None:
        return Judged(Verdict.ERROR, "the reference names no option")
    return Judged(Verdict.UNPARSED, "it names no option") if given is None else _found(wanted == given)


def within(asked: Asked, _: Pool) -> Judged:
    """Quantities within the problem's `tolerance` or `relative` tolerance: see `numeric`."""
    meta = asked.problem.meta
    wanted, given = numeric.quantity(asked.problem.answer), numeric.quantity(asked.key)
    if wanted is None:
        return Judged(Verdict.ERROR, "the reference is not one number")
    if given is None:
        return Judged(Verdict.UNPARSED, "not one number")
    rooms = [None if meta.get(name) is None else Decimal(str(meta[name])) for name in ("tolerance", "relative")]
    return _found(numeric.agree(wanted, given, *rooms))


def mathematics(asked: Asked, pool: Pool) -> Judged:
    """Equal as text, as numbers or as letters; else math-verify in a child process, once the answer is found to be of a size
    that can be computed with."""
    gold, key = asked.problem.answer, asked.key
    if len(key) > LONGEST:
        return Judged(Verdict.UNPARSED, f"{len(key)} characters, more than {LONGEST}")
    decided = plainly(gold, key)
    if decided is not None:
        return Judged(decided)
    letter = _reference(gold) if asked.prose or PROSE.search(key) else None
    if letter is not None:
        given = choice.chosen(key) if asked.prose else choice.letter(key)
        if given is not None:
            return _found(given == letter)
    if too_large(key):
        return Judged(Verdict.TIMEOUT, "too large to compute with")
    if too_deep(key):
        return Judged(Verdict.UNPARSED, "brackets nested too deeply")
    key = SPACES.sub(" ", key)  # which math-verify's patterns are slow with
    verdict, detail = pool.ask(gold, key, prose=asked.prose, letters=asked.prose and letter is not None)
    return Judged(Verdict(verdict), detail)


def program(asked: Asked, _: Pool) -> Judged:
    """A program on the problem's tests, in the sandbox: see `code`. Raises sandbox.Unavailable where there is none."""
    tests = asked.problem.meta.get("tests")
    if tests is None:
        return Judged(Verdict.ERROR, "the problem has no tests")
    found = judge(tests, asked.key)
    return Judged(Verdict(found.verdict), found.detail)


GRADERS: dict[str, Known] = {
    "exact": Known(exact, "the family's own checker", meta=("family",)),
    "integer": Known(integer, "whole numbers compared"),
    "math": Known(mathematics, "math-verify in a child process", prose=True),
    "choice": Known(multiple_choice, "the letter of a multiple choice", meta=("options",), prose=True),
    "numeric": Known(within, "numbers within a tolerance", meta=("tolerance", "relative")),
    "code": Known(program, "a program on the problem's tests, in the sandbox", meta=("tests",)),
    FORGEABLE: Known(program, "the same where the tests are code themselves: a program can forge it", meta=("tests",)),
}


# ------------------------------------------------------------------------------------------------------------ internals


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
    letters = choice.formed(gold), choice.formed(key)
    if None not in letters and "(" in gold + key:
        return Verdict.CORRECT if letters[0] == letters[1] else Verdict.WRONG
    return None


def _found(same: bool) -> Judged:
    return Judged(Verdict.CORRECT if same else Verdict.WRONG)


def _reference(gold: str, options: tuple[str, ...] | None = None) -> str | None:
    """The letter that a reference names, be it a whole sentence; without options, where it is written as one."""
    marked = written(gold).key
    gold = gold if marked is None else marked
    return choice.formed(gold) if options is None else choice.letter(gold, options)


__all__ = ["GRADERS", "Asked", "Judged", "Known", "Verdict", "plainly"]
