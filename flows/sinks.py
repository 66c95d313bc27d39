"""Rows as text: CSV, JSON lines, Markdown, a table for the terminal. What a model has written is untrusted in each of them."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from flows.show import escaped, oneline
from store.readonly import Row, Value

CELL = 60  # characters of a table's cell
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet would compute
_MARKS = re.compile(r"([\\`*_\[\]~|#!$])")


def plain(value: Value) -> str:
    """A value as text: nothing for NULL, true and false, numbers that read back as the same, blobs in hexadecimal digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.hex() if isinstance(value, bytes) else value if isinstance(value, str) else repr(value)


def csv_lines(columns: Sequence[str], rows: Iterable[Row], spreadsheet: bool, terminal: bool) -> Iterator[str]:
    """`spreadsheet`: texts that a spreadsheet would take for a formula begin with an apostrophe. `terminal`: control characters
    are written out."""

    def cell(value: Value) -> str:
        said = plain(value)
        if spreadsheet and isinstance(value, str) and said.startswith(_FORMULA):
            said = f"'{said}"
        return escaped(said) if terminal else said

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # quotes the texts that have either
    for row in chain([columns], rows):
        writer.writerow([cell(value) for value in row])
        yield buffer.getvalue().removesuffix("\r\n") + "\n"
        buffer.seek(0)
        buffer.truncate()


def json_lines(columns: Sequence[str], rows: Iterable[Row], terminal: bool) -> Iterator[str]:
    """One object a row. What is no number is null; blobs are hexadecimal digits."""
    for row in rows:
        told = {name: _json(value) for name, value in zip(columns, row, strict=True)}
        yield json.dumps(told, ensure_ascii=terminal, allow_nan=False) + "\n"


def markdown_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A table whose cells are text only: no marks, no HTML."""
    yield "| " + " | ".join(_markdown(name) for name in columns) + " |\n"
    yield "|" + " --- |" * len(columns) + "\n"
    for row in rows:
        yield "| " + " | ".join(_markdown(value) for value in row) + " |\n"


def cell_of(value: Value) -> str:
    """A cell of a table on a terminal: one line of at most 60 characters, – for NULL."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else oneline(plain(value), CELL)


def _json(value: Value) -> Value:
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(value: Value) -> str:
    text = escaped(" ".join(plain(value).split())) if isinstance(value, str) else plain(value)
    return _MARKS.sub(r"\\\1", html.escape(text, quote=False)) if isinstance(value, str) else text


__all__ = ["CELL", "cell_of", "csv_lines", "json_lines", "markdown_lines", "plain"]
