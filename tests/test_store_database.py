"""Opening databases, locks, what goes wrong and how it is told, and what importing the store costs."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import building
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import Postgres
from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.schema import CreateTable
from test_store_fakes import drive_all, everything, make_problems, make_spec

import store.database
from store import schema
from store.database import Database, StoreError, explained, open_database
from store.errors import Unavailable, WriteError
from store.runs import begin_run, end_run, grade, list_runs
from store.views import VIEWS

pytestmark = pytest.mark.usefixtures("migrations")
ROOT = Path(__file__).parent.parent
LEASE = "INSERT INTO lease VALUES ('s', 'me', 1, 0.5, 0)"


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with open_database(where) as opened:
        yield opened


def test_the_migrations_and_the_schema_are_equal(db: Database) -> None:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    with db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
        for table in schema.metadata.tables.values():  # compare_metadata does not look at primary keys
            found = inspect(connection).get_pk_constraint(table.name)
            assert found["constrained_columns"] == [c.name for c in table.primary_key.columns]
            assert found["name"] == f"pk_{table.name}"
        assert connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == schema.HEAD


def test_what_the_migrations_said_makes_the_same_database_again(tmp_path: Path, postgres: Postgres) -> None:
    for name in ("sqlite", "postgresql"):
        found = []
        for i in range(3):  # by the migrations, heard (unless an earlier test was), said again
            where = str(tmp_path / f"{i}.db") if name == "sqlite" else postgres.url(f"again{i}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store.database, "_upgrade", building.MIGRATIONS if i == 0 else building.upgrade)
                with open_database(where) as db, db.read() as connection:
                    found.append(described(connection))
        assert found[0] == found[1] == found[2]
        assert set(found[0]) > {*schema.metadata.tables, *VIEWS, schema.VERSION_TABLE}


def described(connection: Connection) -> dict[str, str]:
    """Tables, views, indexes and the version, each as the database tells it."""
    if connection.dialect.name == "sqlite":
        asked = "SELECT name, coalesce(sql, '') FROM sqlite_master"
    else:
        asked = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
            "UNION ALL SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' "
            "UNION ALL SELECT table_name, string_agg(concat_ws(' ', column_name, data_type, is_nullable, column_default), ', ' "
            "ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name"
        )
    version = connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}"))
    return dict(connection.execute(text(asked)).all()) | {"version": str(version)}


def test_the_comparison_of_schema_and_migrations_sees_a_difference(db: Database) -> None:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    with db.write() as connection:
        connection.execute(text("ALTER TABLE lease ADD COLUMN extra TEXT"))
        assert len(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata)) == 1


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
        assert {p.name for p in tmp_path.iterdir()} == {"a.db", "a.db-wal", "a.db-shm", "a.db-turn"}


def test_an_up_to_date_database_opens_without_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database(tmp_path / "a.db").close()
    monkeypatch.setattr(store.database, "_upgrade", lambda _: pytest.fail("migrated again"))
    open_database(f"sqlite:///{tmp_path / 'a.db'}", create=False).close()


def test_a_write_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    """With a deferred BEGIN, read-then-write fails at once when another has written in between."""
    with open_database(tmp_path / "a.db") as db, db.write() as connection:
        connection.execute(text("SELECT count(*) FROM run"))
        other = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM run").fetchone() == (0,)  # a reader does not wait
        other.close()


def test_a_reader_keeps_its_view_and_does_not_stop_a_writer(db: Database) -> None:
    with db.read() as reading:
        assert reading.scalar(text("SELECT count(*) FROM lease")) == 0
        with db.write() as writing:
            writing.execute(text(LEASE))
        assert reading.scalar(text("SELECT count(*) FROM lease")) == 0


def _write_a_lease_and_stop(db: Database) -> None:
    with db.write() as connection:
        connection.execute(text(LEASE))
        raise KeyboardInterrupt


def test_a_write_that_raises_leaves_nothing(db: Database) -> None:
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
    "a newer version": (_newer, "has schema version '0999', this program knows up to '0007'"),
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


def test_another_applications_tables_are_not_written_into(postgres: Postgres) -> None:
    """A server's database may hold other things, as long as none has a name of ours."""
    for table, ours in (("recipes", True), ("lease", False)):
        url = postgres.url()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE {table} (id INTEGER)"))
        if ours:
            open_database(url).close()
            with engine.begin() as connection:
                assert {table, "run"} <= set(inspect(connection).get_table_names())
        else:
            with pytest.raises(StoreError, match="is of another application \\(it has a table 'lease'\\); name another one"):
                open_database(url)
            with engine.begin() as connection:
                assert inspect(connection).get_table_names() == [table]
        engine.dispose()
        postgres.drop(url)


# --------------------------------------------------------------------------------------------------------- transactions

AWAY = OperationalError("INSERT", None, Exception("server closed the connection unexpectedly"))


