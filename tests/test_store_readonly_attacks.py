"""SQL that tries to do more than read: refused in one line, in time, with the database and its folder as they were."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres import Postgres
from sqlalchemy import text
from test_store_fakes import make_spec, stored_run

from store import readonly_child, readonly_sqlite
from store.database import open_database
from store.errors import StoreError
from store.readonly import QueryError, Row, TooSlow, selecting
from store.readonly_functions import POSTGRESQL

SECONDS = 0.5
PATIENCE = 8.0  # for the deadline, the start of a process, and a machine that is busy

ON_BOTH = {
    "multiple statements": "SELECT 1; DELETE FROM run",
    "a comment before the second": "SELECT 1 /* ; */ ; -- nothing\n DELETE FROM run",
    "insert": "INSERT INTO run SELECT * FROM run",
    "update": "UPDATE run SET name = 'x'",
    "delete behind a comment": "/* SELECT */ DELETE FROM run",
    "delete in a WITH": "WITH gone AS (DELETE FROM run RETURNING *) SELECT * FROM gone",
    "delete after a WITH": "WITH a AS (SELECT 1) DELETE FROM run",
    "insert after a WITH": "WITH a AS (SELECT 1) INSERT INTO run SELECT * FROM run",
    "create": "CREATE TABLE mine (x INTEGER)",
    "temporary": "CREATE TEMP TABLE mine (x INTEGER)",
    "drop": "DROP TABLE run",
    "explain a write": "EXPLAIN DELETE FROM run",
    "transaction": "BEGIN",
    "commit first": "COMMIT; DELETE FROM run",
    "savepoint": "SAVEPOINT a",
    "vacuum": "VACUUM",
    "analyze": "ANALYZE",
    "reindex": "REINDEX",
    "nothing": "",
    "only a comment": "-- SELECT 1",
    "NUL": "SELECT 1 \x00; DELETE FROM run",
    "endless": "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a",
    "endless and sorted": "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT x FROM a ORDER BY -x",
    "cross join": f"SELECT count(*) FROM {', '.join(f'candidate c{i}' for i in range(12))}",
}
SQLITE = {
    "attach": "ATTACH 'stolen.db' AS stolen",
    "attach in memory": "ATTACH ':memory:' AS stolen",
    "detach": "DETACH main",
    "vacuum into": "VACUUM INTO 'stolen.db'",
    "query_only": "PRAGMA query_only = 0",
    "writable_schema": "PRAGMA writable_schema = 1",
    "journal": "PRAGMA journal_mode = DELETE",
    "journal as a table": "SELECT * FROM pragma_journal_mode('delete')",
    "checkpoint as a table": "SELECT * FROM pragma_wal_checkpoint('TRUNCATE')",
    "optimize as a table": "SELECT * FROM pragma_optimize()",
    "raw pages": "SELECT * FROM dbstat",
    "load_extension": "SELECT load_extension('stolen.so')",
    "load_extension, in capitals": "SELECT \"LOAD_Extension\"('stolen.so')",
    "readfile": "SELECT readfile('/etc/passwd')",
    "writefile": "SELECT writefile('stolen', 'x')",
    "edit": "SELECT edit('x', 'vi')",
    "tokenizer": "SELECT fts3_tokenizer('simple')",
    "log": "SELECT sqlite_log(1, 'x')",
    "zeroblob": "SELECT zeroblob(4e8)",
    "printf": "SELECT group_concat(printf('%060000000d', 1)) FROM candidate",
    "replace": "SELECT replace(hex(zeroblob(1e7)), '0', hex(zeroblob(1e7)))",
    "random blobs": "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT randomblob(1e6) FROM a) SELECT max(x) FROM a",
    "much memory": "WITH RECURSIVE a(x) AS (SELECT hex(zeroblob(3e7)) UNION ALL SELECT hex(zeroblob(3e7)) FROM a) "
    "SELECT json_group_array(x) FROM a",
    # none of these asks anybody whether to stop
    "instr": "SELECT instr(hex(zeroblob(3e7)), hex(zeroblob(15e6)) || '1')",
    "trim": "SELECT trim(hex(zeroblob(3e7)), replace(hex(zeroblob(5e6)), '0', '12') || '0')",
    "deep": f"SELECT {'(' * 5000}1{')' * 5000}",
    "long": f"SELECT '{'x' * 300_000}'",
    "another's schema": "SELECT * FROM stolen.run",
    "a bomb in a blob": "SELECT plain_text(NULL, x'789c')",
}
POSTGRES = {
    "file": "SELECT pg_read_file('/etc/passwd')",
    "file, quoted": "SELECT \"pg_read_file\"('/etc/passwd')",
    "file, with its schema": "SELECT pg_catalog . /* a */ pg_read_file -- b\n ('/etc/passwd')",
    "file, as an attribute": "SELECT ('/etc/passwd'::text).pg_read_file",
    "file, as a column": "SELECT f.pg_read_file FROM unnest(ARRAY['/etc/passwd']) f",
    "file, escaped": "SELECT U&\"\\0070g_read_file\"('/etc/passwd')",
    "file, after a text with a backslash": "SELECT E'\\'', pg_read_file('/etc/passwd'), '",
    "file, in a nested comment": "SELECT /* /* */ 1 -- */ pg_read_file('/etc/passwd')",
    "file, behind dollars": "SELECT $a$ ' $a$, pg_read_file('/etc/passwd') -- '",
    "file, as bytes": "SELECT pg_read_binary_file('/etc/passwd')",
    "folder": "SELECT * FROM pg_ls_dir('/')",
    "file, by TREAT": "SELECT TREAT('/etc/passwd' AS lo_import)",
    "by TREAT, as a query in a text": "SELECT treat /**/ ('SELECT to_tsvector(rolpassword) FROM pg_authid' AS ts_stat)",
    "settings, by TREAT": "SELECT TREAT('server_version' AS current_setting)",
    "by a query as text": "SELECT query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')",
    "by a table as text": "SELECT table_to_xml('run', true, true, '')",
    "by ts_stat": "SELECT * FROM ts_stat('SELECT pg_read_file(''/etc/passwd'')::tsvector')",
    "copy": "COPY run TO PROGRAM 'touch /tmp/stolen'",
    "copy from": "COPY run FROM PROGRAM 'cat /etc/passwd'",
    "do": "DO 'BEGIN DELETE FROM run; END'",
    "call": "CALL something()",
    "set": "SET TRANSACTION READ WRITE",
    "read write first": "SET TRANSACTION READ WRITE; DELETE FROM run",
    "set_config": "SELECT set_config('transaction_read_only', 'off', true)",
    "set_config, as a column": "SELECT ('role'::text).set_config",
    "statement_timeout": "SELECT set_config('statement_timeout', '0', false)",
    "reset": "RESET ROLE",
    "select into": "SELECT * INTO mine FROM run",
    "for update": "SELECT * FROM run FOR UPDATE",
    "for share": "SELECT * FROM run FOR KEY SHARE",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM run",
    "prepare": "PREPARE p AS DELETE FROM run",
    "large object": "SELECT lo_creat(-1)",
    "large object from a file": "SELECT lo_import('/etc/passwd')",
    "large object to a file": "SELECT lo_export(1, '/tmp/stolen')",
    "large object, as an attribute": "SELECT ('/etc/passwd'::text).lo_import",
    "sequence": "SELECT nextval('attempt_id_seq')",
    "sequence set": "SELECT setval('attempt_id_seq', 1)",
    "advisory lock": "SELECT pg_advisory_lock(5786712)",
    "sleep": "SELECT pg_sleep(100)",
    "terminate": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "cancel": "SELECT pg_cancel_backend(1)",
    "notify": "SELECT pg_notify('a', 'b')",
    "transaction id": "SELECT txid_current()",
    "settings": "SELECT current_setting('data_directory')",
    "password hashes": "SELECT * FROM pg_authid",
    "password hashes, quoted": 'SELECT * FROM "pg_shadow"',
    "password hashes, through a cast": "SELECT * FROM pg_catalog.pg_shadow",
    "access rules": "SELECT * FROM pg_hba_file_rules",
    "sessions": "SELECT query FROM pg_stat_activity",
    "another schema": "SELECT * FROM secret.things",
    "another schema, quoted": 'SELECT * FROM "secret"."things"',
    "a function of somebody's": "SELECT harmless()",
    "a function of somebody's, in capitals that the server keeps": "SELECT GRÖSSE()",
    "an overloaded function": "SELECT lower(1)",
    "an overloaded function, as an attribute": "SELECT (1).lower",
    "much text": "SELECT repeat('x', 1000000000)",
    "series": "SELECT count(*) FROM generate_series(1, 100000000000)",
    "while planning": "SELECT ln(9::numeric ^ 99999.5) ^ 99999.5 ^ 1.0001",
    "control character": "SELECT 1\x01",
    "open quote": "SELECT 'a",
    "long name": f'SELECT 1 AS "{"a" * 70}"',
}
SETUP = """
CREATE SCHEMA secret; CREATE TABLE secret.things AS SELECT 1 AS x;
CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION GRÖSSE() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION lower(int) RETURNS text LANGUAGE sql AS 'SELECT ''stolen''::text'
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite database with a run."""
    path = tmp_path_factory.mktemp("attacked") / "a ?#%.db"  # what a URI would stumble over
    with open_database(str(path)) as database:
        stored_run(database, make_spec("beam"))
    return str(path)


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database with a run, of a superuser; with things of others in it."""
    made = postgres.url("attacked")
    with open_database(made) as database:
        stored_run(database, make_spec("beam"))
        with database.write() as connection:
            connection.exec_driver_sql(SETUP)
    yield made
    postgres.drop(made)


