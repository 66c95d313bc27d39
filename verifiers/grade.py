"""Grading against the reference, after the search. A search never sees what is here.

A problem's grader is the one its meta names, else that of its family or set: see `graders`. The verdicts keep apart a wrong
answer, one that could not be read, one that took (or would take) more time or memory than there is, and a failure of the
grader itself.

    with Graders() as graders:
        verdict = graders.grade(problem, choice.answer, text)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from pipelines.problems import FAMILIES
from search.checks import one_of
from search.types import Problem

from .extract import STYLES, extractor_for
from .graders import GRADERS, Asked, Judged, Verdict
from .pool import Pool

REMEMBERED = 100_000  # pairs


def grader_for(problem: Problem) -> str:
    """Which grader a problem gets: the one its meta names, else by family and source. ValueError for an unknown name."""
    if problem.meta.get("grader"):
        name = str(problem.meta["grader"])
        one_of("grader", name, GRADERS)
        return name
    if problem.meta.get("family") in FAMILIES:
        return "exact"
    style = problem.meta.get("style")
    return "integer" if style == "aime" or (style is None and problem.source.split("/")[0] == "aime") else "math"


class Graders:
    """Grades answers; equal ones are computed once. Close it, or use it as a context manager.

    `seconds` is the wall limit of one grading; `children` how many may compute side by side (by default as many as there are
    processors, at least 2). They are started when first needed.
    """

    def __init__(self, seconds: float = 5.0, children: int | None = None) -> None:
        self.pool = Pool(children, seconds)
        self.detail = ""  # why the last answer got its verdict, where there is something to say
        self._known: dict[tuple[object, ...], Judged] = {}

    def grade(self, problem: Problem, answer_key: str | None, text: str = "") -> Verdict:
        """The verdict on an answer. Where there is no key but a text, the answer is looked for in the text."""
        asked = _asked(problem, answer_key, text)
        judged = asked if isinstance(asked, Judged) else self._remembered(asked) or self._kept(asked, self._computed(asked))
        self.detail = judged.detail
        return judged.verdict

    def grade_all(self, answers: Iterable[tuple[Problem, str | None, str]]) -> list[Verdict]:
        """As `grade` for each (problem, key, text), side by side; the verdicts in their order."""
        all_asked = [_asked(*answer) for answer in answers]
        waiting: dict[tuple[object, ...], Future[Judged]] = {}
        threads = ThreadPoolExecutor(self.pool.size, thread_name_prefix="grading")
        try:
            for asked in all_asked:
                if isinstance(asked, Asked) and self._remembered(asked) is None and _pair(asked) not in waiting:
                    waiting[_pair(asked)] = threads.submit(self._computed, asked)
            return [self._collected(asked, waiting).verdict for asked in all_asked]
        except BaseException:  # Ctrl-C: nothing is waited for
            threads.shutdown(wait=False, cancel_futures=True)
            self.pool.interrupt()
            raise
        finally:
            threads.shutdown()

    def _collected(self, asked: Judged | Asked, waiting: Mapping[tuple[object, ...], Future[Judged]]) -> Judged:
        if isinstance(asked, Judged):
            return asked
        return self._remembered(asked) or self._kept(asked, waiting[_pair(asked)].result())

    def _remembered(self, asked: Asked) -> Judged | None:
        return self._known.get(_pair(asked))

    def _kept(self, asked: Asked, judged: Judged) -> Judged:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[_pair(asked)] = judged
        return judged

    def _computed(self, asked: Asked) -> Judged:
        try:
            return GRADERS[grader_for(asked.problem)].judge(asked, self.pool)
        except (ValueError, ArithmeticError, RecursionError) as problem:  # of a reference that is not of its grader's kind
            return Judged(Verdict.ERROR, f"{type(problem).__name__}: {problem}"[:200])

    def close(self) -> None:
        self.pool.close()

    def __enter__(self) -> Graders:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


# ------------------------------------------------------------------------------------------------------------ internals


def _asked(problem: Problem, answer_key: str | None, text: str) -> Judged | Asked:
    """What is to be judged, or the verdict where there is nothing."""
    if answer_key is None and not text:
        return Judged(Verdict.NONE)
    known = GRADERS[grader_for(problem)]
    key = answer_key if answer_key is not None else extractor_for(_answer_style(problem.meta))(text).key
    prose = key is None and known.prose
    key = text if prose else key
    return Judged(Verdict.UNPARSED) if key is None or not key.strip() else Asked(problem, key, prose)


def _pair(asked: Asked) -> tuple[object, ...]:
    """Equal for what must get the same verdict."""
    problem, name = asked.problem, grader_for(asked.problem)
    goes_by = tuple(repr(problem.meta.get(field)) for field in GRADERS[name].meta)
    return (name, problem.answer, asked.key, asked.prose, *goes_by)


def _answer_style(meta: Mapping[str, Any]) -> Mapping[str, Any] | str:
    style = str(meta.get("family") or meta.get("style") or "math")
    return meta if style in STYLES else {**meta, "style": "math", "family": ""}


__all__ = ["GRADERS", "Graders", "Verdict", "grader_for"]
