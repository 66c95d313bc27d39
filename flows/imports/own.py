"""Our own format: a problem a line, documented in store/README.md.

{"id": "a", "problem": "What is 6 times 7?", "answer": "42", "candidates": [{"text": "6 * 7 is \\\\boxed{42}", "tokens": 9,
 "logprob": -1.5, "certainty": 3.1, "scores": {"prm": [0.9, 0.8]}}]}
"""

from __future__ import annotations

import math
from typing import Any

from search.packing import TOKEN_BITS
from verifiers.extract import STYLES

from .records import Json, Record, Values, Written, kind, number, scalar, several, text, values, whole

KNOWN = ("text", "answer", "tokens", "token_ids", "logprob", "certainty", "finished", "scores")


def record(row: Json, notes: dict[str, str]) -> Record:
    """One line. A field of a candidate that is not known is an error: a misspelt one would be lost."""
    style = text(row, "style") if "style" in row else ""
    if style and style not in STYLES:
        raise ValueError(f"unknown style '{style[:40]}' ({', '.join(STYLES)})")
    candidates = several(row, "candidates")
    return Record(
        id=scalar(row, "id") if "id" in row else "",
        prompt=text(row, "problem"),
        answer=scalar(row, "answer"),
        candidates=[_named(i, each) for i, each in enumerate(candidates)],
        source=text(row, "source") if "source" in row else "",
        style=style,
        chosen=_chosen(row, len(candidates)),
    )


def _chosen(row: Json, count: int) -> int | None:
    if row.get("chosen") is None:
        return None
    chosen = whole(row["chosen"], "field 'chosen'")
    if chosen >= count:
        raise ValueError(f"field 'chosen' is {chosen}, and the candidates are numbered from 0 to {count - 1}")
    return chosen


def _named(index: int, given: Any) -> Written:
    try:
        return _written(given)
    except ValueError as problem:
        raise ValueError(f"candidate {index}: {problem}") from None


def _written(given: Any) -> Written:
    if not isinstance(given, dict):
        raise ValueError(f"must be an object, not {kind(given)}")
    strange = next((name for name in given if name not in KNOWN), None)
    if strange is not None:
        raise ValueError(f"unknown field '{strange[:40]}' ({', '.join(KNOWN)})")
    known = {name: value for name, value in given.items() if value is not None}
    ids = _ids(known["token_ids"]) if "token_ids" in known else None
    tokens = whole(known["tokens"], "field 'tokens'") if "tokens" in known else None
    if ids is not None and tokens not in (None, len(ids)):
        raise ValueError(f"field 'tokens' is {tokens}, and there are {len(ids)} token_ids")
    finished = known.get("finished", True)
    if not isinstance(finished, bool):
        raise ValueError(f"field 'finished' must be true or false, not {kind(finished)}")
    return Written(
        text=text(given, "text", blank=True),
        finished=finished,
        said=scalar(known, "answer") if "answer" in known else None,
        tokens=len(ids) if ids is not None else tokens,
        ids=ids,
        logprob=_statistic(known, "logprob", -1),
        certainty=_statistic(known, "certainty", 1),
        scores=_scores(known.get("scores", {})),
    )


def _ids(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list):
        raise ValueError(f"field 'token_ids' must be a list, not {kind(given)}")
    ids = tuple(whole(each, f"entry {i} of field 'token_ids'") for i, each in enumerate(given))
    if ids and max(ids) >> TOKEN_BITS:
        raise ValueError(f"field 'token_ids' has {max(ids)}, more than {TOKEN_BITS} bits")
    return ids


def _statistic(known: Json, name: str, sign: int) -> float | None:
    """A sum of ln p is at most 0, a certainty at least 0: the other sign is another measure."""
    if name not in known:
        return None
    value = number(known[name], f"field '{name}'")
    if not math.isfinite(value) or value * sign < 0:
        raise ValueError(f"field '{name}' must be a finite number, {'at most' if sign < 0 else 'at least'} 0, not {value}")
    return value


def _scores(given: Any) -> dict[str, Values]:
    if not isinstance(given, dict):
        raise ValueError(f"field 'scores' must be an object of verifiers, not {kind(given)}")
    return {name: values(value, f"the score of '{name[:40]}'") for name, value in given.items() if value is not None}
