"""Whether a whole solution's answer is right: as the database has it, else as the problem's grader says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.solved import judge
from search.types import Finish, Path
from verifiers.grade import Graders

from .attempts import Attempt

Judge = Callable[[Attempt], dict[Path, bool | None]]  # of each whole solution; None = not decided


@contextmanager
def judging() -> Iterator[Judge]:
    """A judge that takes `solution.correct` where the attempt's solutions are stored, and grades where they are not."""
    with Graders() as graders:

        def said(attempt: Attempt) -> dict[Path, bool | None]:
            if attempt.stored:
                return {path: attempt.stored[path].correct for path in attempt.wholes if path in attempt.stored}
            return _graded(attempt, graders)

        yield said


def _graded(attempt: Attempt, graders: Graders) -> dict[Path, bool | None]:
    """Each distinct answer is graded once. An answer that there is not is none that is right."""
    answers = {path: attempt.nodes[path].answer for path in attempt.wholes}
    asked = list(dict.fromkeys(answer for answer in answers.values() if answer is not None))
    right = dict(zip(asked, judge(graders)([(attempt.problem, answer) for answer in asked]), strict=True))
    return {path: False if answer is None else right[answer] for path, answer in answers.items()}


def ended(attempt: Attempt, path: Path) -> bool:
    """Whether the model ended a solution itself, or was stopped by its own length: what a search has cut says nothing."""
    return attempt.nodes[path].finish in (Finish.END, Finish.LENGTH)


__all__ = ["Judge", "ended", "judging"]
