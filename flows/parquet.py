"""Rows as a Parquet file, in groups: memory does not grow with them.

A column's type is that of the values so far. Where later ones do not fit it, what is written is written again with a wider
type: whole numbers become floats where each is exact as one, else, as everything that has values of several kinds, text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.sinks import plain
from store.kinds import Kinds
from store.readonly import Row, Value

GROUP = 50_000  # rows of a group at most
BYTES = 32_000_000  # of a group, about


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes the file. Its folder has another file meanwhile."""
    file, group, size = _File(path, columns), list[Row](), 0
    try:
        for row in rows:
            group.append(row)
            size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
            if len(group) == GROUP or size > BYTES:
                file.add(list(zip(*group, strict=True)))
                size, group = 0, []
        file.add(list(zip(*group, strict=True)) or [()] * len(columns))
    finally:
        file.close()


class _File:
    """An open Parquet file whose columns may be widened."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        self._kinds = [Kinds() for _ in columns]
        self._types: list[str] = []
        self._writer: Any = None

    def add(self, group: Sequence[Sequence[Value]]) -> None:
        """One column's values after the other."""
        for kinds, values in zip(self._kinds, group, strict=True):
            kinds.see(values)
        types = [kinds.kind for kinds in self._kinds]
        if types != self._types:
            self._widen(types)
        self._write(group)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _widen(self, types: list[str]) -> None:
        """Goes on with a file of these types, which begins with what is written."""
        from pyarrow import parquet

        old, written = self._path.with_suffix(".narrow"), self._writer is not None
        self.close()
        if written:
            self._path.replace(old)
        self._types = types
        self._writer = parquet.ParquetWriter(self._path, self._schema())
        if not written:
            return
        with parquet.ParquetFile(old) as narrow:
            for batch in narrow.iter_batches(GROUP):
                self._write([column.to_pylist() for column in batch.columns])
        old.unlink()

    def _write(self, group: Sequence[Sequence[Value]]) -> None:
        import pyarrow

        schema = self._schema()
        arrays = [
            pyarrow.array([_as(kind, value) for value in values], field.type)
            for kind, values, field in zip(self._types, group, schema, strict=True)
        ]
        if arrays and len(arrays[0]):
            self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

    def _schema(self) -> Any:
        import pyarrow as pa

        kinds = {"null": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "blob": pa.binary()}
        fields = zip(self._columns, self._types, strict=True)
        return pa.schema([pa.field(name, kinds.get(kind, pa.string())) for name, kind in fields])


def _as(kind: str, value: Value) -> Value:
    """The value as one of its column's kind."""
    if value is None or kind not in ("int", "float", "mixed"):
        return value
    if kind == "mixed":
        return plain(value)
    return int(value) if kind == "int" else float(value)


__all__ = ["write"]
