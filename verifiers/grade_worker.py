"""The grading child: reads pairs as JSON lines, answers verdicts as JSON lines, computes with math-verify.

Started by `verifiers.child` as a script of its own, so that it imports nothing of ours and no torch. It is a process of
its own because math-verify's time limits need a main thread, and because algebra on a model's text can take all memory.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import resource
import select
import sys
from typing import IO, Any

MEMORY = 1 << 30  # bytes of address space
CPU_SECONDS = 12  # for one request: ends a computation that no signal handler can interrupt, if the parent is gone
INTEGER = re.compile(r"-?\d{1,300}", re.ASCII)
DECIMAL = re.compile(r"-?\d{1,8}\.\d{1,6}", re.ASCII)
FRACTION = re.compile(r"(-?)(?:\\frac\{(\d{1,300})\}\{(\d{1,300})\}|(\d{1,300})/(\d{1,300}))", re.ASCII)
TOUCHED = re.compile(r"(?<=[^\x00-\x7f])(?=[\d.+\-])|(?<=\d)(?=[^\x00-\x7f])")
MATHS = re.compile(r"\$|\\\(|\\\[|\\boxed")
WARMING: tuple[dict[str, Any], ...] = (
    {"gold": "\\frac{x}{2}", "answer": "\\boxed{0.5 x}"},
    {"gold": "5", "answer": "it is not 5, is it", "prose": True},
    {"gold": "(1, 2]", "answer": "x \\le 2"},
    {"gold": "B", "answer": "option B", "prose": True, "letters": True},
)


def answer(request: dict[str, Any]) -> tuple[str, str]:
    """(verdict, detail) of one pair; the gold comes first, since math-verify is not symmetric."""
    from math_verify.errors import TimeoutException

    seconds = int(request["seconds"])
    try:
        target = parsed(request["answer"], seconds, bool(request["prose"]), request["letters"])
        if not target:
            return "unparsed", "no mathematics in the answer"
        gold = parsed(request["gold"], seconds, False, request["letters"])
        if not gold:
            return "error", "no mathematics in the reference"
        return compared(gold, target, seconds)
    except TimeoutException as problem:
        return "timeout", str(problem)[:80]
    except MemoryError:
        return "timeout", "out of memory"
    except RecursionError:
        return "timeout", "nested too deeply to compute with"
    except Exception as problem:
        return "error", f"{type(problem).__name__}: {problem}"[:200]


def parsed(text: str, seconds: int, prose: bool, letters: bool) -> list[Any]:
    """What math-verify reads in a text. An answer that has no dollar signs of its own is put between two."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse

    latex, written = LatexExtractionConfig(), ExprExtractionConfig()
    options: dict[str, Any] = {"fallback_mode": "no_fallback", "parsing_timeout": seconds, "raise_on_error": True}
    found: list[Any] = [] if prose else plain(text.strip().strip("$"))
    if found:
        return found
    if letters:
        return list(parse(text, [StringExtractionConfig(tuple("ABCDEFGHIJ"))], **options))
    if not prose and not MATHS.search(text):
        found = list(parse(f"${text}$", [latex], **options))
    found = found or list(parse(text, [latex, written], **options))
    if not found and not text.isascii():  # "\u4e3a13/28": a number that touches a letter is no word of its own
        found = list(parse(TOUCHED.sub(" ", text), [latex, written], **options))
    return found


def plain(text: str) -> list[Any]:
    """What math-verify reads in a plain number or fraction, without the milliseconds that its grammar takes; else []."""
    from sympy import Float, Integer, Rational  # type: ignore[import-untyped]

    if INTEGER.fullmatch(text):
        return [Integer(int(text))]
    if DECIMAL.fullmatch(text):
        return [Float(float(text))]
    fraction = FRACTION.fullmatch(text)
    if fraction is None or not int(fraction[3] or fraction[5]):
        return []
    value = Rational(int(fraction[2] or fraction[4]), int(fraction[3] or fraction[5]))
    return [-value if fraction[1] else value]


def compared(gold: list[Any], target: list[Any], seconds: int) -> tuple[str, str]:
    from math_verify import verify

    same = verify(gold, target, timeout_seconds=seconds, raise_on_error=True)
    return ("correct", "") if same else ("wrong", "")


def warm() -> None:
    """Has everything imported and built that an answer needs: the first one computes, and does nothing else."""
    for request in WARMING:
        answer({"seconds": 30, "prose": False, "letters": False, **request})


def more_cpu() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def die_with(lifeline: int) -> None:
    """Has the kernel end this process (SIGIO) when the other end of the pipe is closed, which the parent's end does too."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before
        raise SystemExit("the parent is gone")


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answers until the parent closes the pipe."""
    for line in requests:
        more_cpu()
        verdict, detail = answer(json.loads(line))
        replies.write(json.dumps({"verdict": verdict, "detail": detail}) + "\n")
        replies.flush()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    die_with(int(sys.argv[1]))
    os.dup2(2, 1)  # a library that prints must not write into the replies
    import math_verify

    logging.disable(logging.CRITICAL)
    warm()
    sys.set_int_max_str_digits(5000)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies.write(json.dumps({"ready": math_verify.__name__}) + "\n")
    replies.flush()
    serve(os.fdopen(os.dup(0), encoding="utf-8"), replies)


if __name__ == "__main__":
    main()
