"""Queries that only read: what may be asked, and what comes back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from postgres import Postgres
from sqlalchemy import text
from test_store_fakes import make_spec, stored_run

from store import schema
from store.database import Database, open_database
from store.errors import StoreError
from store.readonly import QueryError, Row, Selected, Value, selecting, tables
from store.views import VIEWS


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a database with two runs is, of each kind."""
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    where = str(tmp_path_factory.mktemp("read") / "runs.db") if server is None else server.url("read")
    with open_database(where) as database:
        stored_run(database, make_spec("beam"))
        stored_run(database, make_spec("best-of-n"), n=4)
        with database.write() as connection:
            connection.execute(schema.attempt.update().values(correct=schema.attempt.c.id % 2 == 0))
    yield where
    if server is not None:
        server.drop(where)


def asked(where: str, sql: str, parameters: dict[str, Value] | None = None) -> list[Row]:
    with selecting(where, sql, parameters) as found:
        return list(found.rows)


# -------------------------------------------------------------------------------------------------------- honest queries


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT strategy, problems FROM runs ORDER BY strategy", [("beam", 3), ("best-of-n", 4)]),
        ("SELECT count(*) FROM results JOIN runs ON runs.run = results.run", [(7,)]),
        ("SELECT count(*) > 10, min(depth) FROM steps", None),
        ("SELECT count(*) FROM scores WHERE score IS NULL OR score BETWEEN 0 AND 1", None),
        ("SELECT count(*) FROM solutions", None),
        ("WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT sum(x) AS x FROM a", [(3,)]),
        ("WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 5) SELECT max(x) FROM a", [(5,)]),
        ("SELECT r.run IS NOT NULL, row_number() OVER (ORDER BY r.run, r.problem) FROM results AS r LIMIT 1", None),
        ("SELECT avg(tokens) FILTER (WHERE status = 'done') OVER w FROM results WINDOW w AS (PARTITION BY run)", None),
        ("SELECT coalesce(NULL, 'a') || upper('b'), round(2.567, 1), length('abc'), substr('abc', 2)", [("aB", 2.6, 3, "bc")]),
        ("SELECT name FROM run WHERE name LIKE '%x%' AND id IN (SELECT run FROM runs) AND EXISTS (SELECT 1)", []),
        ("VALUES (1, 'a''b;--'), (2, '/* c */')", [(1, "a'b;--"), (2, "/* c */")]),
        ("(SELECT 1) UNION SELECT 1 -- a comment; with a quote ' in it", [(1,)]),
        ("SELECT CASE WHEN count(DISTINCT run) = 2 THEN 'two' END FROM results; ", [("two",)]),
        ("SELECT CAST('3' AS INTEGER) + 1, NULL, abs(-2)", [(4, None, 2)]),
        ("SELECT problem, count(*) FROM results GROUP BY problem HAVING count(*) > 99 ORDER BY 2 DESC", []),
    ],
)
def test_an_honest_query_is_answered(filled: str, sql: str, answer: list[Row] | None) -> None:
    if sql.startswith("(") and "://" not in filled:
        pytest.skip("SQLite's grammar has no parentheses there")
    rows = asked(filled, sql)
    assert rows == answer if answer is not None else rows


def test_json_is_asked_as_each_database_does(filled: str) -> None:
    own = "spec::json -> 'strategy' ->> 'name'" if "://" in filled else "json_extract(spec, '$.strategy.name')"
    assert sorted(asked(filled, f"SELECT {own} FROM run")) == [("beam",), ("best-of-n",)]
    listed = "json_array_elements_text('[1, 2]')" if "://" in filled else "json_each('[1, 2]')"
    assert [str(value) for (value,) in asked(filled, f"SELECT value FROM {listed}")] == ["1", "2"]


def test_every_column_of_ours_can_be_named_after_a_dot(filled: str) -> None:
    """On PostgreSQL that is also how a function is called; some of our columns have a function's name."""
    counted = [
        f"(SELECT {' + '.join(f'count(t.{column})' for column in columns)} FROM {table} AS t)"
        for table, columns in tables(filled).items()
    ]
    assert len(asked(filled, f"SELECT {', '.join(counted)}")) == 1


