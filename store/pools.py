"""A run's pools: the whole solutions of each problem, as a selector sees them. Nothing here generates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, select

from search.packing import unpack_all
from search.select import Entry
from search.select import confidences as traced
from search.tree import scored
from search.types import (
    GOES_ON,
    Finish,
    Join,
    Packed,
    Path,
    Question,
    Score,
    State,
    Step,
    Trace,
    Verifier,
    lineage,
    order,
    parent_of,
)

from . import schema
from .database import Database
from .errors import StoreError, one_of

_A, _C, _S = schema.attempt.c, schema.candidate.c, schema.score.c

_POOLS = 256  # attempts read at a time
_TRACES = 8  # where their tokens are read too


@dataclass(frozen=True, slots=True)
class Signal:
    """A verifier that reads the statistics of tokens and no text, so that it can score what is stored; and its join."""

    verifier: Verifier
    join: Join


def entries(db: Database, run_id: str, verifier: str | None = None, confidences: bool = False) -> dict[int, list[Entry]]:
    """Every closed attempt's pool of whole solutions, as `pools` gives them one by one."""
    return dict(pools(db, run_id, verifier, confidences))


def pools(
    db: Database, run_id: str, verifier: str | None = None, confidences: bool = False, signal: Signal | None = None
) -> Iterator[tuple[int, list[Entry]]]:
    """Every closed attempt's pool of whole solutions (ended or cut, in order of path), as a live selector saw them, in the
    order of the problems.

    Any Selector can be replayed over a pool. The arithmetic is that of search.select.entries, in its order, so the numbers
    are equal to the last bit. One thing differs: what FETCH merged without judging it has no value here. A statistic that was
    not finite becomes the lowest there is. `verifier` is only needed where several have scored the run. With `confidences`,
    entries have the confidences of their tokens, which deepconf needs and which take several times as long to read; with a
    `signal`, the scores are its, computed here, and not the stored ones. Memory does not grow with the run.
    """
    closed = select(_A.id).where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
    with db.read() as connection:
        mine = None if signal else _verifier(connection, closed, verifier)
        of_tokens = confidences or signal is not None
        ids = connection.scalars(closed.order_by(_A.position, _A.id)).all()
        size = _TRACES if of_tokens else _POOLS
        for begin in range(0, len(ids), size):
            batch = ids[begin : begin + size]
            steps: dict[int, dict[Path, Any]] = {attempt_id: {} for attempt_id in batch}
            columns = [_C.attempt_id, _C.path, _C.tokens, _C.finish, _C.state, _C.prompt, _C.answer, _C.certainty, _C.logprob]
            columns += [_C.packed, _C.extra] * of_tokens
            for row in connection.execute(select(*columns).where(_C.attempt_id.in_(batch))):
                steps[row.attempt_id][row.path] = row
            scored = select(schema.score).where(_S.attempt_id.in_(batch), _S.verifier == mine)
            scores = {(row.attempt_id, row.path): score_of(row) for row in connection.execute(scored)}
            for attempt_id, found in steps.items():
                whole = whole_paths(found)
                unpacked = _steps(found) if of_tokens else {}
                if signal:
                    scores = {(attempt_id, score.path): score for score in _signalled(signal, found, whole, unpacked)}
                pool = [_entry(found, path, scores.get((attempt_id, path))) for path in whole]
                yield attempt_id, _traced(found, pool, unpacked) if confidences else pool


def lacking(db: Database, run_id: str, signal: Signal) -> str:
    """Why a signal can score nothing of a run: its reason for the first solution, where no solution of that problem has a
    value. "" where it can."""
    closed = select(_A.id).where(_A.run_id == run_id, _A.status.in_(schema.CLOSED)).order_by(_A.position, _A.id)
    columns = (_C.attempt_id, _C.path, _C.tokens, _C.finish, _C.state, _C.prompt, _C.packed, _C.extra)
    with db.read() as connection:
        for attempt in connection.scalars(closed).all():
            rows = connection.execute(select(*columns).where(_C.attempt_id == attempt)).all()
            found = {row.path: row for row in rows}
            if whole := whole_paths(found):
                scores = _signalled(signal, found, whole, _steps(found))
                return "" if any(score.value is not None for score in scores) else scores[0].reason
    return ""


def score_of(row: Any) -> Score:
    """A row of the table."""
    return Score(row.path, row.verifier, row.value, tuple(json.loads(row.parts)), row.reason)


