"""What a row of a problem file may say of its grading: the grader's name, and what that one goes by.

{"question": "...", "answer": "B", "options": ["3", "4", "5"]}
{"question": "...", "answer": "9.81", "grader": "numeric", "relative": 0.01}
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from search.checks import one_of

from .code import FORGEABLE

GRADERS = ("exact", "integer", "math", "choice", "numeric", "code", FORGEABLE)
FIELDS = ("grader", "options", "tests", "tolerance", "relative")
NEAR = 0.8  # of difflib: one letter in five
LARGEST = 10  # options of a multiple choice: A to J


def graded(row: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into a problem's meta: `grader`, `options`, `tolerance`, `relative`, where the row has them. Options make it a
    multiple choice. ValueError with the reason for what cannot be."""
    out: dict[str, Any] = {}
    if row.get("grader") is not None:
        name = row["grader"]
        if not isinstance(name, str):
            raise ValueError(f"field 'grader' must be text, not {json.dumps(name)[:60]}")
        one_of("grader", name, GRADERS)
        if name == "exact" and "family" not in meta:
            raise ValueError("grader 'exact' is for the synthetic families, and the row is of none")
        if name in ("code", FORGEABLE) and meta.get("grader") != name:
            raise ValueError(f"grader '{name}' goes by the row's tests; write them, and leave the grader out")
        out["grader"] = name
    if row.get("options") is not None and out.get("grader", "choice") == "choice":
        out |= {"grader": "choice", "options": _options(row["options"])}
    rooms = {name: _room(name, row[name]) for name in ("tolerance", "relative") if row.get(name) is not None}
    if rooms and out.get("grader") != "numeric":
        raise ValueError(f"field '{min(rooms)}' is for grader 'numeric'; write \"grader\": \"numeric\", or remove the field")
    return out | rooms


def misspelt(row: Mapping[str, Any], named: Collection[str] = ()) -> None:
    """ValueError for a field that is nearly one that decides how a row is graded, and would be ignored. Any other unknown field
    is the file's own affair; so is `grade`, a year at school, unless it holds a grader's name."""
    for name in row:
        near = [] if name in FIELDS or name in named else get_close_matches(str(name).lower(), FIELDS, 1, NEAR)
        if not near or near[0] in row or (name == "grade" and row[name] not in GRADERS):
            continue
        raise ValueError(f"field '{str(name)[:40]}' is not known; write '{near[0]}' if that is meant, else rename or remove it")


def _options(value: Any) -> list[str]:
    """The options' texts, A first: a list, or an object with the letters as its fields, in order."""
    if isinstance(value, Mapping):
        if list(value) != [_letter(i) for i in range(len(value))]:
            raise ValueError(f"field 'options' must have the fields A, B, C... in order, not {', '.join(map(str, value))[:60]}")
        value = list(value.values())
    fine = isinstance(value, list) and all(isinstance(each, (str, int, float)) and str(each).strip() for each in value)
    if not fine or not 2 <= len(value) <= LARGEST:
        raise ValueError(f"field 'options' must be a list of 2 to {LARGEST} texts, not {json.dumps(value)[:60]}")
    texts = [str(each) for each in value]
    plain = [" ".join(each.split()) for each in texts]
    for i, each in enumerate(plain):
        if each in plain[:i]:
            raise ValueError(
                f"field 'options' has {each[:40]!r} twice, as {_letter(plain.index(each))} and {_letter(i)}; make them differ"
            )
    return texts


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _room(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"field '{name}' must be a number, 0 or more, not {json.dumps(value)[:60]}")
    return float(value)


__all__ = ["GRADERS", "graded", "misspelt"]
