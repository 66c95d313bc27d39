"""Migrations: databases of every earlier version, on both kinds, come to be of this one or stay as they were."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, select, text
from sums import tokens_match
from test_store_fakes import drive_all, make_problems, make_spec, make_step, rows, stored_run, unpacked

import store.database
import store.values
from search.packing import rounded
from search.select import Selector
from search.types import Finish, Step
from store import queries, schema
from store.audit import audit
from store.costs import summed
from store.database import Database, StoreError, open_database
from store.runs import begin_run, find_run, planned, problem_key, restart, unreplayable
from store.values import exact_text
from store.views import VIEWS

pytestmark = pytest.mark.usefixtures("migrations")
ROOT = Path(__file__).parent.parent
OLD = ("0001", "0002")  # what 0003 stored otherwise; what later versions add has tests of its own
SPEC = make_spec(n=2)
LONG = "therefore the answer is 2. " * 40
RECOMPUTED = {"0002": {"recomputed_tokens": 1, "drafted_tokens": 6, "accepted_tokens": 4}}


def connected(where: str) -> Engine:
    return store.database._engine(store.database._url(where))


@pytest.fixture(params=OLD)
def old(request: pytest.FixtureRequest, where: str) -> str:
    """A database as that version left it: a run that was interrupted."""
    engine = connected(where)
    if engine.dialect.name == "sqlite":
        Path(where).touch()
        store.database._use_wal(engine)
    with engine.begin() as connection:
        store.database._upgrade(connection, request.param)
        for table, found in left_by(request.param).items():
            for row in found:
                names = ", ".join(row)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(row)})"), row)
        if engine.dialect.name == "postgresql":  # which does not see that ids were given
            connection.execute(text("SELECT setval('attempt_id_seq', 9)"))
    engine.dispose()
    return where


def step(path: str, finish: Finish = Finish.END) -> Step:
    """What attempt 1's candidates were made of."""
    said = {"0": "think", "1": LONG, "1.0": "the answer is 2"}[path]
    made = make_step(said, seed=len(said), length=len(path) + 3, finish=finish)
    made.logprobs[0] = -np.inf
    return made


