"""Opening databases, versions, locks, and what importing the store costs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import store.database
from store import schema
from store.database import Database, StoreError, open_database

ROOT = Path(__file__).parent.parent


def test_the_migrations_and_the_schema_are_equal(tmp_path: Path) -> None:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    with open_database(tmp_path / "a.db") as db, db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
        for table in schema.metadata.tables.values():  # compare_metadata does not look at primary keys
            assert inspect(connection).get_pk_constraint(table.name) == {
                "constrained_columns": [c.name for c in table.primary_key.columns],
                "name": f"pk_{table.name}",
            }
        assert connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == schema.HEAD


def test_the_comparison_of_schema_and_migrations_sees_a_difference(tmp_path: Path) -> None:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    with open_database(tmp_path / "a.db") as db, db.write() as connection:
        connection.execute(text("ALTER TABLE lease ADD COLUMN extra TEXT"))
        assert len(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata)) == 1


def test_every_version_has_a_migration_and_the_last_is_head() -> None:
    files = sorted(p.stem for p in (ROOT / "store/migrations/versions").glob("v*.py"))
    assert files == [f"v{version}" for version in schema.VERSIONS]


def test_the_tables_can_be_written_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    written = [str(CreateTable(t).compile(dialect=dialect)) for t in schema.metadata.sorted_tables]
    assert any("BYTEA" in statement for statement in written)
    assert any("DOUBLE PRECISION" in statement for statement in written)


def test_a_new_file_is_for_its_owner_only_and_safe_by_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_database(path) as db, db.read() as connection:
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 60000}
        assert {name: connection.scalar(text(f"PRAGMA {name}")) for name in wanted} == wanted
        assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
        assert len(list(tmp_path.iterdir())) == 3  # with the log and its index


def test_an_up_to_date_database_opens_without_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database(tmp_path / "a.db").close()
    monkeypatch.setattr(store.database, "_upgrade", lambda _: pytest.fail("migrated again"))
    open_database(f"sqlite:///{tmp_path / 'a.db'}", create=False).close()


def _first_version(path: Path) -> None:
    """A database as the first version left it: a closed attempt with its candidate, score and reply, and an open one."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        store.database._upgrade(connection, "0001")
        for statement in (
            "INSERT INTO run VALUES ('r', 'first', '{}', 'interrupted', 'then', NULL, '{}')",
            "INSERT INTO problem VALUES ('k0', 'p0', '1 + 1?', '2', 'set', '{}'), ('k1', 'p1', '1 + 2?', '3', 'set', '{}')",
            "INSERT INTO attempt (id, run_id, problem_key, position, seed, status, answer, generated_tokens, prompt_tokens)"
            " VALUES (1, 'r', 'k0', 0, 0, 'done', '2', 5, 9), (2, 'r', 'k1', 1, 0, 'pending', NULL, NULL, NULL)",
            "INSERT INTO candidate VALUES"
            " (1, '0', '', 1, 0, 1, x'01000000', x'', 't', 0, 0, 'end', 'finished', 'end', '2', '', -0.5, 1.5)",
            "INSERT INTO score VALUES (1, '0', 'prm', 0.5, '[0.5]', '', 'min')",
            "INSERT INTO reply VALUES (1, 0, 'extend', '0', '[\"0\"]', '{\"prompt_tokens\":9}')",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()


def _rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    with sqlite3.connect(path) as raw:
        raw.row_factory = sqlite3.Row
        found = {name: list(map(dict, raw.execute(f"SELECT * FROM {name}"))) for name in schema.metadata.tables}
    raw.close()
    return found


ADDED = {"recomputed_tokens", "drafted_tokens", "accepted_tokens"}


def test_a_database_of_the_first_version_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    _first_version(path)
    before = _rows(path)
    with open_database(path) as db, db.read() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == schema.HEAD
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    after = _rows(path)
    new = [{name: row.pop(name) for name in ADDED} for row in after["attempt"]]
    assert after == before
    assert new == [dict.fromkeys(ADDED, 0), dict.fromkeys(ADDED)], "an open attempt has no ledger yet"


@pytest.mark.parametrize("make", [Path.touch, _first_version], ids=["nothing", "the first version"])
def test_a_migration_that_is_interrupted_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.db"
    make(path)
    before = _dumped(path)
    upgrade = store.database._upgrade

    def half(connection: Connection) -> None:
        upgrade(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.database, "_upgrade", half)
    with pytest.raises(KeyboardInterrupt):
        open_database(path)
    assert _dumped(path) == before
    monkeypatch.undo()
    open_database(path).close()
    assert _rows(path).keys() == schema.metadata.tables.keys()


def _dumped(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        found = list(raw.iterdump())
    raw.close()
    return found


def test_a_write_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    """With a deferred BEGIN, read-then-write fails at once when another has written in between."""
    with open_database(tmp_path / "a.db") as db, db.write() as connection:
        connection.execute(text("SELECT count(*) FROM run"))
        other = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM run").fetchone() == (0,)  # a reader does not wait
        other.close()


def test_a_reader_keeps_its_view_and_does_not_stop_a_writer(tmp_path: Path) -> None:
    lease = text("INSERT INTO lease VALUES ('s', 'me', 1, 'now')")
    with open_database(tmp_path / "a.db") as db, db.read() as reading:
        assert reading.scalar(text("SELECT count(*) FROM lease")) == 0
        with db.write() as writing:
            writing.execute(lease)
        assert reading.scalar(text("SELECT count(*) FROM lease")) == 0


def _write_a_lease_and_stop(db: Database) -> None:
    with db.write() as connection:
        connection.execute(text("INSERT INTO lease VALUES ('s', 'me', 1, 'now')"))
        raise KeyboardInterrupt


def test_a_write_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        with pytest.raises(KeyboardInterrupt):
            _write_a_lease_and_stop(db)
        with db.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM lease")) == 0


def _stranger(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE recipes (id INTEGER)")
    raw.close()


def _newer(path: Path) -> None:
    open_database(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'")
    raw.close()


def _damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)


BAD_FILES = {
    "text": (lambda path: path.write_text("id,answer\n" * 100), "is not a SQLite database"),
    "short text": (lambda path: path.write_text("hi"), "is not a SQLite database"),
    "a directory": (lambda path: path.mkdir(), "is a directory"),
    "another application": (_stranger, "of another application (it has a table 'recipes')"),
    "a newer version": (_newer, "has schema version '0999', this program knows up to '0002'"),
    "damaged": (_damaged, "cannot open the database"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_database_is_refused_in_one_line_and_left_as_it_was(tmp_path: Path, case: str) -> None:
    make, said = BAD_FILES[case]
    path = tmp_path / "bad.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError) as raised:
        open_database(path)
    message = str(raised.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message
    assert raised.value.exit_code == 65
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("{tmp}/no/such/a.db", "directory '{tmp}/no/such' does not exist; create it first"),
        ("{tmp}/a.db/b.db", "directory '{tmp}/a.db' does not exist"),
        ("{tmp}/" + "x" * 300, "File name too long"),
        ("", "would be lost"),
        (":memory:", "would be lost"),
        ("sqlite://", "would be lost"),
        ("mysql://me:secret@host/db", "database kind 'mysql' is not supported (sqlite, postgresql)"),
        ("postgresql+nodriver://me:secret@host/db", "driver of 'postgresql+nodriver' is not installed"),
        ("postgresql://me:secret@host:port/db", "cannot be read"),
    ],
)
def test_a_place_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, where: str, said: str) -> None:
    with pytest.raises(StoreError) as raised:
        open_database(where.format(tmp=tmp_path))
    assert said.format(tmp=tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda _: None, Path.touch], ids=["missing", "empty"])
def test_a_database_is_not_created_where_one_is_to_be_read(tmp_path: Path, make: object) -> None:
    make(tmp_path / "a.db")  # type: ignore[operator]
    with pytest.raises(StoreError):
        open_database(tmp_path / "a.db", create=False)
    assert all(p.stat().st_size == 0 for p in tmp_path.iterdir())


def test_importing_the_store_and_opening_a_database_stays_light(tmp_path: Path) -> None:
    open_database(tmp_path / "a.db").close()
    modules = sorted(p.stem for p in (ROOT / "store").glob("*.py"))
    script = (
        f"import sys, {', '.join(f'store.{m}' for m in modules if m != '__init__')}\n"
        f"store.database.open_database({str(tmp_path / 'a.db')!r})\n"
        "heavy = {'torch', 'transformers', 'prefect', 'alembic', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


WRITER = """
import sys
sys.path.insert(0, "tests")
from test_store_fakes import drive_all, make_problems, make_spec
from store.database import open_database
from store.runs import begin_run, end_run, grade
with open_database(sys.argv[1]) as db:
    for seed in range(3):
        spec = make_spec(seed=10 * int(sys.argv[2]) + seed, n=16)
        plan = begin_run(db, spec, make_problems(12), {})
        drive_all(db, spec, plan)
        grade(db, [(p.attempt_id, "wrong", False, "fake") for p in plan])
        end_run(db, spec.id, "done")
"""


def test_eight_processes_create_and_write_one_database_without_lock_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path / "a.db")]
    writers = [
        subprocess.Popen([*command, str(i)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(8)
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert errors == [""] * 8
    with open_database(tmp_path / "a.db") as db, db.read() as connection:
        counts = [connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in ("run", "attempt", "candidate")]
        assert counts == [24, 24 * 12, 24 * 12 * 16]
        assert connection.scalar(text("SELECT count(*) FROM problem")) == 12
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
