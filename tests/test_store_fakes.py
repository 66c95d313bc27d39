"""Fakes for the tests of the store: a generator and a verifier that are functions of their input, and a whole drive.

The generator answers a request one `advance` after another request came; its texts depend on the rows' seeds only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from search.drive import Driver, Outcome, Search
from search.strategies import build
from search.tree import Tree
from search.types import (
    GREEDY,
    Answer,
    Budget,
    Extend,
    Extension,
    Finish,
    Join,
    Part,
    Problem,
    Question,
    Reading,
    Row,
    RunSpec,
    Step,
    Trace,
    Until,
)
from store.database import Database, open_database
from store.journal import StoreJournal
from store.runs import Planned, begin_run


def make_step(text: str = "x", seed: int = 0, length: int = 3, finish: Finish = Finish.END) -> Step:
    rng = np.random.default_rng(seed)
    return Step(
        tokens=rng.integers(0, 1000, length, dtype=np.int32),
        text=text,
        logprobs=-rng.random(length, dtype=np.float32),
        certainties=rng.random(length, dtype=np.float32),
        entropies=rng.random(length, dtype=np.float32),
        finish=finish,
    )


def fake_step(row: Row, until: Until) -> Step:
    """A continuation that is a function of the row's seed and limit."""
    rng = np.random.default_rng(row.seed)
    length = int(rng.integers(1, 9))
    if length > row.limit:
        return make_step("cut", row.seed, row.limit, Finish.LENGTH)
    ends = until is Until.END or len(row.prefix) > 14
    text = f"the answer is {rng.integers(0, 3)}" if ends else f"think {rng.integers(0, 50)}. "
    return make_step(text, row.seed, length, Finish.END if ends else Finish.STEP)


@dataclass
class FakeGenerator:
    queued: list[tuple[int, Extend]] = field(default_factory=list)

    def submit(self, search: int, request: Extend) -> None:
        self.queued.append((search, request))

    def advance(self) -> list[tuple[int, Extension]]:
        due, self.queued = self.queued, []
        return [(search, self.answer(request)) for search, request in due]

    def answer(self, request: Extend) -> Extension:
        steps = tuple(fake_step(row, request.until) for row in request.rows)
        return Extension(steps, 7, 2, 1, 6, 4, flops=1e6, queue_seconds=0.25, seconds=0.5)

    def forget(self, search: int) -> None:
        self.queued = [(key, request) for key, request in self.queued if key != search]

    @property
    def busy(self) -> bool:
        return bool(self.queued)


class FakeVerifier:
    """A value for each step from its tokens; `broken` makes every third trace's reading invalid."""

    name = "fake"

    def __init__(self, broken: float | None = None) -> None:
        self.broken = broken

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self._read(trace) for trace in traces]

    def _read(self, trace: Trace) -> Reading:
        total = sum(int(step.tokens.sum()) for step in trace.steps)
        if self.broken is not None and total % 3 == 0:
            return Reading((self.broken,), passes=1, tokens=5)
        parts = tuple((int(step.tokens.sum()) % 97) / 97 for step in trace.steps)
        return Reading(parts, passes=1, tokens=sum(map(len, trace.steps)), flops=10.0)


def fake_answer(text: str) -> Answer:
    _, found, key = text.rpartition("the answer is ")
    return Answer(key) if found else Answer(None, "no final answer")


def make_spec(strategy: str = "best-of-n", seed: int = 0, **params: object) -> RunSpec:
    return RunSpec(Part("fake"), Part("fake"), Part("fake"), Part(strategy, params), seed=seed)


def make_problems(n: int = 3) -> list[Problem]:
    return [Problem(f"p{i}", f"what is {i}?", str(i % 3), "fake", {"level": i}) for i in range(n)]


def make_search(planned: Planned, spec: RunSpec, budget: Budget = Budget()) -> Search:
    problem = planned.problem
    tree = Tree(Question(problem.id, problem.prompt, (1, 2, 3)), fake_answer, spec.seed, budget=budget, verifier="fake")
    return Search(planned.attempt_id, tree, build(spec.strategy))


def make_journal(db: Database, plan: Sequence[Planned]) -> StoreJournal:
    return StoreJournal(db, {p.attempt_id: p.attempt_id for p in plan}, "fake", Join.MIN)


def drive_all(
    db: Database,
    spec: RunSpec,
    plan: Sequence[Planned],
    verifier: FakeVerifier | None = None,
    budget: Budget = Budget(),
) -> list[Outcome]:
    driver = Driver(FakeGenerator(), verifier or FakeVerifier(), make_journal(db, plan))
    return list(driver.drive(make_search(planned, spec, budget) for planned in plan))


def stored_run(where: Path, spec: RunSpec, n: int = 3, **options: object) -> tuple[Database, list[Outcome]]:
    """A database with one driven run of n problems."""
    db = open_database(where)
    return db, drive_all(db, spec, begin_run(db, spec, make_problems(n), {}), **options)  # type: ignore[arg-type]


def test_the_fake_generator_is_a_function_of_its_input() -> None:
    row = Row("0", 42, (1, 2, 3), 100)
    alone = FakeGenerator().answer(Extend((row,), Until.END, GREEDY))
    assert np.array_equal(alone.steps[0].tokens, fake_step(row, Until.END).tokens)