def failing(times: int, error: BaseException = AWAY, after: bool = False) -> Callable[[Connection], int]:
    """Work that writes a row and fails at its first times: before it is committed, or with its answer lost after."""
    calls = 0

    def work(connection: Connection) -> int:
        nonlocal calls
        calls += 1
        store.database.insert_new(
            connection, schema.lease, [{"shard": "s", "owner": "", "epoch": 1, "heartbeat": 0.5, "progress": 0}]
        )
        if calls <= times:
            if after:
                connection.commit()
            raise error
        return calls

    return work


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"])
def test_work_is_done_again_where_the_server_was_away(db: Database, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert db.transact(failing(8, after=after)) == 9
    assert len(everything(db)["lease"]) == 1
    assert len(pauses) == 8
    assert 0 < pauses[0] < 0.1
    assert max(pauses) <= 3.0, "it is back, and nobody asks"


def test_work_that_only_reads_is_done_again_too_and_writes_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    left = [AWAY, AWAY]

    def work(connection: Connection) -> int:
        if left:
            raise left.pop()
        return int(connection.scalar(text("SELECT count(*) FROM lease")) or 0)

    assert db.consult(work) == 0


def test_it_gives_up_in_the_end_and_says_that_it_may_work_later(db: Database) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="start the server and run the same command again") as raised:
        db.transact(failing(1000), patience=0.2)
    assert 0.2 < time.monotonic() - began < 10
    assert (raised.value.exit_code, "\n" in str(raised.value)) == (75, False)
    assert everything(db)["lease"] == []


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault of ours"), StoreError("refused"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_database_is_raised_as_it_is_and_once(db: Database, error: BaseException) -> None:
    work = failing(1, error)
    with pytest.raises(type(error)):
        db.transact(work)
    assert everything(db)["lease"] == []
    assert db.transact(work) == 2


def test_a_fault_in_a_statement_is_not_tried_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(StoreError, match="recipes"):
        db.transact(lambda connection: connection.execute(text("INSERT INTO recipes VALUES (1)")))


@pytest.mark.crash
def test_a_transaction_outlives_a_crash_of_the_server(postgres: Postgres) -> None:
    url = postgres.url()
    with open_database(url) as db:
        db.transact(failing(0))
        postgres.stop("kill")
        back = threading.Timer(0.5, postgres.start)
        back.start()
        assert db.transact(lambda connection: connection.execute(text("UPDATE lease SET epoch = 2")).rowcount) == 1
        back.join()
        assert [row["epoch"] for row in everything(db)["lease"]] == [2]
    postgres.drop(url)


# --------------------------------------------------------------------------------------------------------------- errors


def told(error: BaseException, where: str, code: int) -> str:
    """The one line of an error, which names the database and the remedy."""
    assert isinstance(error, StoreError)
    said = str(error)
    assert "\n" not in said
    assert where in said
    assert error.exit_code == code, said
    return said


def every_connection(db: Database, pragma: str) -> None:
    event.listen(db.engine, "checkout", lambda connection, *_: connection.execute(f"PRAGMA {pragma}").close())


def test_a_full_disk_is_told_as_one_and_what_was_committed_is_there(tmp_path: Path) -> None:
    path, spec = tmp_path / "a.db", make_spec(n=30)
    with open_database(path) as db:
        plan = begin_run(db, spec, make_problems(40), {})
        drive_all(db, spec, plan[:2])
        before = everything(db)
        pages = db.consult(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())
        every_connection(db, f"max_page_count = {pages + 2}")
        with pytest.raises(WriteError) as raised:
            drive_all(db, spec, plan[2:])
        said = told(raised.value, str(path), 74)
        assert "disk is full; free some disk space and run the same command again" in said
    with open_database(path) as db:
        after = everything(db)
        for table in ("run", "problem"):
            assert after[table] == before[table]
        assert [row for row in after["candidate"] if row["attempt_id"] <= 2] == before["candidate"]
        assert [row for row in after["attempt"] if row["id"] <= 2] == before["attempt"][:2]
        drive_all(db, spec, [p for p in begin_run(db, spec, make_problems(40), {}) if not p.closed])
        assert {row["status"] for row in everything(db)["attempt"]} == {"done"}


def test_a_database_that_cannot_be_written_is_told_as_one(where: str) -> None:
    with open_database(where) as db:
        if db.is_sqlite:
            every_connection(db, "query_only = ON")
        else:
            with db.write() as connection:
                connection.execute(text(f'ALTER DATABASE "{db.engine.url.database}" SET default_transaction_read_only = on'))
            db.engine.dispose()
        with pytest.raises(WriteError) as raised:
            begin_run(db, make_spec(), make_problems(1), {})
        assert "it is read-only; check the rights" in told(raised.value, db.shown, 74)
        assert list_runs(db) == [], "it can be read all the same"


