"""`export --format parquet`: complete, lossless, and read by the usual programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from exports import HOSTILE, derived, exported, searched, written
from sqlalchemy import func, select

from flows.export import parquet
from search.packing import packed
from search.types import Finish, Step
from store import queries, schema
from store.database import Database, open_database
from store.runs import find_run
from store.values import exact_text


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database(searched(tmp_path_factory.mktemp("tables") / "runs.db")) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("tables") / "out"
    exported(database, ["flat", "tree"], "parquet", to)
    return to


def array(value: list[float] | None, kind: type) -> Any:
    return None if value is None else np.array(value, dtype=kind)


def test_each_table_has_as_many_rows_as_the_database(database: Database, folder: Path) -> None:
    tables = {"runs": "run", "problems": "problem", "attempts": "attempt", "candidates": "candidate", "scores": "score"}
    with database.read() as connection:
        counts = {
            name: connection.scalar(select(func.count()).select_from(schema.metadata.tables[tables[name]])) for name in tables
        }
        replies = connection.scalar(select(func.count()).select_from(schema.reply))
    assert {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in tables} == counts
    assert pq.read_metadata(folder / "replies.parquet").num_rows == replies


def test_a_candidates_bytes_can_be_made_again_of_its_lists(database: Database, folder: Path) -> None:
    """Nothing is lost: ids, statistics, the way they were drawn, and the text give the packed bytes of the database."""
    rows = {(row["attempt_id"], row["path"]): row for row in pq.read_table(folder / "candidates.parquet").to_pylist()}
    with database.read() as connection:
        found = connection.execute(select(schema.candidate)).all()
    assert len(found) == len(rows) > 50
    for row in found:
        made = rows[row.attempt_id, row.path]
        floats = [array(made[name], np.float32) for name in ("logprobs", "certainties", "entropies", "drawn", "confidences")]
        step = Step(array(made["token_ids"], np.int32), made["text"], *floats[:3], Finish(made["finish"]), *floats[3:])
        assert packed(step) == (row.packed, row.extra)
        assert made["text"] == exact_text(row.text, row.text_zlib)
        plain = ("parent", "depth", "number", "tokens", "reply", "state", "cause", "answer", "logprob", "certainty", "prompt")
        assert {name: made[name] for name in plain} == {name: getattr(row, name) for name in plain}


def test_every_column_of_the_database_is_in_the_tables(folder: Path) -> None:
    replaced = {"packed", "extra", "text_zlib"}
    for name, table in {"runs": "run", "attempts": "attempt", "candidates": "candidate", "solutions": "solution"}.items():
        there = set(pq.read_schema(folder / f"{name}.parquet").names)
        assert set(schema.metadata.tables[table].c.keys()) - replaced <= there


def test_duckdb_pandas_and_polars_read_the_tables_alike(database: Database, folder: Path) -> None:
    asked = "select sum(len(token_ids)), sum(list_sum(logprobs)) from read_parquet(?) where state = 'finished'"
    ((tokens, logprob),) = duckdb.execute(asked, [str(folder / "candidates.parquet")]).fetchall()
    frame = pd.read_parquet(folder / "candidates.parquet")
    finished = frame[frame.state == "finished"]
    assert finished.token_ids.map(len).sum() == tokens > 0
    lazy = pl.read_parquet(folder / "candidates.parquet").filter(pl.col("state") == "finished")
    assert lazy["token_ids"].list.len().sum() == tokens
    assert lazy["logprobs"].list.sum().sum() == pytest.approx(logprob, rel=1e-5)
    right = duckdb.execute(
        f"select r.name, count(*) filter (a.correct) from '{folder}/attempts.parquet' a join '{folder}/runs.parquet' r "
        "on a.run_id = r.id group by all order by all"
    ).fetchall()
    assert right == [(name, queries.summary(database, find_run(database, name).id).correct) for name in ("flat", "tree")]


def test_types_are_those_of_the_numbers_and_the_files_are_compressed(folder: Path) -> None:
    types = {field.name: str(field.type) for field in pq.read_schema(folder / "candidates.parquet")}
    wanted = {"token_ids": "list<element: int32>", "logprobs": "list<element: float>", "certainty": "double", "depth": "int64"}
    assert {name: types[name] for name in wanted} == wanted
    assert str(pq.read_schema(folder / "attempts.parquet").field("correct").type) == "bool"
    assert pq.read_metadata(folder / "candidates.parquet").row_group(0).column(0).compression == "ZSTD"


def test_rows_are_written_in_groups(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a table at once would take the memory of the run."""
    monkeypatch.setattr(parquet, "ROWS", 8)
    monkeypatch.setattr(parquet, "GROUP", 16)
    exported(database, "tree", "parquet", tmp_path / "out")
    found = pq.read_metadata(tmp_path / "out" / "candidates.parquet")
    assert found.num_row_groups == -(-found.num_rows // 16) > 2


def test_a_text_that_utf8_cannot_hold_is_whole_beside_its_view_and_is_counted(tmp_path: Path) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": HOSTILE, "1": "x\x00y \\boxed{8}"}])
        made = exported(db, run, "parquet", tmp_path / "out")
    first, second = pq.read_table(tmp_path / "out" / "candidates.parquet").to_pylist()
    assert made.replaced == 1
    assert first["text"] == HOSTILE.replace("\ud800", "\ufffd")
    assert first["text_bytes"].decode("utf-8", "surrogatepass") == HOSTILE
    assert (second["text"], second["text_bytes"]) == ("x\x00y \\boxed{8}", None)


def test_what_was_written_elsewhere_has_null_where_nothing_is_known(tmp_path: Path) -> None:
    """An empty list would say that a text has no tokens."""
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": "So \\boxed{7}"}], scores={"0": 0.5})
        derived(db, run, {(0, "0"): True})
        exported(db, run, "parquet", tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "candidates.parquet").to_pylist()
    names = ("token_ids", "logprobs", "certainties", "entropies", "drawn", "confidences", "logprob", "certainty")
    assert {row[name] for name in names} == {None}
    (score,) = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert (score["run_id"], score["value"], score["parts"]) == (run, 0.5, [0.5])
    (solution,) = pq.read_table(tmp_path / "out" / "solutions.parquet").to_pylist()
    assert (solution["correct"], solution["value"]) == (True, None)
    card = json.loads((tmp_path / "out" / "ponderosa.json").read_text())
    assert {each["file"]: each["rows"] for each in card["files"]}["solutions.parquet"] == 1


def test_a_servers_tables_are_those_of_a_file(where: str, tmp_path: Path) -> None:
    tree = {"0": "a\n\n", "0.0": "a0 \\boxed{7}", "1": HOSTILE}
    with open_database(where) as db:
        run = written(db, [tree, tree], scores={"0.0": 0.25})
        exported(db, run, "parquet", tmp_path / "out")
    with open_database(tmp_path / "file.db") as db:
        written(db, [tree, tree], scores={"0.0": 0.25})
        exported(db, run, "parquet", tmp_path / "other")
    for name in ("candidates", "scores", "problems", "attempts", "replies"):
        here, there = (pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("out", "other"))
        assert here.equals(there)
