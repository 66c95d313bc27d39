"""A Python program on many tests, one sandbox for all of them: what each test gave, for the caller to judge.

The tests go in without what is expected of them. A result is the program's own word, and no more than that: whoever compares
it with the expected value is outside.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

from .bubble import INSIDE, PYTHON, launch
from .limits import Ended, Limits, Outcome
from .plain import parsed

READY = b"ready\n"  # what the sandbox says before it runs anything
ONE, EACH, MOST = 12, 3, 64  # of the output that one test may have: for any one, for each, for the whole run at most
WHOLE = "the whole run's limit"
Kind = Literal["call", "stdin", "program", "suite"]


class How(StrEnum):
    """How one test ended."""

    DONE = "done"
    FAILED = "failed"  # an exception, a signal, an exit, or a value that JSON cannot write
    TIMEOUT = "timeout"
    FLOOD = "flood"
    UNRUN = "unrun"  # the run ended before it
    UNREAD = "unread"  # the program is no Python, and was not run
    UNFIT = "unfit"  # the suite is none


@dataclass(frozen=True, slots=True)
class Result:
    """One test's result: the value that a function returned (or `answer`'s, of a program) and what was printed."""

    how: How
    value: Any = None
    printed: str = ""
    detail: str = ""  # what went wrong


@dataclass(frozen=True, slots=True)
class Ran:
    """The results in the order of the tests. `refused` says why there was no sandbox; "" where there was one."""

    results: tuple[Result, ...]
    seconds: float
    refused: str = ""


@lru_cache(maxsize=1)
def inside() -> str:
    """The text of the program that runs first."""
    return INSIDE.read_text()


def framed(job: object) -> bytes:
    text = json.dumps(job).encode()
    return len(text).to_bytes(4, "big") + text


def run(source: str, kind: Kind, tests: Sequence[Any], entry: str = "", seconds: float = 5.0, limits: Limits = Limits()) -> Ran:
    """Runs a program: `call` calls its function `entry` with each test's arguments, `stdin` gives it each test as its input,
    `program` runs it once per test with no input, `suite` runs each test as code after it.

    `seconds` is the wall time of one test; no test is run after one that takes longer.
    """
    nonce = secrets.token_hex(16)
    job = {"source": source, "kind": kind, "entry": entry, "tests": list(tests), "seconds": seconds}
    job |= {"cpu": limits.cpu, "most": limits.output, "limits": limits.inside()}
    # a test's result and its output, each up to the limit; control characters take six times their room
    whole = replace(limits, output=min(ONE + EACH * len(tests), MOST) * limits.output)
    outcome = launch([PYTHON, "-I", "-S", "-B", "-c", inside()], framed(job) + nonce.encode(), whole)
    if outcome.ended is Ended.REFUSED or not outcome.output.startswith(READY):
        return Ran((), outcome.seconds, _line(outcome))
    unread = {"program": How.UNREAD, "suite": How.UNFIT} if kind == "suite" else {"program": How.UNREAD}
    return Ran(_results(outcome, nonce, len(tests), unread), outcome.seconds)


def command(words: Sequence[str], feed: bytes, limits: Limits = Limits(), mounts: Sequence[str] = ()) -> Outcome:
    """An external command with `feed` as its input, under the same limits; see `launch` for what it sees."""
    job = {"command": list(words), "cpu": limits.cpu, "limits": limits.inside()}
    outcome = launch([PYTHON, "-I", "-S", "-B", "-c", inside()], framed(job) + feed, limits, mounts)
    begun, output = outcome.output.startswith(READY), outcome.output.removeprefix(READY)
    late = outcome.ended is Ended.TIMEOUT  # the time was up before it began, which a busy machine does to a short limit
    return replace(outcome, output=output, ended=outcome.ended if begun or late else Ended.REFUSED)


def _line(outcome: Outcome) -> str:
    said = outcome.errors.strip().splitlines() or [f"no message, exit status {outcome.status}, {outcome.ended}"]
    return said[-1].removeprefix("bwrap: ")[:300]


def _results(outcome: Outcome, nonce: str, tests: int, unread: Mapping[str, How]) -> tuple[Result, ...]:
    lines = outcome.output.split(b"\n")[1:-1]  # what no line end closes is not whole
    whole = bool(lines) and lines[-1] == nonce.encode()
    results = [_result(line.decode(errors="replace"), unread) for line in lines[: -1 if whole else None]][:tests]
    if not whole and len(results) < tests:
        how = {Ended.TIMEOUT: How.TIMEOUT, Ended.FLOOD: How.FLOOD}.get(outcome.ended, How.FAILED)
        results.append(Result(how, detail="the program ended its own sandbox" if how is How.FAILED else WHOLE))
    return (*results, *[Result(How.UNRUN)] * (tests - len(results)))


def _result(line: str, unread: Mapping[str, How]) -> Result:
    why, back, printed = (str(each) for each in json.loads(line))
    if why in ("timeout", "signal 24"):
        return Result(How.TIMEOUT, printed=printed)
    if why == "flood":
        return Result(How.FLOOD)
    if why:
        said = "it ended without a result" if why == "exit" else f"killed by {why}"
        return Result(How.FAILED, printed=printed, detail=said)
    try:
        fine, value = parsed(back)
    except (ValueError, TypeError) as error:
        return Result(How.FAILED, printed=printed, detail=f"its result cannot be read: {error}"[:200])
    if fine is not True:
        how = unread.get(fine) if isinstance(fine, str) else None
        return Result(how or How.FAILED, printed=printed, detail=" ".join(str(value).split())[:200])
    return Result(How.DONE, value, printed)


__all__ = ["How", "Kind", "Ran", "Result", "command", "run"]
