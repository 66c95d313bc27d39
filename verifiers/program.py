"""The verifier `program`: runs the program that a solution gives, and compares its answer with the solution's own.

    program:style=math,seconds=5

The program is the last block marked python (`fences.program_of`); it runs in the sandbox with no input. Its answer is its
variable `answer` where it has one, else the last line that it prints ("The answer is 42" is 42). A solution has 1 where its
text gives the same answer, 0 where it gives another, and no value, with the reason, where there is no program, where it fails
or takes too long, where it gives no answer, or where the text gives none. Two answers are the same by their canonical keys;
a decimal of the program's may be the text's fraction to 1e-6.

What the program found stands in the reading's reason, which is stored with the score (`search.collaborate`): so text and
programs can vote together. Checking needs no reference, so a search may do it; tests of a problem are the grader's.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from search.collaborate import told
from search.types import Answer, Reading, Trace

from .equation import value
from .extract import canonical, extractor_for, style_of, written
from .fences import program_of, prose
from .sandbox import How, Limits, Result, run

LONGEST_ANSWER = 500  # characters
FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
TOLERANCE = 1e-6


class ProgramVerifier:
    """Values 1.0 or 0.0 a solution, by the rules above. No passes and no tokens: it runs no model."""

    name = "program"

    def __init__(self, style: str = "math", seconds: float = 5.0) -> None:
        if not (math.isfinite(seconds) and 0 < seconds <= 60):
            raise ValueError(f"seconds must be above 0 and at most 60, not {seconds}")
        self.style = style_of(style)
        self.seconds = seconds
        self._text = extractor_for(style)

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """Equal programs are run once for all of them; different ones side by side."""
        texts = ["".join(step.text for step in trace.steps) for trace in traces]
        programs = [program_of(text) for text in texts]
        distinct = list(dict.fromkeys(each.key for each in programs if each.key is not None))
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="program") as threads:
            answers = dict(zip(distinct, threads.map(self._ran, distinct), strict=True))
        return [
            Reading((), f"no program: {each.reason}") if each.key is None else self._reading(text, answers[each.key])
            for text, each in zip(texts, programs, strict=True)
        ]

    def _reading(self, text: str, program: Answer) -> Reading:
        if program.key is None:
            return Reading((), program.reason)
        said = self._text(prose(text))
        if said.key is None:
            return Reading((), told(program.key, f"no answer in the text ({said.reason})"))
        return Reading((float(agree(said.key, program.key)),), told(program.key))

    def _ran(self, program: str) -> Answer:
        """What a program answers."""
        limits = Limits(seconds=self.seconds + 5, cpu=int(self.seconds) + 1)
        ran = run(program, "program", [None], seconds=self.seconds, limits=limits)
        if ran.refused:
            return Answer(None, f"no sandbox: {ran.refused}")
        [result] = ran.results
        match result.how:
            case How.DONE:
                return self._answer(result)
            case How.TIMEOUT:
                return Answer(None, f"the program took more than {self.seconds:g} s")
            case How.FLOOD:
                return Answer(None, "the program printed more than it may")
            case _:
                return Answer(None, f"the program failed: {result.detail}")

    def _answer(self, result: Result) -> Answer:
        lines = [line.strip() for line in result.printed.splitlines() if line.strip()]
        raw = result.value if isinstance(result.value, str) else lines[-1] if lines else ""
        raw = written(raw).key or raw.strip()
        if not raw or len(raw) > LONGEST_ANSWER or not raw.isprintable():
            return Answer(
                None, "the program gave no answer" if not raw else "the program's answer is too long, or no plain text"
            )
        found = canonical(raw, self.style)
        return found if found.key is not None else Answer(None, f"the program's answer is {found.reason}")


def agree(text: str, program: str) -> bool:
    """Whether two canonical answers are the same."""
    if text == program:
        return True
    wanted, given = _exact(text), _exact(program)
    if wanted is None or given is None:
        return False
    return wanted == given or ("." in program and abs(wanted - given) <= TOLERANCE * max(1.0, float(abs(wanted))))


def _exact(key: str) -> Fraction | None:
    return value(FRACTION.sub(r"((\1)/(\2))", key))


__all__ = ["ProgramVerifier", "agree"]