def left_by(version: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a version: attempts that are done, failed, interrupted after two replies, and not begun; in two shards."""
    problems = make_problems(4)
    ledger = {
        "generated_tokens": 14,
        "cancelled_tokens": 0,
        "sequential_tokens": 10,
        "prompt_tokens": 24,
        "cached_tokens": 2,
        "candidates": 3,
        "verifier_passes": 2,
        "verifier_tokens": 7,
        "flops": 3.5,
        "queue_seconds": 0.5,
        "generate_seconds": 1.0,
        "verify_seconds": 0.25,
        "store_seconds": 0.125,
        **RECOMPUTED.get(version, {}),
    }
    failed = {**dict.fromkeys(ledger, 0), "generated_tokens": 4}
    statuses = [("done", ledger), ("failed", failed), ("running", {}), ("pending", {})]
    attempts = [
        {
            "id": i + 1,
            "run_id": SPEC.id,
            "problem_key": problem_key(p),
            "position": 40 * i,
            "seed": 0,
            "status": status,
            **costs,
        }
        for i, (p, (status, costs)) in enumerate(zip(problems, statuses, strict=True))
    ]
    attempts[0] |= {
        "path": "1.0",
        "answer": "2",
        "reason": "most",
        "votes": '[["2",1,1.0]]',
        "verdict": "correct",
        "correct": True,
    }
    attempts[1] |= {"error": "RuntimeError: bad luck", "verdict": "none", "correct": False}
    of_one = [("0", "pruned", "step"), ("1", "live", "step"), ("1.0", "finished", "end")]
    candidates = [candidate(1, i, path, state, step(path, Finish(finish))) for i, (path, state, finish) in enumerate(of_one)]
    candidates += [candidate(a, 0, "0", "live", make_step("x", length=4, finish=Finish.STEP)) for a in (2, 3)]
    candidates[3] |= {"text": "a\ufffd", "text_lossy": True}
    scores = [("1.0", 0.75, "[0.75]"), ("0", None, "[]"), ("1", 0.5, "[0.5]")]
    extended = {"prompt_tokens": 12, "cached_tokens": 1, "flops": 0.75, "queue_seconds": 0.0, "seconds": 0.5}
    judged = {"passes": [1, 1], "tokens": [3, 4], "flops": [2.0, None], "queue_seconds": 0.5, "seconds": None}
    replies = [
        (1, 0, "extend", ["0", "1"], extended),
        (1, 1, "extend", ["1.0"], extended),
        (1, 2, "verify", ["1.0", "1"], judged),
        (2, 0, "extend", ["0"], extended),
        (3, 0, "extend", ["0"], extended),
    ]
    return {
        "run": [
            {"id": SPEC.id, "name": "old", "spec": SPEC.json(), "status": "interrupted", "created": "then", "environment": "{}"}
        ],
        "problem": [
            {"key": problem_key(p), "id": p.id, "prompt": p.prompt, "answer": p.answer, "source": p.source, "meta": "{}"}
            for p in problems
        ],
        "attempt": attempts,
        "candidate": candidates,
        "score": [
            {
                "attempt_id": 1,
                "path": path,
                "verifier": "fake",
                "value": value,
                "parts": parts,
                "reason": "",
                "join_rule": "min",
            }
            for path, value, parts in scores
        ],
        "reply": [
            {"attempt_id": a, "number": n, "kind": kind, "path": paths[0], "paths": json.dumps(paths), "cost": json.dumps(cost)}
            for a, n, kind, paths, cost in replies
        ],
        "lease": [{"shard": "nobody", "owner": "x", "epoch": 1, "heartbeat": "then"}],
    }


def candidate(attempt: int, number: int, path: str, state: str, of: Step) -> dict[str, Any]:
    stats = [of.logprobs, of.certainties, of.entropies, *([of.entropies] if number else [])]  # later runs had confidences
    return {
        "attempt_id": attempt,
        "path": path,
        "parent": path.rpartition(".")[0],
        "depth": path.count(".") + 1,
        "number": number,
        "tokens": len(of),
        "token_ids": of.tokens.astype("<i4").tobytes(),
        "stats": np.concatenate(stats).astype("<f4").tobytes(),
        "text": of.text,
        "text_lossy": False,
        "text_truncated": False,
        "finish": of.finish.value,
        "state": state,
        "cause": "",
        "answer": "2" if of.finish is Finish.END else None,
        "answer_reason": "",
        "logprob": None,
        "certainty": of.certainty,
    }


def held(where: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every table with its columns and its rows, whatever the version."""
    engine = connected(where)
    with engine.begin() as connection:
        out = {}
        for table in sorted(inspect(connection).get_table_names()):
            columns = tuple(c["name"] for c in inspect(connection).get_columns(table))
            out[table] = [columns, *sorted(map(tuple, connection.execute(text(f"SELECT * FROM {table}"))), key=repr)]
    engine.dispose()
    return out


@pytest.fixture
def db(old: str) -> Iterator[Database]:
    with open_database(old) as opened:
        yield opened


def described(connection: Connection) -> dict[str, Any]:
    """Keys, constraints and indexes by name, which `compare_metadata` does not all look at."""
    asked = inspect(connection)
    return {
        table: (
            asked.get_pk_constraint(table),
            sorted(asked.get_foreign_keys(table), key=str),
            sorted(asked.get_unique_constraints(table), key=str),
            sorted(asked.get_indexes(table), key=str),
        )
        for table in schema.metadata.tables
    }


OPTIONS = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}


def test_a_database_of_an_earlier_version_gets_the_tables_of_this_one(db: Database, tmp_path: Path) -> None:
    with db.read() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == schema.HEAD
        assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), schema.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*schema.metadata.tables, schema.VERSION_TABLE}
        if db.is_sqlite:
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            with open_database(tmp_path / "new.db") as new, new.read() as fresh:
                assert described(connection) == described(fresh)


