"""The formats by name, and a file's records in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.problems.jsonl import DataError
from search.types import Join

from . import harness, monkeys, openr, own, rebase, search_and_learn
from .files import Rows, json_document, json_lines, yaml_document
from .records import Json, Record, checked


@dataclass(frozen=True, slots=True)
class Format:
    """How one project writes its candidates down."""

    about: str
    patterns: tuple[str, ...]  # the files of a folder
    rows: Rows
    record: Callable[[Json, dict[str, str]], Record | None]  # of a row; the notes are the file's, `stem` is its name
    join: Join  # how steps' scores become one, where the file does not say
    named: bool = False  # ids come from the files' names


LINES = ("*.jsonl",)
FORMATS: dict[str, Format] = {
    "ponderosa": Format("our own: a problem a line", LINES, json_lines, own.record, Join.MIN),
    "search-and-learn": Format("completions of search-and-learn", LINES, json_lines, search_and_learn.record, Join.LAST),
    "rebase": Format("answer_q*.json of REBASE", ("answer_q*.json",), json_document, rebase.record, Join.MIN),
    "openr": Format("record.jsonl of OpenR", LINES, json_lines, openr.record, Join.MIN),
    "monkeys": Format(
        "YAML files of Large Language Monkeys and GenRM", ("*.yaml", "*.yml"), yaml_document, monkeys.record, Join.MIN, True
    ),
    "lm-eval": Format("samples of the lm-evaluation-harness", ("samples_*.jsonl",), json_lines, harness.record, Join.MIN, True),
}


@dataclass(slots=True)
class Skipped:
    """Rows that were left out, and why that loses nothing."""

    filters: int = 0  # lines of other filters, with the same texts


def records(files: Sequence[Path], format: Format, skipped: Skipped | None = None) -> Iterator[tuple[str, Record]]:
    """FILE:LINE and record, in order. Raises DataError for the first row that is not what the format says."""
    count = skipped or Skipped()
    for file in files:
        notes = {"stem": file.stem}
        for line, row in format.rows(file):
            try:
                record = format.record(row, notes)
                if record is None:
                    count.filters += 1
                    continue
                yield f"{file}:{line}", checked(record)
            except ValueError as problem:
                raise DataError(f"{file}:{line}: {problem}") from None