@pytest.mark.parametrize("who", ["a turn", "a lock"])
def test_a_writer_that_does_not_end_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    path = tmp_path / "a.db"
    open_database(path).close()
    monkeypatch.setattr(store.database, "BUSY_SECONDS", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    with (tmp_path / "a.db-turn").open() as turn, open_database(path) as db:
        if who == "a turn":
            fcntl.flock(turn, fcntl.LOCK_EX)
        else:  # a program that does not know of turns
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as raised:
            db.transact(lambda connection: connection.execute(text(LEASE)), patience=0.1)
        assert "run the same command again" in told(raised.value, str(path), 75)
        assert list_runs(db) == []
        fcntl.flock(turn, fcntl.LOCK_UN)
        other.close()
        db.transact(lambda connection: connection.execute(text(LEASE)))


def test_a_wrong_password_is_told_at_once_and_not_shown(postgres: Postgres) -> None:
    open_database(postgres.url_with_password()).close()
    began = time.monotonic()
    for wrong in ("wrong horse", None):
        url = postgres.url_with_password("wrong horse")
        with pytest.raises(StoreError) as raised:
            open_database(url if wrong else url.replace(":wrong%20horse@", "@").replace(":wrong+horse@", "@"))
        said = told(raised.value, "guarded", 65)
        assert "check the URL, the user and the password" in said
        assert "wrong" not in said
    assert time.monotonic() - began < 10


def test_a_server_that_is_not_there_is_told_as_one(tmp_path: Path, postgres: Postgres) -> None:
    with pytest.raises(Unavailable) as raised:
        open_database(f"postgresql://postgres@/test?host={tmp_path}")
    assert "start the server and run the same command again" in told(raised.value, str(tmp_path.name), 75)
    with pytest.raises(StoreError) as refused:
        open_database(postgres.url().replace("/test_", "/no_such_"))
    assert "does not exist; check the URL" in told(refused.value, "no_such", 65)


@pytest.mark.parametrize(
    ("said", "state", "kind"),
    [
        ("could not extend file: No space left on device", "53100", WriteError),
        ("could not read block", "58030", WriteError),
        ("cannot execute INSERT in a read-only transaction", "25006", WriteError),
        ("terminating connection due to administrator command", "57P01", Unavailable),
        ("sorry, too many clients already", "53300", Unavailable),
        ("deadlock detected", "40P01", Unavailable),
        ("could not serialize access", "40001", Unavailable),
        ("permission denied for table run", "42501", StoreError),
        ("null value in column violates not-null constraint", "23502", StoreError),
        ("", None, StoreError),
    ],
)
def test_a_servers_states_are_told_by_what_can_be_done(said: str, state: str | None, kind: type[StoreError]) -> None:
    original = Exception(f"{said}\nLINE 1: INSERT INTO run\n                    ^" if said else "")
    original.sqlstate = state  # type: ignore[attr-defined]
    error = explained(DBAPIError("INSERT", None, original), "postgresql://here/x")
    assert type(error) is kind
    assert said in told(error, "postgresql://here/x", kind.exit_code) or state == "25006"


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


@pytest.mark.crash
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


def _write(where: Path, number: int) -> float:
    """One of many writers: a run of its own; the longest that a transaction took, seconds."""
    longest = 0.0
    transact = Database.transact

    def timed(self: Database, *of: Any, **named: Any) -> Any:
        nonlocal longest
        began = time.monotonic()
        try:
            return transact(self, *of, **named)
        finally:
            longest = max(longest, time.monotonic() - began)

    Database.transact = timed  # type: ignore[method-assign]
    with open_database(where) as db:
        spec = make_spec(seed=number, n=4)
        plan = begin_run(db, spec, make_problems(3), {})
        drive_all(db, spec, plan)
        grade(db, [(p.attempt_id, "wrong", False, "fake") for p in plan])
        end_run(db, spec.id, "done")
    return longest


@pytest.mark.crash
def test_thirty_two_writers_of_one_file_all_get_their_turn(tmp_path: Path) -> None:
    """SQLite's own waiting is unfair: among so many, one waited for minutes, and then failed."""
    path, pipes, pids = tmp_path / "a.db", [], []
    for number in range(32):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, str(_write(path, number)).encode())
            except BaseException:
                os.write(writer, traceback.format_exc().encode()[-4000:])
            finally:
                os._exit(0)
        os.close(writer)
        pipes.append(reader)
        pids.append(pid)
    said = []
    for reader, pid in zip(pipes, pids, strict=True):
        with os.fdopen(reader) as pipe:
            said.append(pipe.read())
        os.waitpid(pid, 0)
    assert [each for each in said if not each.replace(".", "").replace("e-", "").isdigit()] == []
    assert max(map(float, said)) < 15, "one of them waited for the others"
    with open_database(path) as db, db.read() as connection:
        counts = [connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in ("run", "attempt", "candidate")]
        assert counts == [32, 32 * 3, 32 * 3 * 4]
        assert connection.scalar(text("SELECT count(*) FROM attempt WHERE status <> 'done'")) == 0
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"


def test_opening_a_file_again_does_not_give_up_the_locks_of_the_first(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops all POSIX locks that the process has on it. Without its lock, a database that is
    in use looks like nobody's: the next process that closes it clears the log away, and what is written after that is lost or
    damages the file."""
    path = tmp_path / "a.db"
    elsewhere = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 7'); c.close()"
    with open_database(path) as first:
        for _ in range(2):
            open_database(path).close()
            with first.read() as connection:
                connection.execute(text("SELECT count(*) FROM run"))
            subprocess.run([sys.executable, "-c", elsewhere, str(path)], check=True)
            assert Path(f"{path}-wal").exists(), "another process took the database for its own"