def test_what_was_stored_is_kept_and_rounded(db: Database) -> None:
    found = {row["path"]: row for row in rows(db, schema.candidate) if row["attempt_id"] == 1}
    assert list(found) == ["0", "1", "1.0"]
    for path, row in found.items():
        [seen] = rounded([step(path)])
        back = unpacked(row)
        for name in ("tokens", "logprobs", "certainties", "entropies"):
            assert np.array_equal(getattr(back, name), getattr(seen, name)), (path, name)
        assert (back.drawn, back.confidences is None) == (None, path == "0")
        assert exact_text(row["text"], row["text_zlib"]) == step(path).text
        assert row["certainty"] == step(path).certainty, "a number in a column is as it was"
    assert (found["1"]["text"] is None) == db.is_sqlite, "the long one is compressed"
    assert [row["reply"] for row in found.values()] == [0, 0, 1]
    [other] = [row for row in rows(db, schema.candidate) if row["attempt_id"] == 2]
    assert (other["text"], other["text_lossy"], other["text_truncated"], other["text_zlib"]) == ("a\ufffd", True, False, None)


def test_scores_and_replies_get_their_places_in_the_journal(db: Database) -> None:
    scores = {row["path"]: (row["reply"], row["number"], row["value"]) for row in rows(db, schema.score)}
    assert scores == {"1.0": (2, 0, 0.75), "1": (2, 1, 0.5), "0": (None, 2, None)}
    replies = [row for row in rows(db, schema.reply) if row["attempt_id"] == 1]
    assert [(row["number"], row["kind"], row["asked"], row["count"]) for row in replies] == [
        (0, "extend", None, 2),
        (1, "extend", None, 1),
        (2, "verify", None, 2),
    ]
    assert [json.loads(row["cost"]) for row in replies] == [
        {"prompt_tokens": 12, "cached_tokens": 1, "flops": 0.75, "seconds": 0.5},
        {"prompt_tokens": 12, "cached_tokens": 1, "flops": 0.75, "seconds": 0.5},
        {"passes": 2, "tokens": 7, "flops": 2.0, "queue_seconds": 0.5},
    ]


def test_attempts_get_what_the_ledger_now_has_and_an_open_one_is_nobody_s(db: Database) -> None:
    found = rows(db, schema.attempt)
    assert [(row["status"], row["shard"], row["tries"], row["wasted_tokens"]) for row in found] == [
        ("done", 0, 0, 0),
        ("failed", 0, 0, 0),
        ("pending", 1, 0, 0),
        ("pending", 1, 0, 0),
    ]
    assert [row["replies"] for row in found] == [3, 1, None, None]
    assert [row["pruned_tokens"] for row in found] == [len(step("0")), 0, None, None]
    assert [(row["embedding_tokens"], row["embed_seconds"]) for row in found] == [(0, 0.0)] * 2 + [(None, None)] * 2
    assert [row["recomputed_tokens"] for row in found][1:] == [0, None, None]
    assert (found[0]["answer"], found[1]["error"], found[0]["correct"]) == ("2", "RuntimeError: bad luck", True)
    with db.read() as connection:
        done = next(summed(connection, schema.attempt.c.id == 1))
        assert connection.execute(select(schema.lease)).all() == []
    names = (
        "generated_tokens",
        "pruned_tokens",
        "sequential_tokens",
        "verifier_passes",
        "flops",
        "queue_seconds",
        "candidates",
    )
    assert {name: getattr(done[1], name) for name in names} == {name: found[0][name] for name in names}


