"""References that their grader cannot read: told when a problem file is loaded, not by a verdict on every answer."""

from __future__ import annotations

from search.types import Problem

from .choice import LETTERS, options_of
from .grade import grader_for
from .graders import GRADERS, Asked, Verdict
from .pool import Pool

REMEDIES = {
    "choice": "write the letter of the right option",
    "integer": "write a whole number, or leave grader 'integer' out",
    "numeric": "write one number, or leave grader 'numeric' out",
}


def unreadable(problem: Problem) -> str:
    """Why no answer to a problem can be graded, in one line with the value and the remedy; "" where it can. The grader is given
    the reference as the answer; those that need more than text (code, algebra) are not asked."""
    name, shown = grader_for(problem), " ".join(problem.answer.split())[:60]
    if name not in REMEDIES:
        return ""
    try:
        with Pool(1) as pool:  # of which nothing is started
            judged = GRADERS[name].judge(Asked(problem, problem.answer), pool)
    except (ValueError, ArithmeticError, RecursionError) as error:
        return f"answer '{shown}' cannot be read by grader '{name}': {error}"[:300]
    if judged.verdict is not Verdict.ERROR:
        return ""
    remedy, options = REMEDIES[name], len(options_of(problem.meta))
    if name == "choice" and options:
        index = " (it looks like an index; the first option is A)" if problem.answer.isdigit() else ""
        remedy += f", A to {LETTERS[options - 1]}{index}"
    return f"answer '{shown}' cannot be read by grader '{name}': {judged.detail}; {remedy}"


__all__ = ["unreadable"]
