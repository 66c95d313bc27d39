"""Queries: the same numbers from the stored rows as from the live search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asked import Step as Written
from asked import Tried, write
from asked import spec as hand
from sqlalchemy import text, update
from sums import tokens_match
from test_store_fakes import FakeVerifier, drive_all, make_problems, make_spec, new_database, stored_run

from search import select
from search.select import SELECTORS, Entry, Selector
from search.types import Budget, Finish, Join, State, order
from store import queries, schema
from store.database import Database, StoreError
from store.runs import begin_run, grade, join_run
from store.solutions import pools_of
from store.stats import wilson

STRATEGIES = ["best-of-n", "beam", "astar", "first-finish", "greedy"]
README = (Path(__file__).parent.parent / "store" / "README.md").read_text()


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ledger_equals_the_rows(db: Database, strategy: str) -> None:
    spec = make_spec(strategy)
    outcomes = stored_run(db, spec, n=4, budget=Budget(tokens=60))
    assert tokens_match(db, spec.id) == []
    assert sum(row.tokens for row in queries.candidates(db, spec.id, limit=None)) == sum(
        outcome.search.tree.usage.generated_tokens for outcome in outcomes
    )


def test_a_lost_candidate_is_found_by_the_ledger(db: Database) -> None:
    spec = make_spec("greedy")
    stored_run(db, spec)
    with db.write() as connection:
        lost = connection.scalar(text("SELECT tokens FROM candidate WHERE attempt_id = 2"))
        connection.execute(text("DELETE FROM candidate WHERE attempt_id = 2"))
    assert tokens_match(db, spec.id) == [(2, lost, 0)]


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("strategy", ["best-of-n", "first-finish"])
def test_any_selector_replayed_over_stored_rows_chooses_as_the_live_one(db: Database, strategy: str, selector: str) -> None:
    """To the last bit: paths, answers, votes, weights and words."""
    spec = make_spec(strategy, n=6, **({"select": selector} if strategy == "best-of-n" else {}))
    outcomes = stored_run(db, spec, n=5, verifier=FakeVerifier(float("nan")))
    pools = queries.entries(db, spec.id, confidences=True)
    assert len(pools) == 5
    for outcome in outcomes:
        tree = outcome.search.tree
        live = select.entries(tree, list(tree.candidates.values()))
        assert pools[outcome.search.key] == live
        for stored, lived in zip(pools[outcome.search.key], live, strict=True):
            assert stored.source == lived.source == "self-certainty"
            assert np.array_equal(stored.confidences, lived.confidences)
        rule = Selector(selector, join=Join.MEAN)
        assert rule(pools[outcome.search.key]) == rule(live)
        if strategy == "best-of-n":
            assert outcome.choice.path is not None
            assert Selector(selector)(pools[outcome.search.key]) == outcome.choice


@pytest.mark.parametrize("strategy", ["beam", "astar"])
def test_the_pool_of_a_tree_has_its_whole_solutions_with_the_numbers_of_the_live_tree(db: Database, strategy: str) -> None:
    spec = make_spec(strategy)
    outcomes = stored_run(db, spec, budget=Budget(tokens=120))
    pools = queries.entries(db, spec.id)
    for outcome in outcomes:
        tree = outcome.search.tree
        whole = [c for c in tree.candidates.values() if c.step.finish is not Finish.STEP]
        live = sorted(select.entries(tree, whole), key=lambda entry: order(entry.path))
        assert pools[outcome.search.key] == live
    assert any(len(entry.parts) > 1 for pool in pools.values() for entry in pool)


def test_a_pool_is_of_closed_attempts_only(db: Database) -> None:
    spec = make_spec("greedy")
    stored_run(db, spec)
    with db.write() as connection:
        connection.execute(update(schema.attempt).where(schema.attempt.c.id == 2).values(status="running"))
    assert list(queries.entries(db, spec.id)) == [1, 3]


def test_a_pool_needs_the_verifier_named_where_there_are_several(db: Database) -> None:
    spec = make_spec(n=4, select="best")
    stored_run(db, spec, n=1)
    alone = queries.entries(db, spec.id)
    with db.write() as connection:
        copy = "INSERT INTO score SELECT attempt_id, path, 'second', 0.125, '[0.125]', '', 'min', reply, number FROM score"
        connection.execute(text(copy))
    with pytest.raises(StoreError, match=r"scored by 2 verifiers; name one \(fake, second\)"):
        queries.entries(db, spec.id)
    with pytest.raises(StoreError, match=r"unknown verifier 'third' \(fake, second\)"):
        queries.entries(db, spec.id, "third")
    assert queries.entries(db, spec.id, "fake") == alone
    assert {entry.value for entry in queries.entries(db, spec.id, "second")[1]} == {0.125}
    assert [len(row.scores) for row in queries.tree(db, 1)] == [2] * 4


def test_a_statistic_that_was_not_finite_never_makes_an_entry_win(db: Database) -> None:
    spec = make_spec(n=4)
    stored_run(db, spec, n=1)
    with db.write() as connection:
        connection.execute(text("UPDATE candidate SET logprob = NULL, certainty = NULL WHERE path = '2'"))
    entry: Entry = queries.entries(db, spec.id)[1][2]
    assert (entry.logprob, entry.certainty) == (float("-inf"), 0.0)
    for name in ("logprob", "self-certainty"):
        assert Selector(name)(queries.entries(db, spec.id)[1]).path != "2"


def test_a_solution_without_statistics_of_its_tokens_has_no_confidences_and_those_beside_it_keep_theirs(db: Database) -> None:
    """Candidates that were written elsewhere: `packed` is empty where there are no ids."""
    spec = make_spec(n=3)
    stored_run(db, spec, n=1)
    with db.write() as connection:
        bare = update(schema.candidate).where(schema.candidate.c.path == "1").values(packed=b"", extra=b"\x00")
        connection.execute(bare)
    pool = queries.entries(db, spec.id, confidences=True)[1]
    assert [entry.confidences is None for entry in pool] == [False, True, False]
    assert Selector("deepconf", keep=1.0)(pool).path in ("0", "2")


def test_a_tree_is_in_numeric_order_with_its_scores(db: Database) -> None:
    spec = make_spec(n=12, select="best")
    [outcome] = stored_run(db, spec, n=1, verifier=FakeVerifier(2.0))
    found = queries.tree(db, 1)
    assert [row.path for row in found] == [str(i) for i in range(12)]
    assert {row.path: row.scores for row in found} == {p: (s,) for p, s in outcome.search.tree.scores.items()}
    assert queries.tree(db, 999) == []


def test_candidates_can_be_asked_by_problem_state_and_number(db: Database) -> None:
    spec = make_spec("beam")
    outcomes = stored_run(db, spec)
    every = queries.candidates(db, spec.id, limit=None)
    assert [(row.attempt_id, row.number) for row in every] == sorted((r.attempt_id, r.number) for r in every)
    assert queries.candidates(db, spec.id, limit=5) == every[:5]
    assert queries.candidates(db, spec.id, problem="p1") == [row for row in every if row.problem == "p1"][:100]
    pruned = queries.candidates(db, spec.id, state=State.PRUNED, limit=None)
    assert pruned == [row for row in every if row.state == "pruned"]
    assert {row.cause for row in pruned} == {"below the beam"}
    assert sum(len(row.scores) for row in every) == sum(len(o.search.tree.scores) for o in outcomes)
    assert queries.candidates(db, spec.id, problem="nothing") == []
    with pytest.raises(StoreError, match="limit must be at least 1, not -1"):
        queries.candidates(db, spec.id, limit=-1)
    with pytest.raises(StoreError, match="unknown state 'dead'"):
        queries.candidates(db, spec.id, state="dead")


def test_what_goes_on_after_a_pause_or_after_its_end_is_no_solution_to_select_from(db: Database) -> None:
    went_on = [Written("0", finish="pause"), Written("0.0", answer="b"), Written("0.0.0", answer="right")]
    tried = Tried([*went_on, Written("1", answer="right")], "1")
    run = write(db, hand(n=4), {"p0": tried, "p1": Tried([], None, status="failed")})
    assert pools_of(db, run).sizes == tuple(len(pool) for pool in queries.entries(db, run.id).values()) == (2, 0)


def test_a_summary_counts_failed_problems_as_wrong_and_waits_for_those_that_are_pending(db: Database) -> None:
    spec = make_spec("greedy")
    outcomes = stored_run(db, spec, n=8)
    with db.write() as connection:
        connection.execute(text("UPDATE attempt SET status = 'failed' WHERE id = 7"))
        connection.execute(text("UPDATE attempt SET status = 'pending', generated_tokens = NULL WHERE id = 8"))
    grade(db, [(i, "correct", True, "g") for i in (1, 2, 3)] + [(4, "none", False, "g"), (5, "wrong", False, "g")])
    found = queries.summary(db, spec.id)
    assert (found.problems, found.done, found.failed, found.pending) == (8, 6, 1, 1)
    assert (found.graded, found.correct, found.accuracy) == (5, 3, 3 / 7)
    assert (found.low, found.high) == wilson(3, 7)
    usages = [o.search.tree.usage for o in outcomes if o.search.key != 8]
    assert found.generated_tokens == pytest.approx(sum(u.generated_tokens for u in usages) / 7)
    assert (found.prompt_tokens, found.cached_tokens, found.recomputed_tokens, found.candidates) == (7, 2, 1, 1)
    assert (found.drafted_tokens, found.accepted_tokens) == (6, 4)
    assert found.generate_seconds == 8 * 0.5
    assert found.search_seconds == pytest.approx(sum(o.seconds for o in outcomes))


def test_a_summary_of_a_run_that_has_not_begun_to_work_has_no_means(db: Database) -> None:
    stored_run(db, make_spec(), n=1)
    ungraded = queries.summary(db, make_spec().id)
    assert (ungraded.done, ungraded.graded, ungraded.accuracy, ungraded.low, ungraded.high) == (1, 0, None, 0.0, 1.0)
    later = make_spec(seed=9)
    begin_run(db, later, make_problems(2), {})
    found = queries.summary(db, later.id)
    assert (found.pending, found.accuracy, found.generated_tokens, found.generate_seconds) == (2, None, None, 0.0)
    assert queries.entries(db, later.id) == {}
    with pytest.raises(StoreError, match="there is no run 'nothing'"):
        queries.summary(db, "nothing")


def test_attempts_come_in_the_problems_order_with_their_results(db: Database) -> None:
    spec = make_spec()
    outcomes = stored_run(db, spec)
    drive_all(db, make_spec(seed=4), begin_run(db, make_spec(seed=4), make_problems(), {}))
    found = queries.attempts(db, spec.id)
    assert [(row.problem, row.position, row.seed, row.status) for row in found] == [(f"p{i}", i, 0, "done") for i in range(3)]
    answers = {o.search.key: o.choice.answer for o in outcomes if o.choice}
    assert {row.id: row.answer for row in found} == answers
    assert [row.generated_tokens for row in found] == [
        o.search.tree.usage.generated_tokens for o in sorted(outcomes, key=lambda o: o.search.key)
    ]


@pytest.mark.parametrize("table", schema.metadata.tables)
def test_the_readme_has_every_column_of_every_table(table: str) -> None:
    section = README.split(f"### `{table}`\n")[1].split("\n### ")[0].split("\n## ")[0]
    rows = [
        name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert rows == [column.name for column in schema.metadata.tables[table].columns]


@pytest.mark.parametrize("statement", re.findall(r"```sql\n(.*?)```", README, re.DOTALL))
def test_the_readmes_queries_run_and_find_rows(db: Database, statement: str) -> None:
    spec = make_spec("beam")
    stored_run(db, spec)
    grade(db, [(i, "wrong", False, "g") for i in (1, 2, 3)])
    join_run(db, spec.id, "me", {})
    with db.read() as connection:
        assert connection.exec_driver_sql(statement).all()