def test_an_old_run_can_be_read_and_gone_on_with(db: Database) -> None:
    assert find_run(db, "latest").spec == SPEC
    before = queries.tree(db, 1)
    [pool] = [pool for attempt, pool in queries.entries(db, SPEC.id).items() if attempt == 1]
    assert Selector("best")(pool).path == "1.0"
    assert [p.status for p in begin_run(db, SPEC, make_problems(4), {})] == ["done", "failed", "pending", "pending"]
    assert unreplayable(db, SPEC.id) == [3]
    restart(db, unreplayable(db, SPEC.id))
    assert rows(db, schema.attempt)[2]["wasted_tokens"] == 4
    drive_all(db, SPEC, [p for p in planned(db, SPEC.id) if not p.closed])
    assert [p.status for p in planned(db, SPEC.id)] == ["done", "failed", "done", "done"]
    assert tokens_match(db, SPEC.id) == []
    assert queries.tree(db, 1) == before


def half_way(calls: int) -> Callable[..., Any]:
    """stored_text, which the migration calls for each candidate, and which stops it in the middle."""
    stored, left = store.values.stored_text, calls

    def stopping(*of: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return stored(*of)

    return stopping


@pytest.mark.parametrize("calls", [0, pytest.param(2, marks=pytest.mark.slow), 4])
def test_a_migration_that_is_interrupted_leaves_the_database_as_it_was(
    old: str, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    before = held(old)
    monkeypatch.setattr(store.values, "stored_text", half_way(calls))
    with pytest.raises(KeyboardInterrupt):
        open_database(old)
    assert held(old) == before
    monkeypatch.undo()
    with open_database(old) as db:
        assert len(rows(db, schema.candidate)) == 5


def test_a_new_database_that_is_interrupted_is_left_empty(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = store.database._upgrade

    def half(connection: Connection) -> None:
        upgrade(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.database, "_upgrade", half)
    with pytest.raises(KeyboardInterrupt):
        open_database(where)
    assert held(where) == {}
    monkeypatch.undo()
    open_database(where).close()
    assert held(where).keys() == {*schema.metadata.tables, schema.VERSION_TABLE}


def test_who_opens_it_at_the_same_time_waits_and_finds_it_migrated(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, upgrades = threading.Barrier(4), []
    upgrade = store.database._upgrade

    def counted(connection: Connection) -> None:
        upgrades.append(1)
        upgrade(connection)

    def opening(_: int) -> int:
        barrier.wait()
        with open_database(old) as db:
            return len(rows(db, schema.candidate))

    monkeypatch.setattr(store.database, "_upgrade", counted)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opening, range(4))) == [5] * 4
    assert len(upgrades) == 1


def _before_0007(connection: Connection) -> None:
    for view in reversed(VIEWS):
        connection.execute(text(f"DROP VIEW {view}"))
    connection.execute(text("DROP TABLE solution"))
    for column in ("solutions", "right_solutions"):
        connection.execute(text(f"ALTER TABLE attempt DROP COLUMN {column}"))


def _before_0005(connection: Connection) -> None:
    _before_0007(connection)
    for column in ("shared_tokens", "shared_seconds"):
        connection.execute(text(f"ALTER TABLE attempt DROP COLUMN {column}"))
    _without_schedules(connection)
    for table in ("verdict", "rescore"):
        connection.execute(text(f"DROP TABLE {table}"))


@pytest.fixture
def of_0004(where: str) -> str:
    """A database with two searches, as 0004 would have left it."""
    with open_database(where) as db:
        stored_run(db, SPEC, 2)
        with db.write() as connection:
            _before_0005(connection)
            connection.execute(text("UPDATE attempt SET status = 'pending' WHERE id = 2"))
            connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0004'"))
    return where


def test_0005_says_of_what_was_done_before_that_nothing_was_shared(of_0004: str) -> None:
    with open_database(of_0004) as db:
        with db.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), schema.metadata) == []
        assert [(row["shared_tokens"], row["shared_seconds"]) for row in rows(db, schema.attempt)] == [(0, 0.0), (None, None)]
        assert audit(db).clean