def state_of_file(path: str) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in Path(path).parent.iterdir()}


def state_of_server(url: str) -> dict[str, str]:
    """Every relation with a digest of its rows, large objects, advisory locks, and where sequences are."""
    with open_database(url) as database, database.read() as connection:
        relations = connection.execute(
            text("SELECT oid::regclass::text, relkind FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'v', 'S')")
        ).all()
        rows = {
            name: str(
                connection.scalar(text(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (SELECT * FROM {name}) t"))
            )
            for name, kind in relations
        }
        for asked in ("pg_largeobject_metadata", "pg_locks WHERE locktype = 'advisory'"):
            rows[asked] = str(connection.scalar(text(f"SELECT count(*) FROM {asked}")))
        return rows


def refused(where: str, sql: str) -> str:
    """Its one line; it fails where rows come out, or it takes too long."""
    began = time.monotonic()
    answered: list[Row] = []
    with pytest.raises((QueryError, StoreError)) as caught, selecting(where, sql, seconds=SECONDS) as found:
        answered.extend(found.rows)
    assert not answered
    assert time.monotonic() - began < PATIENCE
    said = str(caught.value)
    assert "\n" not in said
    assert caught.value.exit_code == 75 if isinstance(caught.value, StoreError) else isinstance(caught.value, ValueError)
    return said


@pytest.mark.parametrize("attack", {**ON_BOTH, **SQLITE})
def test_an_attack_on_a_file_is_refused_and_leaves_every_byte_as_it_was(file: str, attack: str) -> None:
    before = state_of_file(file)
    refused(file, {**ON_BOTH, **SQLITE}[attack])
    assert state_of_file(file) == before


@pytest.mark.parametrize("attack", {**ON_BOTH, **POSTGRES})
def test_an_attack_on_a_server_is_refused_and_leaves_every_row_as_it_was(url: str, attack: str) -> None:
    before = state_of_server(url)
    refused(url, {**ON_BOTH, **POSTGRES}[attack])
    assert state_of_server(url) == before


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "PRAGMA query_only = 0",
            "PRAGMA journal_mode = DELETE",
            "ATTACH ':memory:' AS a",
            "DETACH main",
            "VACUUM INTO 'stolen.db'",
        ),
        *(
            "CREATE TEMP TABLE mine (x)",
            "DELETE FROM run",
            "BEGIN",
            "SAVEPOINT a",
            "ANALYZE",
            "REINDEX",
            "SELECT zeroblob(4e8)",
        ),
    ],
)
def test_a_files_connection_refuses_by_itself_what_is_no_select(file: str, sql: str) -> None:
    """The look at the first word is for the sake of the message: nothing rests on it."""
    with closing(readonly_child.opened(file)) as connection:
        connection.set_authorizer(readonly_child.Guard({"run"}, set()))
        assert connection.execute("SELECT count(*) FROM run").fetchall() == [(1,)]
        with pytest.raises((sqlite3.DatabaseError, sqlite3.DataError), match=r"not authorized|authorization denied|too big"):
            connection.execute(sql).fetchall()
    readonly_sqlite._tidy(file)


