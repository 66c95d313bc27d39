"""Loads real problem sets from JSON Lines files.

Nothing is skipped in silence: what cannot be read is an error with its line. A byte order mark, CRLF line ends and
blank lines are no errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from search.checks import one_of, positive
from search.types import Problem

from .graded import graded, misspelt
from .prompts import PROMPTS, ask
from .rows import QUESTIONS, READERS, Read, code, generic, shape_of, style_of

LONGEST_LINE = 1_000_000  # bytes
STYLES = ("auto", *READERS)
Check = Callable[[Problem], str]  # what is wrong with a problem's reference; "" for nothing
COUNTDOWN_RULES = " Use each number exactly once, with + - * / and brackets; the answer is the expression."


class DataError(Exception):
    """A data set cannot be used: one line that says where and why. The command line ends with its exit code."""

    exit_code = 65


def load_jsonl(
    path: str | Path,
    style: str = "auto",
    limit: int | None = None,
    prompt: str = "plain",
    question: str = "",
    answer: str = "",
    id: str = "",
    check: Check | None = None,
) -> list[Problem]:
    """The problems of a file, in its order, the first `limit` of them (the whole file is checked in any case).

    With style "auto" the fields of a row tell, and of rows with the same fields the first. `question`, `answer` and `id` name
    the fields of a file of any other kind. `check` is asked of every problem, as it is read.
    Raises DataError with "FILE:LINE: reason", and ValueError for a parameter that will not do.
    """
    one_of("style", style, STYLES)
    one_of("prompt", prompt, PROMPTS)
    if limit is not None:
        positive(limit=limit)
    if (question or answer) and style not in ("auto", "generic"):
        raise ValueError(f"style {style} has fields of its own; question= and answer= are for style generic")
    file = _file(path)
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    styles = _Styles(style, question, answer, file.name)
    for line, row in _rows(file):
        try:
            own, read = styles.read(row)
            misspelt(row, (question, answer, id))
            read.meta.update(graded(row, read.meta))
            name = _id(row, id) or f"{file.stem}-{len(problems)}"
            if name in lines:
                raise ValueError(f"duplicate id '{name[:80]}', first on line {lines[name]}")
            lines[name] = line
            problems.append(_problem(name, read, own, file, prompt))
            if check is not None and (wrong := check(problems[-1])):
                raise ValueError(wrong)
        except ValueError as problem:
            raise DataError(f"{file}:{line}: {problem}") from None
    if not problems:
        raise DataError(f"{file}: dataset has 0 problems")
    return problems[:limit]


@dataclass(slots=True)
class _Styles:
    """Which style each row of a file is read by."""

    asked: str
    question: str  # fields that are named; "" where none is
    answer: str
    file: str
    found: dict[tuple[str, ...], str] = field(default_factory=dict)  # by the fields of a row

    def read(self, row: dict[str, Any]) -> tuple[str, Read]:
        """A row's style and what it says. ValueError with the reason where it is not of that style."""
        style = self._of(row)
        if style == "code":
            return style, code(row, self.question)
        if "tests" in shape_of(row):
            raise ValueError(f"field 'tests' is not read by style {style}; take style auto or code, or remove the field")
        return style, generic(row, self.question, self.answer) if style == "generic" else READERS[style](row)

    def _of(self, row: dict[str, Any]) -> str:
        if self.asked != "auto":
            return self.asked
        shape = shape_of(row)
        if self.question or self.answer:
            return "code" if "tests" in shape else "generic"
        if shape not in self.found:
            style = style_of(row, self.file)
            if not style and not self.found:
                _no_style(row)
            # where other rows were read, this one lacks a field: its reader says which
            self.found[shape] = style or "generic"
        return self.found[shape]


def _problem(name: str, read: Read, style: str, file: Path, prompt: str) -> Problem:
    rules = COUNTDOWN_RULES if style == "countdown" and prompt != "plain" else ""
    return Problem(
        id=name,
        prompt=ask(read.question + rules, prompt),
        answer=read.answer.strip(),
        source=f"{style}/{file.stem}",
        meta={"style": style, **read.meta},
    )


def _id(row: dict[str, Any], name: str) -> str:
    """The row's own id (field `id`, else `unique_id`, or the one named), or ""."""
    chosen = name or ("id" if "id" in row else "unique_id")
    value = row.get(chosen)
    if value is None and not name:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(f"field '{chosen}' must be text or an integer, not {json.dumps(value)[:60]}")
    return str(value)


def _no_style(row: dict[str, Any]) -> NoReturn:
    fields = ", ".join(map(str, row))[:120] or "none"
    known = f"one of {', '.join(QUESTIONS)} and answer, or numbers and target; or name them with question= and answer="
    raise ValueError(f"no known fields (fields: {fields}; known: {known})")


def _file(path: str | Path) -> Path:
    """The path of a plain file, or a DataError that says what it is instead."""
    if "://" in str(path):
        raise DataError(f"{path}: is a URL; download the file and name it by its path")
    file = Path(path)
    try:
        if file.is_dir():
            raise DataError(f"{file}: is a directory, not a file")
        if not file.exists():
            raise DataError(f"{file}: no such file")
        with file.open("rb") as stream:
            if stream.read(2) == b"\x1f\x8b":
                raise DataError(f"{file}:1: is compressed with gzip; decompress it first (gunzip)")
    except (OSError, ValueError) as problem:
        raise DataError(f"{str(file)[:200]!r}: {getattr(problem, 'strerror', None) or problem}") from None
    return file


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank."""
    with file.open("rb") as stream:
        for line, raw in enumerate(stream, start=1):
            ended = raw.endswith(b"\n")
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                try:
                    yield line, _object(raw, ended)
                except ValueError as problem:
                    raise DataError(f"{file}:{line}: {problem}") from None


def _object(raw: bytes, ended: bool) -> dict[str, Any]:
    """The JSON object of one line; ValueError with the reason."""
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"the line has {len(raw)} bytes, more than {LONGEST_LINE}")
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as problem:
        raise ValueError(f"not UTF-8 at byte {problem.start + 1} of the line") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as problem:
        cut = "" if ended else "; the last line looks cut off"
        raise ValueError(f"not JSON, column {problem.colno}: {problem.msg}{cut}") from None
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object but {str(row)[:60]}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


__all__ = ["STYLES", "DataError", "load_jsonl"]