@pytest.fixture
def of_0003(where: str) -> str:
    """A database with two searches, as 0003 would have left it."""
    with open_database(where) as db:
        stored_run(db, SPEC, 2)
        with db.write() as connection:
            _before_0005(connection)
            connection.execute(text("ALTER TABLE candidate DROP COLUMN prompt"))
            connection.execute(text("ALTER TABLE attempt DROP COLUMN small_tokens"))
            connection.execute(text("UPDATE attempt SET status = 'pending' WHERE id = 2"))
            connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0003'"))
    return where


def test_0004_adds_what_is_known_and_leaves_the_rest_as_it_was(of_0003: str) -> None:
    before = held(of_0003)
    with open_database(of_0003) as db:
        with db.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), schema.metadata) == []
        assert [row["small_tokens"] for row in rows(db, schema.attempt)] == [0, None], "an open attempt's ledger is not known"
        assert {row["prompt"] for row in rows(db, schema.candidate)} == {None}
        assert len(queries.entries(db, SPEC.id)) == 1
    after = held(of_0003)
    for table in ("candidate", "score", "reply", "problem", "run"):
        names, *old_rows = before[table]
        columns, *new_rows = after[table]
        kept = [columns.index(name) for name in names]
        assert sorted((tuple(row[i] for i in kept) for row in new_rows), key=repr) == old_rows, table


def _without_schedules(connection: Connection) -> None:
    """As before version 0006."""
    for table in ("slot", "schedule"):
        connection.execute(text(f"DROP TABLE {table}"))


def test_0006_adds_tables_and_changes_none_that_were_there(where: str) -> None:
    with open_database(where) as db:
        stored_run(db, SPEC, 2)
        with db.write() as connection:
            _before_0007(connection)
            _without_schedules(connection)
            connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0005'"))
    before = held(where)
    with open_database(where) as db, db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), schema.metadata) == []
    after = held(where)
    assert set(after) - set(before) == {"schedule", "slot", "solution"}
    assert _but_for_0007(after, before) == {name: before[name] for name in before if name != schema.VERSION_TABLE}


def _but_for_0007(after: dict[str, list[tuple[Any, ...]]], like: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """The tables without the columns that 0007 adds, which know nothing yet."""
    columns, *found = after["attempt"]
    assert columns[-2:] == ("solutions", "right_solutions")
    assert {row[-2:] for row in found} == {(None, None)}
    kept = after | {"attempt": [columns[:-2], *(row[:-2] for row in found)]}
    return {name: kept[name] for name in like if name != schema.VERSION_TABLE}


def test_0007_adds_solutions_that_nobody_has_derived_yet_and_views(where: str) -> None:
    with open_database(where) as db:
        stored_run(db, SPEC, 2)
        with db.write() as connection:
            _before_0007(connection)
            connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0006'"))
    before = held(where)
    with open_database(where) as db, db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), schema.metadata) == []
        assert set(inspect(connection).get_view_names()) == set(VIEWS)
    after = held(where)
    assert _but_for_0007(after, before) == {name: before[name] for name in before if name != schema.VERSION_TABLE}


def test_a_newer_version_is_refused_by_name_and_left_as_it_was(where: str) -> None:
    with open_database(where) as db, db.write() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'"))
    before = held(where)
    with pytest.raises(
        StoreError, match=f"schema version '0999', this program knows up to '{schema.HEAD}'; update Pond"
    ) as raised:
        open_database(where)
    assert (raised.value.exit_code, "\n" in str(raised.value)) == (65, False)
    assert held(where) == before


def test_there_is_a_way_forward_from_every_version_and_none_back() -> None:
    """Going back would lose what the newer tables hold; the file is copied before, or the older program kept."""
    files = sorted((ROOT / "store/migrations/versions").glob("v*.py"))
    assert [file.stem for file in files] == [f"v{version}" for version in schema.VERSIONS]
    for file in files:
        assert "def upgrade()" in file.read_text()
        assert "downgrade" not in file.read_text()