def test_parameters_are_bound_and_no_part_of_the_sql(filled: str) -> None:
    sql = "SELECT count(*) FROM runs WHERE strategy = :s OR name = :s OR problems < :n"
    assert asked(filled, sql, {"s": "beam", "n": 0}) == [(1,)]
    assert asked(filled, sql, {"s": "' OR 1 = 1 --", "n": 0}) == [(0,)]
    assert asked(filled, "SELECT ':s', CAST(:s AS INTEGER) + 1", {"s": 2}) == [(":s", 3)]
    assert asked(filled, "SELECT coalesce(:a, 'none'), CAST(:b AS TEXT)", {"a": None, "b": "ä\"'"}) == [("none", "ä\"'")]
    assert asked(filled, "SELECT count(*) > 0 FROM results WHERE correct = :c OR correct <> :c", {"c": True})[0][0]


def test_a_servers_whole_number_of_any_length_is_read(filled: str) -> None:
    """Python makes no number of 5001 digits."""
    if "://" not in filled:
        pytest.skip("SQLite's whole numbers have 64 bits")
    assert asked(filled, "SELECT 10::numeric ^ 400, 10::numeric ^ 5000") == [(10**400, "1" + "0" * 5000)]


def test_our_own_schema_can_be_named_and_the_tables_of_another_are_not_listed(postgres: Postgres) -> None:
    url = postgres.url("schemas")
    with open_database(url) as database, database.write() as connection:
        connection.exec_driver_sql("CREATE SCHEMA theirs; CREATE TABLE theirs.run (id text, other text)")
    assert asked(url, "SELECT count(public.run.id) FROM public.run") == [(0,)]
    with pytest.raises(QueryError, match="may not read the schema 'theirs'"):
        asked(url, "SELECT count(*) FROM theirs.run")
    assert tables(url)["run"] == [column.name for column in schema.run.columns]
    postgres.drop(url)


def test_truths_are_truths_on_both(filled: str) -> None:
    assert {type(value) for (value,) in asked(filled, "SELECT correct FROM results WHERE correct IS NOT NULL")} == {bool}


def test_columns_of_one_name_are_told_apart(filled: str) -> None:
    with selecting(filled, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a") as found:
        assert found.columns == ("a", "a_3", "a_2", "a_4")


def test_columns_are_known_where_no_row_is_found(filled: str) -> None:
    with selecting(filled, "SELECT run, problem FROM results WHERE 1 = 0") as found:
        assert found.columns == ("run", "problem")
        assert list(found.batches) == []


def test_a_long_result_comes_in_batches_of_which_one_is_held(filled: str) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 3500) SELECT x FROM a"
    with selecting(filled, many) as found:
        sizes = [len(batch) for batch in found.batches]
    assert sizes == [1000, 1000, 1000, 500]
    wide = f"SELECT '{'x' * 100_000}' AS text FROM ({many}) AS q"
    with selecting(filled, wide) as found:
        assert 10 < len(next(found.batches)) < 100


@pytest.mark.parametrize("text", ["1", f"'{'x' * 100_000}'"])
def test_the_deadline_does_not_count_the_readers_own_time(filled: str, text: str) -> None:
    """On PostgreSQL long rows are handed on in the middle of what the server was asked for."""
    count = 5000 if text == "1" else 150
    many = f"WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < {count}) SELECT x, {text} FROM a"
    paused = threading.Event()
    with selecting(filled, many, seconds=1.5) as found:
        first = next(found.batches)
        paused.wait(2.0)
        assert len(first) + sum(map(len, found.batches)) == count


def test_who_leaves_early_leaves_nothing_behind(filled: str) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 100000000) SELECT x FROM a"
    with selecting(filled, many) as found:
        next(found.batches)
    if "://" not in filled:
        assert sorted(os.listdir(Path(filled).parent)) == ["runs.db", "runs.db-turn"]


def test_an_unknown_name_is_answered_with_the_nearest(filled: str) -> None:
    for sql, near in (("SELECT strategi FROM runs", "strategy"), ("SELECT * FROM result", "results")):
        with pytest.raises(QueryError, match=f"the nearest are .*{near}"):
            asked(filled, sql)
    with pytest.raises(QueryError, match="lists tables and columns"):
        asked(filled, "SELECT qqqqqqqqqqqq FROM runs")


