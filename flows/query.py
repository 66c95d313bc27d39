"""One SELECT on the stored runs, and its rows in the format that was asked for."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from flows import places, sinks
from search.checks import one_of
from store.readonly import Row, Value, selecting, tables

FORMATS = ("table", "csv", "jsonl", "parquet", "markdown")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".md": "markdown", ".txt": "table"}
SHOWN = 100  # rows of a table that goes to no file, unless told otherwise


def run(
    database: str,
    sql: str,
    parameters: dict[str, Value],
    seconds: float,
    format: str,
    file: str = "",
    limit: int | None = None,
    spreadsheet: bool = False,
    force: bool = False,
) -> None:
    """Runs the query and writes its rows to the file, else to standard output."""
    check(format, file, spreadsheet, force)
    with selecting(database, sql, parameters, seconds) as found:
        write(found.columns, found.rows, format, file, limit, spreadsheet)


def check(format: str, file: str, spreadsheet: bool, force: bool) -> None:
    """Raises ValueError where rows could not be written so, before anybody looks for them."""
    if format == "parquet" and not file:
        raise ValueError("Parquet is no text: name a file, as -o rows.parquet")
    if file:
        places.checked(Path(file), force)
    if spreadsheet and format != "csv":
        raise ValueError(f"--spreadsheet is for csv, not {format}")


def write(
    columns: Sequence[str],
    rows: Iterable[Row],
    format: str,
    file: str = "",
    limit: int | None = None,
    spreadsheet: bool = False,
) -> None:
    """Writes the rows to the file, else to standard output."""
    if not file:
        if format == "table" and limit is None:
            limit = SHOWN
        for text in _text(columns, rows, format, limit, spreadsheet, sys.stdout.isatty()):
            sys.stdout.write(text)
        return
    with places.making(Path(file)) as part:
        if format == "parquet":
            from flows import parquet

            parquet.write(part, columns, islice(rows, limit))
            return
        with part.open("w", encoding="utf-8", newline="") as out:
            out.writelines(_text(columns, rows, format, limit, spreadsheet, terminal=False))


def describe(database: str, json: bool) -> None:
    """The views and the tables, with their columns."""
    from flows import records

    listed = tables(database)
    if json:
        records.tell(*({"table": name, "columns": columns} for name, columns in listed.items()))
        return
    width = max(map(len, listed), default=0)
    for name, columns in listed.items():
        sys.stdout.write(f"{name:<{width}}  {', '.join(columns)}\n")


def format_of(format: str, file: str, json: bool) -> str:
    """The format that was asked for, else the file's, else a table on a terminal and CSV elsewhere."""
    if json and format not in ("", "jsonl"):
        raise ValueError(f"--json is --format jsonl, not {format}")
    if json or format:
        one_of("format", format or "jsonl", FORMATS)
        return format or "jsonl"
    if file:
        suffix = Path(file).suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"'{file}' does not tell its format; end it in {', '.join(SUFFIXES)}, or give --format")
        return SUFFIXES[suffix]
    return "table" if sys.stdout.isatty() else "csv"


def parameters_of(given: Sequence[str]) -> dict[str, Value]:
    """The parameters NAME=VALUE. A value that is JSON's number, true, false, null or "text" is that; another is a text."""
    found: dict[str, Value] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier() or not name.isascii():
            raise ValueError(f"--param must be NAME=VALUE, not '{each[:80]}'")
        if name in found:
            raise ValueError(f"--param {name} is given twice")
        found[name] = _value(value)
    return found


def statement_of(sql: str, file: str) -> str:
    """The SQL, from the command line, a file, or standard input ("-")."""
    if sql and file:
        raise ValueError("give the SQL, or a file with -f, not both")
    if "-" in (sql, file):
        return sys.stdin.read()
    if not file:
        return sql
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the query '{file}': {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error


# ------------------------------------------------------------------------------------------------------------ internals


def _text(
    columns: Sequence[str], rows: Iterable[Row], format: str, limit: int | None, spreadsheet: bool, terminal: bool
) -> Iterator[str]:
    if format == "table":
        return _table(columns, rows, limit)
    rows = islice(rows, limit)
    if format == "csv":
        return sinks.csv_lines(columns, rows, spreadsheet, terminal)
    return sinks.json_lines(columns, rows, terminal) if format == "jsonl" else sinks.markdown_lines(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Row], limit: int | None) -> Iterator[str]:
    """Aligned columns, numbers to the right; the last line says whether there are more rows."""
    rows = iter(rows)
    kept = list(islice(rows, limit))
    more = next(rows, None) is not None
    names = [sinks.cell_of(name) for name in columns]
    cells = [[sinks.cell_of(value) for value in row] for row in kept]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    numeric = [all(isinstance(value, (int, float, type(None))) for value in column) for column in zip(*kept, strict=True)]
    for line in (names, *cells):
        aligned = (
            cell.rjust(width) if i < len(numeric) and numeric[i] else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(aligned).rstrip() + "\n"
    said = (
        f"the first {len(kept):,} rows, there are more; --limit shows them, -o FILE writes all"
        if more
        else f"{len(kept):,} rows"
    )
    yield f"({said.replace('1 rows', '1 row') if said == '1 rows' else said})\n"


def _value(said: str) -> Value:
    def refuse(name: str) -> None:
        raise ValueError(name)

    with suppress(ValueError):
        value = jsonlib.loads(said, parse_constant=refuse)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
    return said


__all__ = ["FORMATS", "check", "describe", "format_of", "parameters_of", "run", "statement_of", "write"]
