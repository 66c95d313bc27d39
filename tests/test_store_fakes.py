"""Fakes for the tests of the store: a generator, a verifier and an encoder that are functions of their input, a whole drive,
and what a database then holds.

The generator answers a request one `advance` after another request came; its texts depend on the rows' seeds only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Table, text
from sqlalchemy import select as sql_select

import store.database
from search.drive import Driver, Outcome, Search
from search.packing import unpack
from search.select import Selector, entries
from search.strategies import Strategy, build
from search.tree import Tree
from search.types import (
    GREEDY,
    ROOT,
    Answer,
    Ask,
    Budget,
    Choice,
    Embedding,
    Extend,
    Extension,
    Finish,
    Join,
    Packed,
    Part,
    Problem,
    Question,
    Reading,
    Row,
    RunSpec,
    State,
    Step,
    Trace,
    Until,
)
from store import schema
from store.database import Database, open_database
from store.journal import StoreJournal
from store.leases import this_process
from store.runs import Planned, begin_run
from store.values import exact_text


@contextmanager
def new_database(where: str) -> Iterator[Database]:
    """A new database, opened. Its tables are made from the schema: they are those that the migrations make, as a test shows,
    in a fifth of the time."""
    engine = store.database._engine(store.database._url(where))
    if engine.dialect.name == "sqlite":
        store.database._use_wal(engine)
    with engine.begin() as connection:
        schema.metadata.create_all(connection, checkfirst=False)
        connection.execute(text(f"CREATE TABLE {schema.VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO {schema.VERSION_TABLE} VALUES ('{schema.HEAD}')"))
    engine.dispose()
    with open_database(where, create=False) as opened:
        yield opened


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
    asked: list[tuple[int, Extend]] = field(default_factory=list)  # all of them

    def submit(self, search: int, request: Extend) -> None:
        self.asked.append((search, request))
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


class FakeEncoder:
    """A vector of each trace's tokens, of more digits than are kept."""

    name = "vectors"

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        totals = [sum(int(step.tokens.sum()) for step in trace.steps) for trace in traces]
        return [Embedding(np.array([t / 7, t / 3000], np.float32), tokens=t % 11, flops=t / 3) for t in totals]


@dataclass(frozen=True)
class AllKinds:
    """A strategy that asks for every kind of reply, prunes and merges."""

    def search(self, tree: Tree) -> Ask[Choice]:
        steps = yield from tree.extend([ROOT], n=5)
        vectors = yield from tree.embed(steps)
        scores = yield from tree.verify(steps)
        order = sorted(range(5), key=lambda i: (scores[i].value or 0.0, float(vectors[i][0]), i))
        tree.mark([steps[i] for i in order[:2]], State.PRUNED, "below the rest")
        tree.mark([steps[order[2]]], State.MERGED, "like another")
        ended = yield from tree.extend([c for c in (steps[i] for i in order[3:]) if c.open], n=2, until=Until.END, first=1)
        yield from tree.verify(ended)
        return Selector("best")(entries(tree, [*steps, *ended]))


def fake_answer(text: str) -> Answer:
    _, found, key = text.rpartition("the answer is ")
    return Answer(key) if found else Answer(None, "no final answer")


def make_spec(strategy: str = "best-of-n", seed: int = 0, **params: object) -> RunSpec:
    return RunSpec(Part("fake"), Part("fake"), Part("fake"), Part(strategy, params), seed=seed)


def make_problems(n: int = 3) -> list[Problem]:
    return [Problem(f"p{i}", f"what is {i}?", str(i % 3), "fake", {"level": i}) for i in range(n)]


def make_search(planned: Planned, spec: RunSpec, budget: Budget = Budget(), strategy: Strategy | None = None) -> Search:
    problem = planned.problem
    tree = Tree(Question(problem.id, problem.prompt, (1, 2, 3)), fake_answer, spec.seed, budget=budget, verifier="fake")
    return Search(planned.attempt_id, tree, strategy or build(spec.strategy))


def make_journal(db: Database, plan: Sequence[Planned], **options: Any) -> StoreJournal:
    """To be used in a `with`: its writer is a thread."""
    return StoreJournal(db, {p.attempt_id: p.attempt_id for p in plan}, "fake", Join.MIN, FakeEncoder.name, **options)


def saved(journal: StoreJournal) -> None:
    """Commits what is buffered, and waits until it is written."""
    assert journal.written(journal.commit(), wait=True) is not None


def drive_all(
    db: Database,
    spec: RunSpec,
    plan: Sequence[Planned],
    verifier: FakeVerifier | None = None,
    budget: Budget = Budget(),
    generator: FakeGenerator | None = None,
    strategy: Strategy | None = None,
    **options: Any,
) -> list[Outcome]:
    """Drives all that is planned; `options` are the journal's."""
    with make_journal(db, plan, **options) as journal:
        driver = Driver(generator or FakeGenerator(), verifier or FakeVerifier(), journal, encoder=FakeEncoder())
        return list(driver.drive(make_search(planned, spec, budget, strategy) for planned in plan))


def stored_run(db: Database, spec: RunSpec, n: int = 3, **options: Any) -> list[Outcome]:
    """Begins and drives a run of n problems. In a new database its attempts are 1 to n."""
    return drive_all(db, spec, begin_run(db, spec, make_problems(n), {}), **options)


def dead_process() -> str:
    """The name of a process of this machine that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    host, boot, _, start = this_process().split("/")
    return f"{host}/{boot}/{ended.pid}/{start}"


# ------------------------------------------------------------------------------------------------------- what was stored


def unpacked(row: dict[str, Any]) -> Step:
    """The step of a candidate's row."""
    return unpack(Packed(row["packed"], row["extra"]), exact_text(row["text"], row["text_zlib"]), Finish(row["finish"]))


TIMES = {"created", "ended", *(c.name for c in schema.attempt.c if c.name.endswith("seconds"))}


def rows(db: Database, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, in the order of its key."""
    with db.read() as connection:
        return [dict(row) for row in connection.execute(sql_select(table).order_by(*table.primary_key)).mappings()]


def everything(db: Database, *without: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but these."""
    return {name: rows(db, table) for name, table in schema.metadata.tables.items() if name not in without}


def timeless(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Without what a clock said. A reply's own seconds are part of its cost."""
    out = {}
    for table, found in tables.items():
        out[table] = [{k: v for k, v in row.items() if k not in TIMES | {"cost"}} for row in found]
    return out


def test_the_fake_generator_is_a_function_of_its_input() -> None:
    row = Row("0", 42, (1, 2, 3), 100)
    alone = FakeGenerator().answer(Extend((row,), Until.END, GREEDY))
    assert np.array_equal(alone.steps[0].tokens, fake_step(row, Until.END).tokens)