def _verifier(connection: Connection, of: Select[Any], wanted: str | None) -> str | None:
    """The one verifier that has scored the attempts, or the one that was asked for."""
    known = connection.scalars(select(_S.verifier).where(_S.attempt_id.in_(of)).distinct().order_by(_S.verifier)).all()
    if wanted is None and len(known) > 1:
        raise StoreError(f"the run was scored by {len(known)} verifiers; name one ({', '.join(known)})")
    if wanted is not None:
        one_of("verifier", wanted, known)
    return wanted or next(iter(known), None)


def _entry(found: dict[Path, Any], path: Path, score: Score | None) -> Entry:
    steps = [found[p] for p in written(found, path)]
    tokens = sum(step.tokens for step in steps)
    certainties = [0.0 if step.certainty is None else step.certainty for step in steps]
    logprobs = [float("-inf") if step.logprob is None else step.logprob for step in steps]
    return Entry(
        path=path,
        answer=found[path].answer,
        tokens=tokens,
        certainty=mean_over_tokens(certainties, [step.tokens for step in steps]) or 0.0,
        logprob=sum(logprobs),
        parts=score.parts if score and score.value is not None else (),
        value=score.value if score else None,
    )


def whole_paths(found: Mapping[Path, Any]) -> list[Path]:
    """The whole solutions (ended or cut) among an attempt's candidates, in order of path. A thought that went on after its end
    is none, nor is what was asked aside."""
    continued = {parent_of(path) for path in found}
    ended = (path for path, row in found.items() if row.finish not in GOES_ON and row.state != State.ASIDE)
    return sorted((path for path in ended if path not in continued), key=order)


def written(found: Mapping[Path, Any], path: Path) -> list[Path]:
    """The candidates whose steps make a solution: from the first, or from the last that answered a prompt of its own."""
    if "." not in path:
        return [path]
    paths = lineage(path)
    last = max((i for i, each in enumerate(paths) if found[each].prompt is not None), default=0)
    return paths[last:]


def in_all(values: Sequence[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def mean_over_tokens(values: Sequence[float | None], tokens: Sequence[int]) -> float | None:
    """The mean of the steps' means: over the tokens; where their numbers are not known (imported candidates), over the steps.
    None where one is not known."""
    weights = tokens if any(tokens) else [1] * len(values)
    total = in_all([None if value is None else value * n for value, n in zip(values, weights, strict=True)])
    return None if total is None else total / sum(weights)


def _steps(found: dict[Path, Any]) -> dict[Path, Step]:
    """The candidates' steps, decoded from their bytes; without texts."""
    blobs = [Packed(row.packed, row.extra) for row in found.values()]
    return dict(zip(found, unpack_all(blobs, [""] * len(blobs), [Finish.END] * len(blobs)), strict=True))


def _signalled(signal: Signal, found: dict[Path, Any], whole: Sequence[Path], steps: dict[Path, Step]) -> list[Score]:
    """A score of each solution. What was written elsewhere may have no statistics, or not those of all its tokens."""
    paths = [[steps[p] for p in written(found, path)] for path in whole]
    readings = signal.verifier.score([Trace(Question("", "", ()), tuple(path)) for path in paths])
    out, name = [], signal.verifier.name
    for path, reading, own in zip(whole, readings, paths, strict=True):
        rows = [found[p] for p in written(found, path)]
        known = all(len(step) == row.tokens and _has_statistics(step, row) for step, row in zip(own, rows, strict=True))
        reason = reading.reason if known else "no statistics of its tokens are stored"
        out.append(scored(path, name, reading.parts if known else (), reason, signal.join))
    return out


def _has_statistics(step: Step, row: Any) -> bool:
    """Whether there are any of a step's tokens; a step without tokens that a search wrote says that it has all there are."""
    return not np.isnan(step.logprobs).all() if len(step) else row.extra != b"\x00"


def _traced(found: dict[Path, Any], pool: list[Entry], steps: dict[Path, Step]) -> list[Entry]:
    """The entries with the confidences of their tokens."""
    source, traces = traced([[steps[p] for p in written(found, entry.path)] for entry in pool])
    # what was written elsewhere may have no statistics of its tokens: that is no confidence, not one of 0
    known = [len(t) == e.tokens and (not len(t) or bool(np.isfinite(t).any())) for e, t in zip(pool, traces, strict=True)]
    return [
        replace(entry, confidences=trace if there else None, source=source)
        for entry, trace, there in zip(pool, traces, known, strict=True)
    ]


__all__ = [
    "Signal",
    "entries",
    "in_all",
    "lacking",
    "mean_over_tokens",
    "pools",
    "score_of",
    "whole_paths",
    "written",
]
