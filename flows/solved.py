"""Whole solutions as rows of their own, judged by their problems' graders: written at a run's end, or by the first question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.types import Problem
from store import solved
from store.database import Database
from store.schema import UNDECIDED
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.graders import GRADERS


def judge(graders: Graders) -> solved.Judge:
    """The problems' own graders, over answers."""

    def said(asked: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        verdicts = graders.grade_all((problem, answer, "") for problem, answer in asked)
        return [None if each in UNDECIDED else each is Verdict.CORRECT for each in verdicts]

    return said


def cheap(problem: Problem) -> bool:
    """Whether its answers are judged without running programs: those are left until somebody asks."""
    return "tests" not in GRADERS[grader_for(problem)].meta


def ensure(opened: Database, run_ids: Sequence[str], only: Callable[[Problem], bool] = lambda problem: True) -> int:
    """Derives what is missing of these runs; how many solutions that were."""
    if not solved.underived(opened, run_ids):
        return 0
    with Graders() as graders:
        return sum(solved.derive(opened, run_id, judge(graders), only) for run_id in run_ids)


__all__ = ["cheap", "ensure", "judge"]
