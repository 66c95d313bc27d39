"""Replay from a database: a search goes on where its journal ends, and is refused where it is another. Ledgers from rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from laws import recorded
from sqlalchemy import delete, true, update
from sums import tokens_match
from test_store_fakes import (
    AllKinds,
    FakeEncoder,
    FakeGenerator,
    FakeVerifier,
    drive_all,
    everything,
    make_journal,
    make_problems,
    make_search,
    make_spec,
    new_database,
    rows,
    stored_run,
    timeless,
)

from search.drive import Diverged, Driver, Outcome
from search.strategies import Strategy
from search.strategies.best_of_n import BestOfN
from search.tree import Tree
from search.types import Ask, Budget, Choice, Extend, Extension, Reading, RunSpec, Trace
from store import schema
from store.costs import UNSUMMED, summed
from store.database import Database
from store.errors import LeaseLost
from store.leases import Lease, claim
from store.runs import begin_run, planned

STRATEGIES = ["best-of-n", "beam", "astar", "first-finish", "greedy"]


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


class Stop(Exception):
    """Ends a drive, as a signal does."""


def stopped_after(db: Database, spec: RunSpec, turns: int, n: int = 2, strategy: Strategy | None = None) -> None:
    """Begins a run of n problems, and stops in the middle of it; what was handed to the journal by then is written."""
    plan = begin_run(db, spec, make_problems(n), {})
    left = turns

    def pulse() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stop

    with make_journal(db, plan) as journal:
        driver = Driver(FakeGenerator(), FakeVerifier(), journal, encoder=FakeEncoder(), pulse=pulse)
        drive = driver.drive(make_search(p, spec, strategy=strategy) for p in plan)
        with pytest.raises(Stop):
            list(drive)


@pytest.mark.parametrize("turns", [1, 4, *(pytest.param(turns, marks=pytest.mark.slow) for turns in (3, 6))])
@pytest.mark.parametrize("strategy", [None, AllKinds()], ids=["beam", "all kinds of replies"])
def test_a_search_goes_on_where_its_journal_ends_and_leaves_the_same_rows(
    db: Database, turns: int, strategy: Strategy | None
) -> None:
    """The run that was interrupted and the one that was not differ in nothing but the clock."""
    well, spec = make_spec("beam", seed=3, n=4, keep=2), make_spec("beam", seed=3, n=4, keep=2, join="min")
    outcomes = stored_run(db, well, n=2, strategy=strategy)
    stopped_after(db, spec, turns, strategy=strategy)
    plan = planned(db, spec.id)
    before = [row for row in rows(db, schema.candidate) if row["attempt_id"] in {p.attempt_id for p in plan}]
    generator = FakeGenerator()
    again = drive_all(db, spec, plan, generator=generator, strategy=strategy)
    made = sum(len(request.rows) for _, request in generator.asked)
    assert made == sum(len(o.search.tree.candidates) for o in again) - len(before)
    by_problem = {o.search.tree.question.id: o for o in outcomes}
    for outcome in again:
        assert recorded(outcome) == recorded(by_problem[outcome.search.tree.question.id])
    left, right = (_of_run(db, run_id) for run_id in (well.id, spec.id))
    assert left == right


def _of_run(db: Database, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """What is stored of a run, without the numbers of its attempts."""
    ids = {p.attempt_id: p.problem.id for p in planned(db, run_id)}
    out = {}
    for name, found in timeless(everything(db, "run", "problem", "lease", "session")).items():
        key = "id" if name == "attempt" else "attempt_id"
        own = [{**row, key: ids[row[key]], "run_id": ""} for row in found if row[key] in ids]
        out[name] = sorted(own, key=lambda row: str([row.get(k) for k in (key, "number", "path")]))
    return out


def test_a_run_that_is_done_asks_nobody_and_changes_nothing(db: Database) -> None:
    spec = make_spec("beam")
    stored_run(db, spec, strategy=AllKinds())
    before, generator = everything(db), FakeGenerator()
    verifier = FakeVerifier()
    verifier.score = lambda traces: pytest.fail("it is judged again")  # type: ignore[method-assign]
    drive_all(db, spec, planned(db, spec.id), verifier, generator=generator, strategy=AllKinds())
    assert generator.asked == []
    assert everything(db) == before


@dataclass(frozen=True)
class Renamed:
    """The same search by other code: it asks for one candidate more in the end."""

    def search(self, tree: Tree) -> Ask[Choice]:
        yield from AllKinds().search(tree)
        yield from tree.extend([""], n=1)
        return Choice(None, None, "")


OTHERS: dict[str, Any] = {
    "parameters": (make_spec(), BestOfN(n=5)),
    "seed": (make_spec(seed=1), AllKinds()),
    "code": (make_spec(), Renamed()),
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_search_that_is_not_the_one_of_its_journal_is_refused_and_its_rows_stay(db: Database, change: str) -> None:
    spec, strategy = OTHERS[change]
    # a search that has its end in the journal too: what comes after it is what differs by code
    stored_run(db, make_spec(), n=2, strategy=AllKinds())
    with db.write() as connection:
        connection.execute(update(schema.attempt).where(schema.attempt.c.id == 1).values(status="running"))
        if change == "code":
            last = schema.reply.c.attempt_id == 1, schema.reply.c.number == 3
            connection.execute(update(schema.reply).where(*last).values(asked="0" * 16))
    before = everything(db)
    plan = planned(db, make_spec().id)[:1]
    with make_journal(db, plan, most_tries=1) as journal:
        driver = Driver(FakeGenerator(), FakeVerifier(), journal, encoder=FakeEncoder())
        [outcome] = driver.drive([make_search(plan[0], spec, strategy=strategy)])
    assert isinstance(outcome.exception, Diverged)
    assert outcome.exception.exit_code == 65
    assert "in the journal answers" in outcome.error
    assert "\n" not in outcome.error
    assert everything(db) == before, "it is as it was, and open"


def test_a_journal_with_a_missing_row_is_refused(db: Database) -> None:
    spec = make_spec()
    for seed, lost in enumerate((schema.candidate, schema.score, schema.embedding)):
        other = replace(spec, seed=seed)
        stopped_after(db, other, 4, n=1, strategy=AllKinds())
        [plan] = planned(db, other.id)
        of_it = lost.c.attempt_id == plan.attempt_id
        with db.write() as connection:
            if lost is schema.candidate:
                connection.execute(delete(schema.score).where(schema.score.c.attempt_id == plan.attempt_id))
                connection.execute(delete(schema.embedding).where(schema.embedding.c.attempt_id == plan.attempt_id))
                connection.execute(delete(lost).where(of_it, lost.c.path == "2"))
            else:
                connection.execute(delete(lost).where(of_it, lost.c.number == 1))
        generator = FakeGenerator()
        [outcome] = drive_all(db, other, [plan], generator=generator, strategy=AllKinds(), most_tries=3)
        assert isinstance(outcome.exception, Diverged)
        assert "in the journal has 4 of its 5 rows; run `ponderosa audit`" in outcome.error
        assert generator.asked == []


def test_an_attempt_whose_journal_is_not_whole_does_not_fail_of_it_with_a_false_ledger(db: Database) -> None:
    spec = make_spec("best-of-n", n=4, select="best")
    plan = begin_run(db, spec, make_problems(1), {})
    stopped_after(db, spec, 2, n=1)
    with db.write() as connection:
        connection.execute(delete(schema.candidate).where(schema.candidate.c.path == "2"))
    for _ in range(3):
        drive_all(db, spec, plan, most_tries=3, tries={1: planned(db, spec.id)[0].tries})
    assert tokens_match(db, spec.id) == []


def test_rows_of_another_reply_under_a_number_in_use_are_found_when_they_are_replayed(db: Database) -> None:
    """Two journals of one attempt at once, and no lease between them."""
    spec = make_spec()
    plan = begin_run(db, spec, make_problems(1), {})
    for first in (0, 5):
        search = make_search(plan[0], spec)
        [request] = [next(search.strategy.search(search.tree))]
        assert isinstance(request, Extend)
        moved = tuple(replace(row, path=str(first + i)) for i, row in enumerate(request.rows))
        with make_journal(db, plan) as journal:
            if first:  # it began before the other had written
                journal._journaled = set()
            journal.started(plan[0].attempt_id)
            asked = replace(request, rows=moved)
            journal.answered(plan[0].attempt_id, asked, FakeGenerator().answer(asked))
            journal.commit()
    [outcome] = drive_all(db, spec, plan)
    assert isinstance(outcome.exception, Diverged)
    assert "reply 0 in the journal has 21 of its 16 rows" in outcome.error


def test_a_journal_whose_shard_is_another_s_writes_nothing_and_ends_the_drive(db: Database) -> None:
    spec = make_spec("beam", n=4, keep=2)
    plan = begin_run(db, spec, make_problems(2), {})
    lease = claim(db, spec.id, 0, "old")
    assert isinstance(lease, Lease)
    with make_journal(db, plan, lease=lease) as journal:
        drive = Driver(FakeGenerator(), FakeVerifier(), journal, concurrency=1).drive(make_search(p, spec) for p in plan)
        next(drive)
        claim(db, spec.id, 0, "new", stale=0)
        before = everything(db)
        with pytest.raises(LeaseLost, match=f"shard {spec.id}/0 was taken over by another process"):
            list(drive)
    assert everything(db) == before
    assert lease.lost
    assert [row["status"] for row in rows(db, schema.attempt)] == ["done", "pending"]


def test_the_lease_counts_what_was_written_under_it(db: Database) -> None:
    spec = make_spec("beam", n=4, keep=2)
    plan = begin_run(db, spec, make_problems(2), {})
    lease = claim(db, spec.id, 0, "me")
    drive_all(db, spec, plan, lease=lease)
    [row] = rows(db, schema.lease)
    assert row["progress"] == len(rows(db, schema.reply)) + 2


# --------------------------------------------------------------------------------------------------------------- ledger


@dataclass
class Uneven(FakeGenerator):
    """Costs that add up differently in any other order."""

    def answer(self, request: Extend) -> Extension:
        rng = np.random.default_rng(request.rows[0].seed)
        flops, waited, seconds = (10.0 ** rng.uniform(-3, 3, 3)).tolist()
        counts = rng.integers(0, 5, 5).tolist()
        return Extension(super().answer(request).steps, *counts, flops=flops, queue_seconds=waited, seconds=seconds)


class Dear(FakeVerifier):
    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [replace(reading, flops=reading.tokens / 7) for reading in super().score(traces)]


@pytest.mark.parametrize("strategy", [*STRATEGIES, "all kinds"])
def test_the_ledger_of_a_closed_attempt_is_the_sum_over_its_rows_to_the_last_bit(db: Database, strategy: str) -> None:
    spec = make_spec("beam" if strategy == "all kinds" else strategy)
    of = AllKinds() if strategy == "all kinds" else None
    outcomes = stored_run(db, spec, n=5, budget=Budget(tokens=90), generator=Uneven(), verifier=Dear(), strategy=of)
    _assert_sums(db, outcomes)


def _assert_sums(db: Database, outcomes: Sequence[Outcome]) -> None:
    closed = {row["id"]: row for row in rows(db, schema.attempt)}
    with db.read() as connection:
        found = {attempt: (usage.asdict(), count) for attempt, usage, count in summed(connection, true())}
    assert set(found) == set(closed)
    for outcome in outcomes:
        usage, count = found[outcome.search.key]
        row = closed[outcome.search.key]
        assert {k: v for k, v in usage.items() if k not in UNSUMMED} == {k: row[k] for k in usage if k not in UNSUMMED}
        assert count == row["replies"]
        assert row["store_seconds"] > 0
    assert any(row["flops"] % 1 for row in closed.values()), "all are whole, so this shows nothing about the last bit"


def test_the_ledger_of_a_search_that_went_on_is_the_same_sum(db: Database) -> None:
    spec = make_spec("beam", n=4, keep=2)
    stopped_after(db, spec, 4)
    _assert_sums(db, drive_all(db, spec, planned(db, spec.id), generator=Uneven(), verifier=Dear()))


def test_the_ledger_of_an_open_attempt_is_what_it_has_cost_so_far(db: Database) -> None:
    spec = make_spec("beam", n=4, keep=2)
    stopped_after(db, spec, 4)
    begin_run(db, make_spec(seed=9), make_problems(1), {})
    with db.read() as connection:
        found = {attempt: (usage, count) for attempt, usage, count in summed(connection, true())}
    stored = rows(db, schema.candidate)
    for attempt in (1, 2):
        usage, count = found[attempt]
        assert usage.generated_tokens == sum(row["tokens"] for row in stored if row["attempt_id"] == attempt) > 0
        assert count == sum(row["attempt_id"] == attempt for row in rows(db, schema.reply))
    assert (found[3][0].generated_tokens, found[3][0].flops, found[3][1]) == (0, 0.0, 0)
    assert tokens_match(db, spec.id) == []
