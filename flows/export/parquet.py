"""Complete tables of the runs as Parquet: a folder with a file a table, typed, compressed (zstd), and written in row groups, so
that memory does not grow with the runs.

Nothing is lost. Columns have the names and meanings of `store/README.md`, but for what is bytes there: the tokens and their
statistics are lists (`steps.py`), and so are a prompt's tokens, a score's parts and an embedding. A text that Parquet cannot
hold (a lone surrogate) has it replaced in `text`, and stands whole in `text_bytes` (UTF-8 with surrogates passed on), which is
NULL beside all others. Leases, sessions and schedules are of the work and not of its result, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary, Select, Table, Text, select

from store import schema

from .attempts import Source
from .steps import columns_of_steps
from .told import Exported, Options

if TYPE_CHECKING:
    import pyarrow as pa

_A, _C = schema.attempt.c, schema.candidate.c
ROWS = 1024  # read at a time
GROUP = 16_384  # rows of a row group, at most
GROUP_BYTES = 64 * 2**20  # of the arrays of one, about
# what stands for bytes and JSON: (column, its new name, its values)
_LISTS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "prompt_ids": ("prompt_ids", "int32", lambda blob: np.frombuffer(blob, dtype="<i4")),
    "parts": ("parts", "double", json.loads),
    "vector": ("vector", "float", lambda blob: np.frombuffer(blob, dtype="<f2").astype(np.float32)),
}


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Fills the folder `place`."""
    runs = [run.id for run in source.runs]
    closed = _A.run_id.in_(runs), _A.status.in_(schema.CLOSED)
    keys = select(_A.problem_key).where(*closed)
    made.files["runs.parquet"] = _table(source, place / "runs.parquet", schema.run, schema.run.c.id.in_(runs))
    made.files["problems.parquet"] = _table(source, place / "problems.parquet", schema.problem, schema.problem.c.key.in_(keys))
    made.files["attempts.parquet"] = _table(source, place / "attempts.parquet", schema.attempt, *closed)
    made.files["candidates.parquet"] = _candidates(source, place / "candidates.parquet", closed, made)
    of_attempts = {
        "scores": "score",
        "solutions": "solution",
        "verdicts": "verdict",
        "embeddings": "embedding",
        "replies": "reply",
    }
    for name, table in of_attempts.items():
        made.files[f"{name}.parquet"] = _table(source, place / f"{name}.parquet", schema.metadata.tables[table], *closed)
    rescores = schema.rescore.c.run_id.in_(runs)
    made.files["rescores.parquet"] = _table(source, place / "rescores.parquet", schema.rescore, rescores)


def _table(source: Source, file: Path, table: Table, *where: Any) -> int:
    """A table as it is, with the id of its run where it has that of an attempt."""
    asked = select(table).where(*where)
    if "attempt_id" in table.c:
        asked = select(_A.run_id, *table.c).join_from(table, schema.attempt, table.c.attempt_id == _A.id).where(*where)
    asked = asked.order_by(*table.primary_key.columns)
    return _written(source, file, asked, lambda rows: _batch(table, rows), lambda rows: 0)


def _candidates(source: Source, file: Path, where: Sequence[Any], made: Exported) -> int:
    asked = select(_A.run_id, *_C).join_from(schema.candidate, schema.attempt).where(*where)
    asked = asked.order_by(_C.attempt_id, _C.path)

    def batch(rows: Sequence[Any]) -> pa.RecordBatch:
        return columns_of_steps(_batch(schema.candidate, rows), rows, made)

    return _written(source, file, asked, batch, lambda rows: sum(5 * len(row.packed) + len(row.text or "") for row in rows))


def _written(
    source: Source,
    file: Path,
    asked: Select[Any],
    batch: Callable[[Sequence[Any]], pa.RecordBatch],
    size: Callable[[Sequence[Any]], int],
) -> int:
    """Writes the rows of a query; how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = source.connection.execute(asked, execution_options={"yield_per": ROWS})
    first = batch([])
    count = 0
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for group in _groups(found.partitions(), size):
            writer.write_table(pa.Table.from_batches([batch(rows) for rows in group]))
            count += sum(map(len, group))
    return count


def _groups(parts: Any, size: Callable[[Sequence[Any]], int]) -> Iterator[list[Sequence[Any]]]:
    """The parts of a result, put together to row groups."""
    group: list[Sequence[Any]] = []
    rows = taken = 0
    for part in parts:
        group.append(part)
        rows, taken = rows + len(part), taken + size(part)
        if rows >= GROUP or taken >= GROUP_BYTES:
            yield group
            group, rows, taken = [], 0, 0
    if group:
        yield group


def _batch(table: Table, rows: Sequence[Any]) -> pa.RecordBatch:
    """Rows as columns of the table's types; bytes that are tokens, parts or vectors as lists, and packed ones not at all."""
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    named = rows[0]._fields if rows else ()
    if "attempt_id" in table.c:
        at = named.index("run_id") if rows else 0
        arrays["run_id"] = pa.array([row[at] for row in rows], pa.string())
    for column in table.c:
        if isinstance(column.type, LargeBinary) and column.name not in _LISTS:
            continue
        at = named.index(column.name) if rows else 0
        values = [row[at] for row in rows]
        if column.name in _LISTS:
            name, kind, read = _LISTS[column.name]
            lists = [None if value is None else read(value) for value in values]
            arrays[name] = pa.array(lists, pa.list_(pa.type_for_alias(kind)))
        else:
            arrays[column.name] = pa.array(values, _kind(column.type))
    return pa.RecordBatch.from_pydict(arrays)


def _kind(of: Any) -> pa.DataType:
    import pyarrow as pa

    kinds: list[tuple[type, pa.DataType]] = [
        (BigInteger, pa.int64()),
        (Integer, pa.int64()),
        (Double, pa.float64()),
        (Boolean, pa.bool_()),
        (Text, pa.string()),
    ]
    return next(kind for known, kind in kinds if isinstance(of, known))


__all__ = ["write"]