def test_the_server_itself_refuses_what_the_names_alone_would_let_through(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets a function onto the list by mistake has not yet written anything."""
    names = ("nextval", "lo_creat", "set_config", "pg_read_file", "lo_import")
    monkeypatch.setattr("store.readonly_postgresql.FUNCTIONS", POSTGRESQL | {*names})
    before = state_of_server(url)
    for attack, says in (
        ("SELECT nextval('attempt_id_seq')", "permission denied|read-only"),
        ("SELECT lo_creat(-1)", "read-only"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "read-write mode must be set before"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SELECT lo_import('/etc/passwd')", "permission denied|read-only"),
    ):
        with pytest.raises(QueryError, match=says), selecting(url, attack) as found:
            list(found.batches)
    assert state_of_server(url) == before


def test_what_is_ended_at_the_deadline_says_so_and_may_be_tried_again(file: str, url: str) -> None:
    for where in (file, url):
        began = time.monotonic()
        says = r"^the query was ended after 0.5 s; ask for less, or allow it more seconds$"
        with pytest.raises(TooSlow, match=says), selecting(where, ON_BOTH["endless"], seconds=SECONDS) as found:
            list(found.batches)
        assert time.monotonic() - began < 2.3  # the server's own clock stops it after 2.5 s


def test_a_superusers_query_fills_no_servers_disk(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "SELECT x FROM generate_series(1, 300000) AS x ORDER BY -x LIMIT 1 OFFSET 299000"
    with selecting(url, sql) as found:
        assert list(found.rows) == [(1000,)]
    monkeypatch.setattr("store.readonly_postgresql.FILES", 1024)
    with pytest.raises(QueryError, match="temp_file_limit"), selecting(url, sql) as found:
        list(found.rows)


def test_a_query_that_was_ended_goes_on_using_nothing_at_the_server(url: str) -> None:
    refused(url, ON_BOTH["endless"])
    asked = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%ponderosa_query%' AND pid <> pg_backend_pid()")
    with open_database(url) as database:
        until = time.monotonic() + PATIENCE
        while (with_it := database.consult(lambda connection: connection.scalar(asked))) and time.monotonic() < until:
            time.sleep(0.05)
    assert with_it == 0
