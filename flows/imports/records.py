"""What a reader makes of a file's row: a problem and the candidates that were written for it elsewhere.

A record holds what the file says and nothing else: None is "the file does not say", never a stand-in number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.types import Join, Path, depth_of, order, parent_of

Json = Mapping[str, Any]
Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """One candidate as a file has it: a whole solution, or one step of a tree."""

    text: str  # of its own step
    path: Path = ""  # in a tree; "" = a whole solution, which gets the next first step
    whole: bool = True  # False: a step of a tree, not an answer
    finished: bool = True  # False: cut off before its end
    said: str | None = None  # the answer as the file gives it; None = extract it
    unsaid: str = ""  # why the file gives none, where it says that there is none
    spoken: str | None = None  # what to extract the answer from, where it is not the text
    tokens: int | None = None  # count
    ids: tuple[int, ...] | None = None  # the tokens themselves
    logprob: float | None = None  # sum of ln p over the tokens, nats
    certainty: float | None = None  # mean self-certainty over the tokens, nats
    scores: Mapping[str, Values] = field(default_factory=dict)  # verifier -> a value for each step of the path
    joined: Mapping[str, float] = field(default_factory=dict)  # verifier -> the value the file made of them
    right: bool | None = None  # the file's own verdict


@dataclass(frozen=True, slots=True)
class Record:
    """One problem with its candidates."""

    id: str  # "" = its place among the problems of the import
    prompt: str
    answer: str  # reference
    candidates: Sequence[Written]
    source: str = ""  # "" = the format's name
    style: str = ""  # of the answers; "" = as the import says
    chosen: int | None = None  # which candidate the file says was chosen; None = it does not say
    elected: str | None = None  # the answer that the file says was chosen, where it does not say by which candidate
    generated: int | None = None  # tokens that all of it took, where the file has a total; None = sum of the candidates'


def checked(record: Record) -> Record:
    """The record, with a path for each candidate. Raises ValueError for one that would be stored as something it is not."""
    if not record.candidates:
        raise ValueError("the problem has no candidates; leave its line out")
    taken = [each.path for each in record.candidates]
    if len(set(taken) - {""}) != len([path for path in taken if path]):
        raise ValueError("two of its candidates have one place in the tree")
    for name, known in (("token count", "tokens"), ("log-probability", "logprob"), ("certainty", "certainty")):
        lacking = [i for i, each in enumerate(record.candidates) if getattr(each, known) is None]
        if lacking and len(lacking) < len(taken):
            # selectors compare candidates: one of which this is not known can be compared with no other
            raise ValueError(f"candidate {lacking[0]} has no {name}, and others of the problem have; give it for all or none")
    for path in filter(None, taken):
        if depth_of(path) > 1 and parent_of(path) not in taken:
            raise ValueError(f"candidate {path} has no parent in the tree")
    for i, each in enumerate(record.candidates):
        for verifier, value in each.joined.items():
            if _valid(each.scores.get(verifier, ())) and rule_of(each.scores[verifier], value, Join.LAST) is None:
                parts = ", ".join(f"{part:.6g}" for part in each.scores[verifier][:8])
                raise ValueError(
                    f"candidate {i} has the aggregate {value:.6g}, which is no {', '.join(Join)} of its scores ({parts})"
                )
    return record


def rule_of(parts: Sequence[float], value: float, usual: Join) -> Join | None:
    """How a file made one value of a step's scores: as usual where that fits, else as what fits, else None."""
    fitting = [rule for rule in (usual, *Join) if math.isclose(rule(parts), value, rel_tol=1e-5, abs_tol=1e-7)]
    return fitting[0] if fitting else None


def _valid(parts: Sequence[float]) -> bool:
    return bool(parts) and all(math.isfinite(part) for part in parts)


def placed(record: Record) -> list[tuple[Path, Written]]:
    """The candidates by path, parents first."""
    named = [(each.path or str(i), each) for i, each in enumerate(record.candidates)]
    return sorted(named, key=lambda pair: order(pair[0]))


# ---------------------------------------------------------------------------------------------------- fields of a row


def kind(value: object) -> str:
    """A value in words, for an error."""
    names = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else f"{names.get(type(value), 'something else')}: {str(value)[:60]!r}"


def present(row: Json, name: str) -> Any:
    if name not in row:
        raise ValueError(f"field '{name}' is missing (fields: {', '.join(map(str, row))[:160] or 'none'})")
    return row[name]


def text(row: Json, name: str, blank: bool = False) -> str:
    """A field that must be text, and not blank unless it may be."""
    value = present(row, name)
    if not isinstance(value, str):
        raise ValueError(f"field '{name}' must be text, not {kind(value)}")
    if not blank and not value.strip():
        raise ValueError(f"field '{name}' is empty")
    return value


def scalar(row: Json, name: str) -> str:
    """A field that is text or a number, as text."""
    value = present(row, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return text(row, name)


def several(row: Json, name: str, count: int | None = None) -> list[Any]:
    """A field that is a list, of `count` entries where that is given."""
    value = present(row, name)
    if not isinstance(value, list):
        raise ValueError(f"field '{name}' must be a list, not {kind(value)}")
    if count is not None and len(value) != count:
        raise ValueError(f"field '{name}' has {len(value)} entries for {count} candidates")
    return value


def texts(row: Json, name: str) -> list[str]:
    """A field that is a list of texts."""
    values = several(row, name)
    bad = next((i for i, each in enumerate(values) if not isinstance(each, str)), None)
    if bad is not None:
        raise ValueError(f"entry {bad} of field '{name}' must be text, not {kind(values[bad])}")
    return values


def number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number, not {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large: {str(value)[:40]}") from None


def values(value: object, what: str) -> Values:
    """One number or a list of them. null among them is a step without a score, and makes no value of the whole."""
    if not isinstance(value, list):
        return (number(value, what),)
    return tuple(float("nan") if each is None else number(each, f"entry {i} of {what}") for i, each in enumerate(value))


def whole(value: object, what: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ValueError(f"{what} must be a whole number of at least {least}, not {kind(value)}")
    return value


def counts(value: object, texts: Sequence[str]) -> list[int | None]:
    """Token counts of texts. A project that does not count writes -1, or 0 beside texts that are not empty: not known."""
    unknown: list[int | None] = [None] * len(texts)
    if not isinstance(value, list) or len(value) != len(texts):
        return unknown
    found = [each for each in value if isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**31]
    if len(found) != len(texts) or any(n == 0 and text for n, text in zip(found, texts, strict=True)):
        return unknown
    return list(found)
