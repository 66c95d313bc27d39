"""`ponderosa query`: SQL in, rows out, in each format; nothing that a model has written does anything on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command
from sqlalchemy import text
from test_store_fakes import make_spec, stored_run

from flows import query, sinks
from store.database import open_database

ROOT = Path(__file__).parents[1]
EVIL = "\x1b]8;;http://evil\x07=cmd|' /C calc'!A0\x1b[2J\x9b31m\u202e"


@pytest.fixture
def database(command: Command, tmp_path: Path) -> Path:
    """In the folder that `command` has gone to."""
    path = tmp_path / "runs.db"
    with open_database(path) as opened:
        stored_run(opened, make_spec("beam"))
        with opened.write() as connection:
            connection.execute(text("UPDATE run SET name = :name"), {"name": EVIL})
    return path


@pytest.fixture
def ask(command: Command, database: Path) -> Command:
    return lambda *words: command("query", *words, "-d", str(database))


def test_rows_come_as_csv_where_nobody_looks(ask: Command) -> None:
    done = ask("SELECT strategy, problems, NULL AS none, 0.5 AS half, x'00ff' AS blob, 'a,\"b\"\nc' AS text FROM runs")
    assert (done.code, done.err) == (0, "")
    assert list(csv.reader(io.StringIO(done.out))) == [
        ["strategy", "problems", "none", "half", "blob", "text"],
        ["beam", "3", "", "0.5", "00ff", 'a,"b"\nc'],
    ]


def test_a_text_with_a_carriage_return_is_one_cell(ask: Command, tmp_path: Path) -> None:
    """It was not quoted, and a reader took it for the end of the row."""
    assert ask("SELECT 'a' || char(13) || 'b' AS x, char(13) AS y, 'c' AS z", "-o", "a.csv").code == 0
    assert (tmp_path / "a.csv").read_bytes() == b'x,y,z\n"a\rb","\r",c\n'


def test_rows_come_as_a_table_on_a_terminal(ask: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.query.sys.stdout", Terminal())
    ask("SELECT 'a' AS name, 12 AS long_number UNION ALL SELECT 'bbb', NULL")
    assert sys.stdout.getvalue() == "name  long_number\na              12\nbbb             –\n(2 rows)\n"  # type: ignore[attr-defined]


def test_json_lines_have_no_nan_and_keep_the_types(ask: Command) -> None:
    done = ask("SELECT 1 AS a, 9e999 AS b, x'01' AS c, 'ä' AS d, NULL AS e, correct AS f FROM results LIMIT 1", "--json")
    assert json.loads(done.out, parse_constant=pytest.fail) == {"a": 1, "b": None, "c": "01", "d": "ä", "e": None, "f": None}
    assert done.out == ask("SELECT 1 AS a, 9e999 AS b, x'01' AS c, 'ä' AS d, NULL AS e, NULL AS f", "--format", "jsonl").out


def test_a_table_has_100_rows_unless_more_are_asked_for(ask: Command) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 150) SELECT x FROM a"
    lines = ask(many, "--format", "table").out.splitlines()
    assert len(lines) == 102
    assert lines[-1] == "(the first 100 rows, there are more; --limit shows them, -o FILE writes all)"
    assert ask(many, "--format", "table", "--limit", "150").out.splitlines()[-1] == "(150 rows)"
    assert len(ask(many).out.splitlines()) == 151
    assert len(ask(many, "--limit", "5", "--json").out.splitlines()) == 5


def test_a_table_in_a_file_has_all_rows(ask: Command, tmp_path: Path) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 150) SELECT x FROM a"
    assert ask(many, "-o", "all.txt").code == 0
    assert (tmp_path / "all.txt").read_text().splitlines()[-2:] == ["150", "(150 rows)"]
    assert ask(many, "-o", "some.txt", "--limit", "5").code == 0
    assert len((tmp_path / "some.txt").read_text().splitlines()) == 7


def test_markdown_has_no_marks_of_a_models(ask: Command) -> None:
    done = ask("SELECT '<script>|[a](javascript:b)' || char(10) || '# `c`' AS a, 2 AS b", "--format", "markdown")
    assert done.out == "| a | b |\n| --- | --- |\n| &lt;script&gt;\\|\\[a\\](javascript:b) \\# \\`c\\` | 2 |\n"


@pytest.mark.parametrize("format", ["table", "csv", "jsonl", "markdown"])
def test_a_terminal_is_sent_no_control_character(ask: Command, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr("flows.query.sys.stdout", Terminal())
    ask('SELECT name, 1 AS "\x1b[2J" FROM run', "--format", format)
    said = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "evil" in said
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)


def test_a_spreadsheet_computes_nothing(ask: Command) -> None:
    sql = "SELECT '=1+1' AS a, '@x' AS b, '-1' AS c, -1 AS d, '\t=2' AS e, 'plain' AS f, '\n=3' AS g, '＝4' AS h"
    (_, row) = csv.reader(io.StringIO(ask(sql, "--spreadsheet").out))
    assert row == ["'=1+1", "'@x", "'-1", "-1", "'\t=2", "plain", "'\n=3", "'＝4"]
    (_, row) = csv.reader(io.StringIO(ask(sql).out))
    assert row == ["=1+1", "@x", "-1", "-1", "\t=2", "plain", "\n=3", "＝4"]
    assert ask(sql, "--spreadsheet", "--json").code == 2


def test_a_file_is_written_whole_or_not_at_all(ask: Command, tmp_path: Path) -> None:
    for name, beginning in (
        ("a.csv", b"x\n1\n"),
        ("a.jsonl", b'{"x": 1}'),
        ("a.md", b"| x |"),
        ("a.parquet", b"PAR1"),
        ("a.txt", b"x\n"),
    ):
        done = ask("SELECT 1 AS x", "-o", str(tmp_path / name))
        assert (done.code, done.out, done.err) == (0, "", "")
        assert (tmp_path / name).read_bytes().startswith(beginning)
    before = sorted(os.listdir(tmp_path))
    again = ask("SELECT 2 AS x", "-o", "a.csv")
    assert (again.code, again.err) == (2, "ponderosa: 'a.csv' is there already; name another file, or --force writes over it\n")
    for bad in (
        "SELECT nothing",
        "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT 1 FROM a WHERE x < 0",
    ):
        assert ask(bad, "-o", "a.csv", "--force", "--seconds", "0.3").code in (2, 75)
        assert (tmp_path / "a.csv").read_text() == "x\n1\n"
    assert ask("SELECT 2 AS x", "-o", "a.csv", "--force").code == 0
    assert (tmp_path / "a.csv").read_text() == "x\n2\n"
    assert sorted(os.listdir(tmp_path)) == before


def test_parameters_are_numbers_truths_nothing_or_text() -> None:
    numbers = query.parameters_of(["a=3", "b=0.5", "c=true", "d=null"])
    assert numbers == {"a": 3, "b": 0.5, "c": True, "d": None}
    texts = query.parameters_of(["e=beam", 'f="3"', "g=007", "h=NaN", "i=[1]", "j=a=b", "k="])
    assert texts == {"e": "beam", "f": "3", "g": "007", "h": "NaN", "i": "[1]", "j": "a=b", "k": ""}
    for bad in (["a"], ["=1"], ["a b=1"], ["a=1", "a=2"]):
        with pytest.raises(ValueError, match="--param"):
            query.parameters_of(bad)


def test_parameters_reach_the_query(ask: Command) -> None:
    assert (
        ask("SELECT count(*) AS n FROM runs WHERE strategy = :s AND problems > :n", "--param", "s=beam", "--param", "n=1").out
        == "n\n1\n"
    )


def test_the_sql_is_read_from_a_file_and_from_standard_input(
    ask: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.sql").write_text("-- how many\nSELECT count(*) AS n\nFROM runs;\n")
    assert ask("-f", "q.sql").out == "n\n1\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 7 AS n"))
    assert ask("-").out == "n\n7\n"
    assert "not both" in ask("SELECT 1", "-f", "q.sql").err
    assert ask("-f", "missing.sql").err == "ponderosa: cannot read the query 'missing.sql': No such file or directory\n"


def test_without_sql_it_lists_what_there_is_to_ask(ask: Command) -> None:
    lines = ask().out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["results", "runs", "scores", "solutions", "steps"]
    assert "strategy" in lines[0]
    told = [json.loads(line) for line in ask("--json").out.splitlines()]
    assert [each["table"] for each in told] == [line.split()[0] for line in lines]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["DROP TABLE run"], 2, "a query is one SELECT, WITH ... SELECT or VALUES: it begins with 'DROP'"),
        (["SELECT strategi FROM runs"], 2, "no such column: strategi; the nearest are strategy"),
        (["SELECT load_extension('x')"], 2, "refused: FUNCTION load_extension"),
        (["SELECT 1", "--format", "xls"], 2, "xls"),
        (["SELECT 1", "--format", "parquet"], 2, "Parquet is no text: name a file"),
        (["SELECT 1", "-o", "rows.xls"], 2, "'rows.xls' does not tell its format"),
        (["SELECT 1", "-o", "nowhere/rows.csv"], 2, "cannot write 'nowhere/rows.csv': there is no folder 'nowhere'; create it"),
        (["SELECT 1", "-o", f"{'x' * 300}/rows.csv"], 2, "there is no folder"),
        (["SELECT 1", "-o", f"{'x' * 300}.csv"], 74, "File name too long"),
        (["SELECT 1", "-o", ".", "--format", "csv"], 2, "'.' names no file"),
        (["SELECT 1", "-o", "..", "--format", "csv", "--force"], 2, "'..' is a folder; name another place"),
        (["SELECT 1", "-o", "runs.db", "--format", "csv", "--force"], 2, "'runs.db' is a database; name another place"),
        (["SELECT 1", "-o", "/dev/null", "--format", "csv", "--force"], 2, "'/dev/null' is no file; name another place"),
        (["SELECT 1", "--seconds", "0"], 2, "above 0"),
        (["SELECT 1", "--param", "a=1"], 2, "no parameter ':a'"),
        (["SELECT '\udcff'"], 2, "the query is not UTF-8, from character 9 on"),
        (["SELECT 1", "--json", "--format", "csv"], 2, "--json is --format jsonl"),
        (
            ["WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT 1 FROM a) SELECT count(*) FROM a", "--seconds", "0.3"],
            75,
            "after 0.3 s",
        ),
    ],
)
def test_what_is_refused_is_one_line_and_a_code(ask: Command, words: list[str], code: int, says: str) -> None:
    done = ask(*words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert done.err.count("\n") == 1


def test_a_database_that_is_not_there_is_not_made(command: Command, tmp_path: Path) -> None:
    for words in (("SELECT 1",), ()):
        done = command("query", *words)
        assert (done.code, done.out) == (65, "")
        assert done.err.startswith("ponderosa: there is no database at '.ponderosa/ponderosa.db'")
    assert os.listdir(tmp_path) == []


def test_a_reader_that_leaves_ends_it_quietly(database: Path) -> None:
    many = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT x FROM a"
    command = [sys.executable, "-m", "flows.cli", "query", many, "-d", str(database)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"x\n"
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
    assert sorted(os.listdir(database.parent)) == ["runs.db", "runs.db-turn"]


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS x", "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT x FROM a"]
)
def test_a_disk_that_is_full_where_the_rows_go_is_one_line(database: Path, sql: str) -> None:
    """At once, and when what was held is written at the end."""
    command = [sys.executable, "-m", "flows.cli", "query", sql, "-d", str(database)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
        )
    assert (done.returncode, done.stderr) == (
        74,
        b"ponderosa: cannot write: No space left on device; make room there, or write elsewhere\n",
    )


def test_streams_that_are_closed_are_none_to_write_to(database: Path) -> None:
    command = f"{sys.executable} -m flows.cli query 'SELECT missing' -d {database} "
    for closed, says in ((">&-", b"ponderosa: no such column: missing"), ("<&- >&- 2>&-", b"")):
        done = subprocess.run(
            command + closed, shell=True, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
        )
        assert (done.returncode, done.stderr[: len(says) or None]) == (2, says)


# -------------------------------------------------------------------------------------------------------------- Parquet


def parquet_of(ask: Command, tmp_path: Path, sql: str) -> dict[str, tuple[str, list[object]]]:
    """Type and values of each column of the file."""
    from pyarrow import parquet

    done = ask(sql, "-o", str(tmp_path / "rows.parquet"), "--force")
    assert (done.code, done.err) == (0, "")
    table = parquet.read_table(tmp_path / "rows.parquet")
    return {name: (str(table.schema.field(name).type), table[name].to_pylist()) for name in table.column_names}


def test_a_parquet_column_has_the_type_of_its_values(ask: Command, tmp_path: Path) -> None:
    sql = "SELECT 1 AS i, 0.5 AS f, 'a' AS t, x'01' AS b, NULL AS n UNION ALL SELECT NULL, 1, NULL, NULL, NULL"
    assert parquet_of(ask, tmp_path, sql) == {
        "i": ("int64", [1, None]),
        "f": ("double", [0.5, 1.0]),
        "t": ("string", ["a", None]),
        "b": ("binary", [b"\x01", None]),
        "n": ("null", [None, None]),
    }


def test_a_parquet_column_is_widened_by_what_comes_later_and_loses_nothing(
    ask: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.parquet.GROUP", 2)
    cases = {
        "NULL, NULL, 3, 4": ("int64", [None, None, 3, 4]),
        "1, 2, 0.5, NULL": ("double", [1.0, 2.0, 0.5, None]),
        f"{2**53 + 1}, 2, 0.5, 3": ("string", [str(2**53 + 1), "2", "0.5", "3"]),
        "1, 2, 3, 'four'": ("string", ["1", "2", "3", "four"]),
        "'a', 'b', x'ff', 1": ("string", ["a", "b", "ff", "1"]),
    }
    for values, expected in cases.items():
        rows = " UNION ALL ".join(f"SELECT {i} AS i, {value} AS v" for i, value in enumerate(values.split(", ")))
        assert parquet_of(ask, tmp_path, f"SELECT v FROM ({rows}) ORDER BY i")["v"] == expected
    assert sorted(os.listdir(tmp_path)) == ["rows.parquet", "runs.db", "runs.db-turn"]


def test_a_disk_that_fills_up_while_a_column_is_widened_leaves_nothing(
    ask: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been written so far stayed, under another name."""
    from pyarrow import parquet

    opened = [parquet.ParquetWriter]

    def full(*args: object) -> object:
        if not opened:
            raise OSError(28, "No space left on device")
        return opened.pop()(*args)

    monkeypatch.setattr("flows.parquet.GROUP", 1)
    monkeypatch.setattr(parquet, "ParquetWriter", full)
    done = ask("SELECT 1 AS x UNION ALL SELECT 'two'", "-o", str(tmp_path / "rows.parquet"))
    assert (done.code, "No space left on device" in done.err) == (74, True)
    assert sorted(os.listdir(tmp_path)) == ["runs.db", "runs.db-turn"]


def test_a_query_without_rows_is_a_parquet_file_with_columns(ask: Command, tmp_path: Path) -> None:
    assert parquet_of(ask, tmp_path, "SELECT run, problem FROM results WHERE 1 = 0") == {
        "run": ("null", []),
        "problem": ("null", []),
    }


def test_numbers_read_back_as_the_same() -> None:
    for value in (0.1, 1e-300, 2.0, -0.0, 10**20):
        assert float(sinks.plain(value)) == value
    assert [sinks.plain(value) for value in (True, False, None, b"\xff")] == ["true", "false", "", "ff"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
