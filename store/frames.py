"""A query as a pandas frame, for notebooks.

from store.frames import frame
frame("ponderosa.db", "SELECT strategy, avg(tokens) AS tokens FROM results GROUP BY strategy")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .kinds import Kinds
from .readonly import SECONDS, Value, selecting

if TYPE_CHECKING:
    from pandas import DataFrame

# nullable ones: whole numbers with a NULL among them stay whole numbers
_DTYPES = {"null": "object", "bool": "boolean", "int": "Int64", "float": "Float64", "text": "string"}


def frame(
    where: str | os.PathLike[str], sql: str, parameters: Mapping[str, Value] | None = None, seconds: float = SECONDS
) -> DataFrame:
    """All rows of one SELECT, which is run as `readonly.selecting` says. Columns are boolean, Int64, Float64 or string with NA
    for NULL; object where they hold blobs, values of several kinds, or nothing but NULL. Raises what `selecting` does."""
    import pandas

    with selecting(where, sql, parameters, seconds) as found:
        names, columns = found.columns, [list[Any]() for _ in found.columns]
        for batch in found.batches:
            for column, values in zip(columns, zip(*batch, strict=True), strict=True):
                column.extend(values)
    made: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        kinds = Kinds()
        kinds.see(column)
        dtype: Any = _DTYPES.get(kinds.kind, "object")
        whole = kinds.kind == "int"  # truths among numbers are numbers
        held = [int(value) if whole and value is not None else value for value in column]
        made[name] = pandas.Series(pandas.array(held, dtype=dtype), dtype=dtype)
    return pandas.DataFrame(made, columns=list(names))


__all__ = ["frame"]
