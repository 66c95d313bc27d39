"""The examples of store/README.md for people's own tools, run: each answers one question over the views."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from test_store_fakes import make_spec, stored_run

from flows import query
from store import schema
from store.database import open_database
from store.frames import frame

BY_STRATEGY = """
SELECT strategy, count(*) AS problems, avg(CASE WHEN correct THEN 1.0 ELSE 0.0 END) AS accuracy
FROM results GROUP BY strategy ORDER BY strategy"""
ANSWER = [("beam", 4, 0.5), ("best-of-n", 4, 0.5)]


@pytest.fixture
def where(where: str) -> str:
    """With two runs, half of whose problems are right."""
    with open_database(where) as database:
        for strategy in ("beam", "best-of-n"):
            stored_run(database, make_spec(strategy), n=4)
        with database.write() as connection:
            connection.execute(schema.attempt.update().values(correct=schema.attempt.c.id % 2 == 0))
    return where


@pytest.fixture
def file(where: str) -> str:
    if "://" in where:
        pytest.skip("the example is one of a SQLite file")
    return where


@pytest.fixture
def parquet(where: str, tmp_path: Path) -> str:
    """ponderosa query "SELECT * FROM results" -o results.parquet"""
    query.run(where, "SELECT * FROM results", {}, 30.0, "parquet", str(tmp_path / "results.parquet"))
    return str(tmp_path / "results.parquet")


def rows(made: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(made.itertuples(index=False, name=None))


def test_a_notebook_asks_with_the_programs_own_function(where: str) -> None:
    assert rows(frame(where, BY_STRATEGY)) == ANSWER
    depth = frame(where, "SELECT depth, count(*) AS steps FROM steps WHERE strategy = :s GROUP BY depth", {"s": "beam"})
    assert depth["steps"].sum() > 0


def test_a_frame_keeps_whole_numbers_with_nulls_among_them(where: str) -> None:
    """NumPy's own types would make floats of them, and texts of truths."""
    sql = "SELECT attempt, correct, tokens, CASE WHEN position = 1 THEN 7 END AS some, 0.5 AS half, error FROM results"
    made = frame(where, sql + " ORDER BY attempt")
    assert [str(dtype) for dtype in made.dtypes] == ["Int64", "boolean", "Int64", "Int64", "Float64", "object"]
    assert made["some"].isna().sum() == 6
    assert made["some"].sum() == 14
    assert made["correct"].sum() == 4


def test_a_frame_has_objects_where_kinds_are_mixed_and_columns_where_there_are_no_rows(file: str) -> None:
    made = frame(file, "SELECT 1 AS a, x'01' AS b UNION ALL SELECT 'x', NULL")
    assert made["a"].tolist() == [1, "x"]
    assert made["b"].tolist() == [b"\x01", None]
    assert list(frame(file, "SELECT run, problem FROM results WHERE 1 = 0").columns) == ["run", "problem"]


def test_pandas_reads_the_file_itself(file: str) -> None:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        made = pd.read_sql(BY_STRATEGY, connection)
    assert rows(made) == ANSWER


def test_polars_reads_the_file_itself(file: str) -> None:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        made = pl.read_database(BY_STRATEGY, connection)
    assert made.rows() == ANSWER


def test_polars_reads_the_parquet_of_a_query(parquet: str) -> None:
    made = (
        pl.scan_parquet(parquet)
        .group_by("strategy")
        .agg(pl.len().alias("problems"), pl.col("correct").mean().alias("accuracy"))
        .sort("strategy")
        .collect()
    )
    assert made.rows() == ANSWER


def test_duckdb_reads_the_parquet_of_a_query(parquet: str) -> None:
    with duckdb.connect() as connection:
        sql = f"SELECT strategy, count(*), avg(correct::DOUBLE) FROM '{parquet}' GROUP BY strategy ORDER BY strategy"
        assert connection.sql(sql).fetchall() == ANSWER


def test_duckdb_reads_the_file_itself_where_its_extension_is_installed(file: str) -> None:
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        try:
            connection.execute("LOAD sqlite")
        except duckdb.Error:
            pytest.skip("DuckDB's sqlite extension is not installed; it would have to be downloaded")
        connection.execute(f"ATTACH '{file}' AS runs (TYPE sqlite, READ_ONLY)")
        assert connection.sql(BY_STRATEGY.replace("FROM results", "FROM runs.results")).fetchall() == ANSWER
