"""What a row of each known problem set means: its question, its reference answer and its meta.

Each reader raises ValueError with the reason where a row is not what its style says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .code import cases_of, grader_of, named

QUESTIONS = ("prompt", "question", "problem")
SHAPES = ("tests", "numbers", "nums", "target", *QUESTIONS)  # fields that tell rows of one file apart
HASHES = re.compile(r"####[ \t]*([^\n]+?)\s*$")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?", re.ASCII)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """A row, understood."""

    question: str
    answer: str
    meta: dict[str, Any] = field(default_factory=dict)


def text(row: Json, name: str) -> str:
    value = _present(row, name)
    if not isinstance(value, str):
        raise ValueError(f"field '{name}' must be text, not {_kind(value)}")
    if not value.strip():
        raise ValueError(f"field '{name}' is empty")
    return value


def scalar(row: Json, name: str) -> str:
    """A field that is text or a number, as text."""
    value = _present(row, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return text(row, name)


def whole(row: Json, name: str) -> int:
    value = _present(row, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"field '{name}' must be an integer, not {_kind(value)}")
    return value


def _present(row: Json, name: str) -> Any:
    if name not in row:
        raise ValueError(f"field '{name}' is missing (fields: {', '.join(map(str, row))[:120] or 'none'})")
    return row[name]


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list"}
    return f"{names.get(type(value), 'an object')}: {str(value)[:60]}" if value is not None else "null"


def gsm8k(row: Json) -> Read:
    """question, answer: a worked solution whose last line is `#### N`."""
    match = HASHES.search(text(row, "answer"))
    if match is None or not NUMBER.fullmatch(match[1].lstrip("$")):
        raise ValueError("field 'answer' does not end in '#### N'")
    return Read(text(row, "question"), match[1].lstrip("$").replace(",", ""))


def math(row: Json) -> Read:
    """problem, answer in LaTeX, subject, level."""
    return Read(text(row, "problem"), scalar(row, "answer"), {k: row[k] for k in ("subject", "level") if k in row})


def aime(row: Json) -> Read:
    """problem, answer: an integer from 0 to 999."""
    answer = scalar(row, "answer").strip()
    if not re.fullmatch(r"\d{1,3}", answer, re.ASCII):
        raise ValueError(f"field 'answer' must be an integer from 0 to 999, not {answer[:60]}")
    return Read(text(row, "problem"), str(int(answer)))


def countdown(row: Json) -> Read:
    """numbers (or nums), target: each number once, with + - * /, into the target."""
    name = "nums" if "nums" in row and "numbers" not in row else "numbers"
    numbers, target = _present(row, name), whole(row, "target")
    fine = isinstance(numbers, list) and numbers and all(type(n) is int and 0 <= n < 1_000_000 for n in numbers)
    if not fine:
        raise ValueError(f"field '{name}' must be a list of integers from 0 to 999999, not {str(numbers)[:60]}")
    question = f"Use {', '.join(map(str, numbers))} to make {target}."
    reference = f"{target} from {','.join(map(str, sorted(numbers)))}"
    return Read(question, reference, {"family": "countdown", "level": len(numbers)})


def generic(row: Json, question: str = "", answer: str = "") -> Read:
    """prompt, question or problem; answer. Or the fields that are named."""
    name = question or _first(row)
    if not name:
        raise ValueError(f"no field {', '.join(QUESTIONS)} (fields: {', '.join(map(str, row))[:120] or 'none'})")
    return Read(text(row, name), scalar(row, answer or "answer"))


def code(row: Json, question: str = "") -> Read:
    """prompt, question or problem, or the field that is named; tests: see pipelines.problems.code. What stands for the answer
    is the tests' name."""
    name = question or _first(row) or "prompt"
    tests = cases_of(_present(row, "tests"))
    return Read(text(row, name), named(tests), {"grader": grader_of(tests), "tests": tests})


def _first(row: Json) -> str:
    """The field that holds the question; "" where there is none. Sets whose rows are of several kinds have null in what is not
    theirs."""
    named = [name for name in QUESTIONS if name in row]
    return next((name for name in named if row[name] is not None), named[0] if named else "")


READERS: dict[str, Callable[[Json], Read]] = {
    "gsm8k": gsm8k,
    "math": math,
    "aime": aime,
    "countdown": countdown,
    "code": code,
    "generic": generic,
}


def shape_of(row: Json) -> tuple[str, ...]:
    """Which of the fields that tell the kinds of rows apart a row has; null is none."""
    return tuple(name for name in SHAPES if row.get(name) is not None)


def style_of(row: Json, name: str = "") -> str:
    """The style of the first row of its shape; `name` is the file's. "" where no style fits.

    A bare integer answer to a `problem` is AIME's, and digits as text are where the file's name says so.
    """
    answer, has = row.get("answer"), shape_of(row)
    if ("numbers" in has or "nums" in has) and "target" in has:
        return "countdown"
    if "tests" in has:
        return "code"
    if answer is None:
        return ""
    if "question" in has and isinstance(answer, str) and "####" in answer:
        return "gsm8k"
    if "problem" in has:
        integer = type(answer) is int and 0 <= answer <= 999
        named = "aime" in name.lower() and re.fullmatch(r"\d{1,3}", str(answer))
        return "aime" if integer or named else "math"
    return "generic" if any(field in has for field in QUESTIONS) else ""


__all__ = ["QUESTIONS", "READERS", "Read", "code", "generic", "shape_of", "style_of"]
