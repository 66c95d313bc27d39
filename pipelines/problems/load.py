"""From the problems part of a run to the problems: for example

Part("word", {"split": "test", "count": 100, "seed": 0, "levels": "2-5"})
Part("jsonl", {"file": "gsm8k.jsonl", "style": "gsm8k", "limit": 50, "prompt": "boxed"})
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from search.checks import one_of
from search.types import Part, Problem

from . import FAMILIES
from .jsonl import Check, load_jsonl
from .synthetic import synthetic

SYNTHETIC_PARAMS = ("split", "count", "seed", "levels")
JSONL_PARAMS = ("file", "style", "limit", "prompt", "question", "answer", "id")


def load_problems(part: Part, check: Check | None = None) -> list[Problem]:
    """The problems a part names. ValueError for an unknown name or parameter, DataError for a file that will not do.

    `check` says what is wrong with the reference of a problem of a file ("": nothing): graders are not known here.
    """
    one_of("problem set", part.name, [*FAMILIES, "jsonl"])
    known = JSONL_PARAMS if part.name == "jsonl" else SYNTHETIC_PARAMS
    for name in part.params:
        one_of(f"parameter of {part.name}", name, known)
    return _from_file(part.params, check) if part.name == "jsonl" else _from_family(part.name, part.params)


def _from_family(name: str, params: Mapping[str, Any]) -> list[Problem]:
    levels = levels_of(params["levels"]) if "levels" in params else None
    return synthetic(
        name,
        split=str(params.get("split", "test")),
        count=_integer("count", params.get("count", 100)),
        seed=_integer("seed", params.get("seed", 0)),
        levels=levels,
    )


def _from_file(params: Mapping[str, Any], check: Check | None) -> list[Problem]:
    if not params.get("file"):
        raise ValueError("jsonl needs file=PATH")
    limit = params.get("limit")
    return load_jsonl(
        params["file"],
        limit=None if limit is None else _integer("limit", limit),
        check=check,
        **{name: str(value) for name, value in params.items() if name not in ("file", "limit")},
    )


def levels_of(value: Any) -> Sequence[int]:
    """Levels as they are written: 3, "3", "2-5", "2+4+8", or a list of integers."""
    if isinstance(value, (list, tuple)):
        return [_integer("levels", item) for item in value]
    found: list[int] = []
    for piece in str(value).split("+"):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", piece)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"levels must be written 3, 2-5 or 2+4, not '{str(value)[:80]}'")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return list(dict.fromkeys(found))


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,15}", str(value), re.ASCII):
        raise ValueError(f"{name} must be an integer, not '{str(value)[:80]}'")
    return int(value)


__all__ = ["levels_of", "load_problems"]
