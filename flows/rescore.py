"""`ponderosa rescore`: a new verifier or grader over the stored candidates of a run. Nothing is generated, and what the run has
stays as it is: the new scores and verdicts stand beside it under their own names. The same command again does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flows import work
from flows.parts import joined, weights
from flows.versions import versions
from search.tree import scored
from search.types import Part, Problem
from store import queries, rescored
from store.database import Database
from store.imported import is_imported
from store.runs import Run, find_run
from verifiers.grade import Graders, Verdict
from verifiers.graders import GRADERS
from verifiers.registry import require_sandbox


@dataclass(slots=True)
class Rescored:
    """What was added."""

    run: str
    name: str  # of the verifier or grader, as it is stored
    problems: int = 0
    added: int = 0  # scores or verdicts
    before: int = 0  # those that were there
    passes: int = 0
    tokens: int = 0  # of the verifier
    seconds: float = 0.0
    # of a grader, over what the run chose: problems, right by the run's own verdicts, by this one's, on which they differ
    accuracy: tuple[int, int, int, int] | None = None

    def lines(self) -> list[str]:
        """For a person."""
        kind = "scores" if self.accuracy is None else "verdicts"
        there = f", {self.before:,} were there" if self.before else ""
        added = f"{self.added:,} {kind} added to run {self.run} ({self.problems} problems)"
        told = [f"{self.name}: {added}{there}; {self.seconds:.1f} s"]
        if self.accuracy is None:
            told.append(f"{self.passes:,} passes over {self.tokens:,} tokens; not in the run's own ledger")
            told.append(f"`ponderosa reselect {self.run} --verifier '{self.name}'` says what it would have chosen")
        elif self.accuracy[0]:
            n, own, later, differ = self.accuracy
            told.append(f"of what it chose: {own / n:.3f} right by its own verdicts, {later / n:.3f} by these; {differ} differ")
        return told


def run(
    opened: Database,
    wanted: str,
    verifier: Part | None = None,
    grader: str | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[Rescored]:
    """Rescores by a verifier, a grader, or both. ValueError in one line for what cannot be."""
    found = find_run(opened, wanted)
    if verifier is None and grader is None:
        raise ValueError("name a --verifier or a --grader to rescore with")
    out = []
    if verifier is not None:
        out.append(_by_verifier(opened, found, joined(verifier), watch))
    if grader is not None:
        out.append(_by_grader(opened, found, grader, watch))
    return out


def label(part: Part) -> str:
    """The name that a later verifier's scores have: with its parameters, since a run may be scored by several of one kind."""
    return str(part)


def _by_verifier(opened: Database, found: Run, part: Part, watch: Callable[[int, int], None]) -> Rescored:
    if part == found.spec.verifier and not is_imported(found.spec):
        raise ValueError(f"run {found.id} has the scores of '{part}': it was made with that verifier; name another")
    require_sandbox(part)
    name = label(part)
    verifier, join = work.verifier_of(part)  # one that cannot be loaded leaves nothing
    rescored.begin(opened, found.id, "verifier", name, weights_of(part), versions())
    made, began = Rescored(found.id, name), time.monotonic()
    total = queries.summary(opened, found.id).problems
    for each in rescored.wholes(opened, found.id, "verifier", name):
        fresh = [path for path in each.traces if path not in each.known]
        for at in range(0, len(fresh), rescored.BATCH):
            some = fresh[at : at + rescored.BATCH]
            readings = verifier.score([each.traces[path] for path in some])
            scores = [scored(p, name, r.parts, r.reason, join) for p, r in zip(some, readings, strict=True)]
            rescored.add_scores(opened, each.attempt_id, scores, join.value)
            made.passes += sum(r.passes for r in readings)
            made.tokens += sum(r.tokens for r in readings)
        _count(made, len(fresh), len(each.known), watch, total)
    return replace(made, seconds=time.monotonic() - began)


def _by_grader(opened: Database, found: Run, grader: str, watch: Callable[[int, int], None]) -> Rescored:
    from search.checks import one_of

    one_of("grader", grader, GRADERS)
    rescored.begin(opened, found.id, "grader", grader, "", versions())
    made, began = Rescored(found.id, grader), time.monotonic()
    total = queries.summary(opened, found.id).problems
    with Graders() as graders:
        for each in rescored.wholes(opened, found.id, "grader", grader):
            problem = _graded_by(each.problem, grader)
            fresh = [path for path in each.traces if path not in each.known]
            answered = [path for path in fresh if each.answers[path] is not None]  # what was cut off has no answer
            verdicts = graders.grade_all([(problem, each.answers[path], each.text(path)) for path in answered])
            found_ = dict(zip(answered, verdicts, strict=True))
            given = [rescored.Given(path, found_.get(path, Verdict.NONE).value) for path in fresh]
            rescored.add_verdicts(opened, each.attempt_id, grader, given)
            _count(made, len(fresh), len(each.known), watch, total)
    return replace(made, seconds=time.monotonic() - began, accuracy=rescored.chosen_by(opened, found.id, grader))


def _count(made: Rescored, added: int, before: int, watch: Callable[[int, int], None], total: int) -> None:
    made.added, made.before, made.problems = made.added + added, made.before + before, made.problems + 1
    watch(made.problems, total)


def _graded_by(problem: Problem, grader: str) -> Problem:
    meta: dict[str, Any] = {**problem.meta, "grader": grader}
    return Problem(problem.id, problem.prompt, problem.answer, problem.source, meta)


def weights_of(part: Part) -> str:
    """Fingerprints of a verifier's own models."""
    return weights(Part("bundled"), part).partition(" ")[2]


__all__ = ["Rescored", "label", "run"]
