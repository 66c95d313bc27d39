"""The work of a run in plain Python: plan it, solve a shard of its problems, close it. Runs without Prefect.

What crosses these functions is ids and counts; models stay warm in the process; everything else is in the database.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from flows.parts import weights
from pipelines.problems.load import load_problems
from search.drive import Driver, Journal, NoJournal, Outcome, Search
from search.strategies import build
from search.tree import Tree
from search.types import Join, Part, Problem, Question, RunSpec, Verifier
from store.database import Database
from store.journal import StoreJournal
from store.runs import Planned, begin_run, end_run, find_run, grade, planned, restart
from verifiers.extract import extractor_for
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.registry import check_verifier, load_verifier

if TYPE_CHECKING:
    from pipelines.models import TextModel

CONCURRENCY = 64  # searches held at once: what bounds the memory for finished steps


@dataclass(slots=True)
class Progress:
    """How far a run is. `tokens` are generated tokens."""

    total: int
    done: int = 0
    before: int = 0  # of those done: by an earlier shard or process
    right: int = 0
    failed: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before the first problem is done."""
        solved = self.done - self.before
        return self.seconds / solved * (self.total - self.done) if solved else None


Watcher = Callable[[Progress], None]


def _nobody(progress: Progress) -> None:
    pass


@lru_cache(maxsize=2)
def _generator(name: str, params: tuple[tuple[str, object], ...]) -> TextModel:
    from pipelines.models import load_generator

    return load_generator(name, dict(params))


@lru_cache(maxsize=4)
def _verifier(name: str, params: tuple[tuple[str, object], ...]) -> tuple[Verifier, Join]:
    return load_verifier(Part(name, dict(params)))


def generator_of(part: Part) -> TextModel:
    """The loaded generator, kept warm for the process."""
    return _generator(part.name, tuple(sorted(part.params.items())))


def verifier_of(part: Part) -> tuple[Verifier, Join]:
    """The loaded verifier and its join, kept warm for the process."""
    return _verifier(part.name, tuple(sorted(part.params.items())))


def check(spec: RunSpec) -> None:
    """Raises ValueError for a spec that could not run, before anything is loaded or written."""
    build(spec.strategy)
    check_verifier(spec.verifier)
    if spec.problems.name != "question":
        load_problems(spec.problems)
    here = weights(spec.generator, spec.verifier)
    if spec.weights != here:
        raise ValueError(f"the run was made with weights '{spec.weights}', and here are '{here}'; start a new run")


def plan(database: Database, spec: RunSpec, name: str = "") -> list[Planned]:
    """Writes the run and its attempts, or finds them; every attempt of the run, done ones too."""
    check(spec)
    return begin_run(database, spec, load_problems(spec.problems), environment(), name)


def search_of(key: int, problem: Problem, spec: RunSpec, model: TextModel, verifier: tuple[Verifier, Join]) -> Search:
    """One attempt at one problem. What the search gets of the problem is its question."""
    tree = Tree(
        question=Question(problem.id, problem.prompt, model.encode(problem.prompt)),
        extract=extractor_for(problem.meta),
        seed=spec.seed,
        sampling=spec.sampling,
        budget=spec.budget,
        step_tokens=spec.step_tokens,
        tokens_limit=spec.tokens,
        verifier=verifier[0].name,
        join=verifier[1],
        stops=spec.stops,
    )
    return Search(key, tree, build(spec.strategy))


def solve(
    problems: Sequence[tuple[int, Problem]],
    spec: RunSpec,
    journal: Journal | None = None,
    concurrency: int = CONCURRENCY,
) -> Iterator[Outcome]:
    """Searches for keyed problems, all batched together; outcomes as they end."""
    model, verifier = generator_of(spec.generator), verifier_of(spec.verifier)
    driver = Driver(model.engine, verifier[0], journal or NoJournal(), concurrency)
    return driver.drive(search_of(key, problem, spec, model, verifier) for key, problem in problems)


def work_shard(
    database: Database,
    spec: RunSpec,
    attempts: Sequence[Planned],
    watch: Watcher = _nobody,
    progress: Progress | None = None,
) -> Progress:
    """Solves, grades and stores the attempts of one shard that are still to be done.

    An attempt that an earlier process left half done is started afresh.
    """
    due = [a for a in attempts if not a.closed]
    progress = progress or Progress(total=len(due))
    restart(database, [a.attempt_id for a in due])
    problems = {a.attempt_id: a.problem for a in due}
    verifier, join = verifier_of(spec.verifier)
    journal = StoreJournal(database, {a.attempt_id: a.attempt_id for a in due}, verifier=verifier.name, join=join)
    with Graders() as graders:
        for outcome in solve([(a.attempt_id, a.problem) for a in due], spec, journal):
            attempt = outcome.search.key
            verdict, right = _judged(graders, problems[attempt], outcome)
            grade(database, [(attempt, verdict.value, right, grader_for(problems[attempt]))])
            progress.done += 1
            progress.right += bool(right)
            progress.failed += bool(outcome.error)
            progress.tokens += outcome.search.tree.usage.generated_tokens
            watch(progress)
    return progress


def _judged(graders: Graders, problem: Problem, outcome: Outcome) -> tuple[Verdict, bool | None]:
    """The verdict on the chosen answer. The reference is seen here for the first time."""
    if outcome.choice is None or outcome.choice.path is None:
        return Verdict.NONE, False
    verdict = graders.grade(problem, outcome.choice.answer, outcome.search.tree.text(outcome.choice.path))
    return verdict, verdict is Verdict.CORRECT


def evaluate(database: Database, spec: RunSpec, name: str = "", watch: Watcher = _nobody) -> str:
    """A whole run in this process; its id. Running the same spec again goes on with what is missing."""
    attempts = plan(database, spec, name)
    try:
        work_shard(database, spec, attempts, watch)
    finally:
        close(database, spec.id)
    return spec.id


def close(database: Database, run_id: str) -> None:
    """Ends a run: done when no attempt is left to do, else interrupted."""
    status = "done" if all(a.closed for a in planned(database, run_id)) else "interrupted"
    if find_run(database, run_id).status != status:  # a run that had ended before keeps its time
        end_run(database, run_id, status)


def shards(attempts: Sequence[Planned], size: int) -> list[list[Planned]]:
    """The attempts still to be done, in shards of at most `size`."""
    due = [a for a in attempts if not a.closed]
    return [due[i : i + size] for i in range(0, len(due), size)]


def environment() -> dict[str, str]:
    """What a result depends on beside its spec."""
    names = ("torch", "transformers", "tokenizers", "numpy", "prefect", "sqlalchemy", "math-verify")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {
        **found,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit the code was taken from, with "+" where files differ from it; empty outside a checkout."""
    here = FilePath(__file__).resolve().parent
    ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
