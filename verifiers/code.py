"""The grader `code`: a program on the tests of its problem, in the sandbox; what is expected never goes in.

Correct where every test gives what is expected (`sandbox.same`, `sandbox.same_output`); unparsed where there is no program, or
one that is no Python; timeout where a test takes longer than it may; error where no sandbox could be made, where a suite is no
Python, and where the outputs of all tests are more than the run may have. All else is wrong, with the first test that fails.

A suite (tests that are code) runs inside, after the program and in its process: its verdict can be forged by the program, and
is given with `forgeable_verdict` in the detail and by a grader of another name, `code-forgeable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipelines.problems.code import FORGEABLE
from search.types import Problem

from .sandbox import How, Limits, Ran, Result, require, run, same, same_output

CODE = ("code", FORGEABLE)  # the graders' names
WHOLE = 60.0  # seconds that the tests of one program may take together, at most
START, FORK = 5.0, 0.1  # seconds for what runs first inside, and for the start of each test, on a busy machine
MARK = "forgeable_verdict: the suite ran in the program's own process"


class Found(NamedTuple):
    """A verdict by its name, and why."""

    verdict: str
    detail: str = ""


def judge(tests: Mapping[str, Any], program: str) -> Found:
    """The verdict on a program. Raises sandbox.Unavailable where there is no sandbox at all."""
    require()
    seconds = float(tests.get("seconds", 5.0))
    count = len(tests.get("calls") or tests.get("stdin") or [None])  # a suite is one
    limits = Limits(seconds=min(WHOLE, count * (seconds + FORK) + START), cpu=int(seconds) + 1)
    entry = str(tests.get("entry", ""))
    if "suite" in tests:
        found = _judged(run(program, "suite", [tests["suite"]], entry, seconds, limits), [True])
        return found._replace(detail="; ".join(filter(None, (found.detail, MARK))))
    if "calls" in tests:
        ran = run(program, "call", [each["args"] for each in tests["calls"]], entry, seconds, limits)
        return _judged(ran, [_returns(test, result) for test, result in zip(tests["calls"], ran.results, strict=False)])
    ran = run(program, "stdin", [each["input"] for each in tests["stdin"]], "", seconds, limits)
    return _judged(ran, [_prints(test, result) for test, result in zip(tests["stdin"], ran.results, strict=False)])


def _returns(test: Mapping[str, Any], result: Result) -> bool:
    return same(test["expected"], result.value)


def _prints(test: Mapping[str, Any], result: Result) -> bool:
    return same_output(test["output"], result.printed)


def _judged(ran: Ran, right: list[bool]) -> Found:
    """By the first test that is not met."""
    if ran.refused:
        return Found("error", f"no sandbox: {ran.refused}")
    for number, (result, fine) in enumerate(zip(ran.results, right, strict=True), start=1):
        at = f"test {number} of {len(right)}"
        match result.how:
            case How.DONE if fine:
                continue
            case How.DONE:
                return Found("wrong", f"{at}: not what is expected")
            case How.TIMEOUT:
                return Found("timeout", f"{at}: {result.detail or 'more time than it may take'}")
            case How.FLOOD if result.detail:
                return Found("error", f"{at}: the tests before it were met, but all outputs are more than one run may have")
            case How.FLOOD:
                return Found("wrong", f"{at}: more output than it may have")
            case How.UNREAD:
                return Found("unparsed", f"the program is no Python: {result.detail}")
            case How.UNFIT:
                return Found("error", f"the suite is no Python: {result.detail}")
            case _:
                return Found("wrong", f"{at}: {result.detail or result.how}")
    return Found("correct")


def ready(problems: Iterable[Problem]) -> None:
    """Raises sandbox.Unavailable where one of the problems needs the sandbox for its grading and there is none."""
    if any(problem.meta.get("grader") in CODE for problem in problems):
        require()


__all__ = ["CODE", "Found", "judge", "ready"]