@pytest.mark.parametrize(
    ("sql", "parameters", "says"),
    [
        ("SELECT :a", {}, r"parameter '?:a\b"),
        ("SELECT 1", {"b": 1}, "the query has no parameter ':b'"),
        ("SELECT :a", {"a": 2**63}, "':a' must fit into 64 bits, not 9223372036854775808"),
        ("SELECT :a", {"a": np.int64(1)}, "':a' must be None, a bool, int, float, str or bytes, not int64"),
        ("SELEC 1", {}, "a query is one SELECT, WITH ... SELECT or VALUES: it begins with 'SELEC'"),
        ("SELECT FROM WHERE", {}, "syntax error"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(filled: str, sql: str, parameters: dict[str, Value], says: str) -> None:
    with pytest.raises(QueryError, match=says) as caught:
        asked(filled, sql, parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e8])
def test_a_deadline_is_a_number_of_seconds(filled: str, seconds: float) -> None:
    with pytest.raises(ValueError, match="number of seconds above 0"), selecting(filled, "SELECT 1", seconds=seconds):
        pass
    with selecting(filled, "SELECT 1", seconds=1e6) as found:
        assert list(found.rows) == [(1,)]


def test_the_listing_has_the_views_first_and_every_table(filled: str) -> None:
    listed = tables(filled)
    assert list(listed)[: len(VIEWS)] == sorted(VIEWS)
    assert set(listed) == {*VIEWS, *schema.metadata.tables, "ponderosa_version"}
    assert listed["run"] == [column.name for column in schema.run.columns]


# ------------------------------------------------------------------------------------------------------------ databases


def with_version(where: str, version: str) -> None:
    with open_database(where) as database, database.write() as connection:
        connection.execute(text("UPDATE ponderosa_version SET version_num = :v"), {"v": version})


def test_an_older_or_newer_database_is_refused_and_not_migrated(where: str) -> None:
    for version, says in (("0006", "any other verb brings it up to date"), ("9999", "update Ponderosa")):
        with open_database(where):
            pass
        with_version(where, version)
        before = Path(where).read_bytes() if "://" not in where else b""
        with pytest.raises(StoreError, match=says) as caught:
            asked(where, "SELECT 1")
        assert caught.value.exit_code == 65
        if "://" not in where:
            assert Path(where).read_bytes() == before
            Path(where).unlink()
            continue
        import psycopg
        from sqlalchemy.engine import make_url

        at = make_url(where)
        with psycopg.connect(host=str(at.query["host"]), user="postgres", dbname=at.database) as connection:
            assert connection.execute("SELECT version_num FROM ponderosa_version").fetchall() == [(version,)]
            connection.execute("UPDATE ponderosa_version SET version_num = %s", [schema.HEAD])


def test_an_empty_database_is_left_empty(where: str) -> None:
    if "://" not in where:
        Path(where).touch()
    with pytest.raises(StoreError, match="is empty: it has no runs yet; start one"):
        asked(where, "SELECT 1")
    if "://" not in where:
        assert os.listdir(Path(where).parent) == [Path(where).name]
        assert Path(where).read_bytes() == b""


def test_what_is_not_ours_is_refused_in_the_words_of_the_other_verbs(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to look into")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    for name, says in (
        ("missing.db", "there is no database at"),
        ("text", "is not a SQLite database"),
        ("other.db", "is of another application \\(it has a table 'theirs'\\)"),
        ("", "is a directory"),
    ):
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(StoreError, match=says):
            asked(str(tmp_path / name), "SELECT 1")
        assert sorted(os.listdir(tmp_path)) == before
    for url, says in (("mysql://a/b", "is not supported"), ("postgresql://nobody@127.0.0.1:1/x", "start the server")):
        with pytest.raises(StoreError, match=says):
            asked(url, "SELECT 1")


def test_a_password_is_not_told(postgres: Postgres) -> None:
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        asked(postgres.url_with_password("wrong horse"), "SELECT 1")
    assert "horse" not in str(caught.value)


def test_an_owner_who_is_no_superuser_can_ask_and_change_nothing(postgres: Postgres) -> None:
    url = postgres.url_with_password()
    with open_database(url) as database:
        stored_run(database, make_spec("greedy"))
    assert asked(url, "SELECT problems FROM runs") == [(3,)]
    with pytest.raises(QueryError, match=r"data-modifying"):
        asked(url, "WITH a AS (DELETE FROM run RETURNING 1) SELECT * FROM a")
    assert asked(url, "SELECT problems FROM runs") == [(3,)]
    postgres.drop(url)


# -------------------------------------------------------------------------------------------------------- SQLite's files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with open_database(str(tmp_path / "runs.db")) as database:
        stored_run(database, make_spec("beam"))
    return tmp_path / "runs.db"


def renamed(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE run SET name = :name"), {"name": name})


def test_a_file_is_read_while_a_writer_is_in_the_middle_of_writing(file: Path) -> None:
    """The reader sees what is committed, waits for nobody, and takes no file from the writer."""
    with open_database(file) as database:
        renamed(database, "before")
        with database.write() as connection:
            connection.execute(text("UPDATE run SET name = 'after'"))
            assert asked(str(file), "SELECT name FROM run") == [("before",)]
        assert asked(str(file), "SELECT name FROM run") == [("after",)]
        renamed(database, "later")
    assert asked(str(file), "SELECT name FROM run") == [("later",)]
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_writer_commits_while_a_query_is_being_read(file: Path) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 100000) SELECT x, name FROM a, run"
    with open_database(file) as database:
        with selecting(file, many) as found:
            next(found.batches)
            renamed(database, "meanwhile")
            assert {name for _, name in found.rows} == {""}  # one view from its beginning to its end
        assert asked(str(file), "SELECT name FROM run") == [("meanwhile",)]


def test_what_a_killed_writer_has_left_in_the_log_is_read_and_stays_there(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with open_database(file) as database:
        renamed(database, "in the log")
        for each in tmp_path.glob("runs.db*"):  # as it is on the disk now, with nobody to close it
            shutil.copyfile(each, copy / each.name)
    before = {name: (copy / name).read_bytes() for name in ("runs.db", "runs.db-wal")}
    assert before["runs.db-wal"]
    assert asked(str(copy / "runs.db"), "SELECT name FROM run") == [("in the log",)]
    assert {name: (copy / name).read_bytes() for name in before} == before


def test_a_folder_that_cannot_be_written_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so the child's words are given here."""
    from store import readonly_sqlite

    (said,) = ["unable to open database file"]
    monkeypatch.setattr(readonly_sqlite.marshal, "loads", lambda raw: ("unusable", said))
    with pytest.raises(StoreError, match="SQLite must be able to write to its folder, even to read it") as caught:
        asked(str(file), "SELECT 1")
    assert caught.value.exit_code == 65


def test_a_damaged_file_is_said_to_be_one(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[4096 : len(raw) - 4096] = b"\xaa" * (len(raw) - 8192)
    file.write_bytes(raw)
    with pytest.raises(StoreError, match="damaged") as caught:
        asked(str(file), "SELECT * FROM results")
    assert caught.value.exit_code == 65


def test_a_name_with_signs_of_a_uri_is_a_name(tmp_path: Path) -> None:
    """A "?" would begin SQLite's options: mode=rwc among them."""
    path = tmp_path / "a?mode=rwc#%41.db"
    with open_database(str(path)):
        pass
    assert asked(str(path), "SELECT count(*) FROM run") == [(0,)]
    assert sorted(os.listdir(tmp_path)) == [path.name, f"{path.name}-turn"]


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    """A file's name is bytes."""
    path = os.fsdecode(bytes(tmp_path) + b"/\xe9.db")
    with open_database(path):
        pass
    assert asked(path, "SELECT count(*) FROM run") == [(0,)]
    assert asked(f"/{path}", "SELECT count(*) FROM run") == [(0,)], "two slashes are no host"
    assert len(os.listdir(tmp_path)) == 2


def test_selected_rows_are_the_batches_one_by_one() -> None:
    assert list(Selected(("a",), iter([[(1,), (2,)], [(3,)]])).rows) == [(1,), (2,), (3,)]
