"""A run's pools: the whole solutions of each problem, as a selector sees them. Nothing here generates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, select

from search.packing import unpack_all
from search.select import Entry
from search.select import confidences as traced
from search.types import GOES_ON, Finish, Packed, Path, Score, Step, lineage, order, parent_of

from . import schema
from .database import Database
from .errors import StoreError, one_of

_A, _C, _S = schema.attempt.c, schema.candidate.c, schema.score.c

_POOLS = 256  # attempts read at a time
_TRACES = 8  # where their tokens are read too


def entries(db: Database, run_id: str, verifier: str | None = None, confidences: bool = False) -> dict[int, list[Entry]]:
    """Every closed attempt's pool of whole solutions, as `pools` gives them one by one."""
    return dict(pools(db, run_id, verifier, confidences))


def pools(
    db: Database, run_id: str, verifier: str | None = None, confidences: bool = False
) -> Iterator[tuple[int, list[Entry]]]:
    """Every closed attempt's pool of whole solutions (ended or cut, in order of path), as a live selector saw them, in the
    order of the problems.

    Any Selector can be replayed over a pool. The arithmetic is that of search.select.entries, in its order, so the
    numbers are equal to the last bit. Two things differ: what FETCH merged without judging it has no value here, and a text
    that was to be answered (a plan, say) and was not, since the budget ended, is here as a solution. A statistic that was not
    finite becomes the lowest there is. `verifier` is only needed where several have scored the run. With `confidences`, entries
    have the confidences of their tokens, which deepconf needs and which take several times as long to read. Memory does not
    grow with the run.
    """
    closed = select(_A.id).where(_A.run_id == run_id, _A.status.in_(schema.CLOSED))
    with db.read() as connection:
        mine = _verifier(connection, closed, verifier)
        ids = connection.scalars(closed.order_by(_A.position, _A.id)).all()
        size = _TRACES if confidences else _POOLS
        for begin in range(0, len(ids), size):
            batch = ids[begin : begin + size]
            steps: dict[int, dict[Path, Any]] = {attempt_id: {} for attempt_id in batch}
            columns = [_C.attempt_id, _C.path, _C.tokens, _C.finish, _C.prompt, _C.answer, _C.certainty, _C.logprob]
            columns += [_C.packed, _C.extra] * confidences
            for row in connection.execute(select(*columns).where(_C.attempt_id.in_(batch))):
                steps[row.attempt_id][row.path] = row
            scored = select(schema.score).where(_S.attempt_id.in_(batch), _S.verifier == mine)
            scores = {(row.attempt_id, row.path): score_of(row) for row in connection.execute(scored)}
            for attempt_id, found in steps.items():
                continued = {parent_of(path) for path in found}  # a thought that went on after its end is no solution
                whole = [p for p, row in found.items() if row.finish not in GOES_ON and p not in continued]
                whole.sort(key=order)
                pool = [_entry(found, path, scores.get((attempt_id, path))) for path in whole]
                yield attempt_id, _traced(found, pool) if confidences else pool


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
    steps = [found[p] for p in _written(found, path)]
    tokens = sum(step.tokens for step in steps)
    certainties = [0.0 if step.certainty is None else step.certainty for step in steps]
    logprobs = [float("-inf") if step.logprob is None else step.logprob for step in steps]
    return Entry(
        path=path,
        answer=found[path].answer,
        tokens=tokens,
        certainty=_mean(certainties, [step.tokens for step in steps]),
        logprob=sum(logprobs),
        parts=score.parts if score and score.value is not None else (),
        value=score.value if score else None,
    )


def _written(found: dict[Path, Any], path: Path) -> list[Path]:
    """The candidates whose steps make a solution: from the first, or from the last that answered a prompt of its own."""
    paths = lineage(path)
    last = max((i for i, each in enumerate(paths) if found[each].prompt is not None), default=0)
    return paths[last:]


def _mean(certainties: list[float], tokens: list[int]) -> float:
    """Over the tokens; where their numbers are not known (imported candidates), over the steps."""
    if not any(tokens):
        return sum(certainties) / len(certainties)
    return sum(c * n for c, n in zip(certainties, tokens, strict=True)) / sum(tokens)


def _traced(found: dict[Path, Any], pool: list[Entry]) -> list[Entry]:
    """The entries with the confidences of their tokens, decoded from the candidates' bytes."""
    blobs = [Packed(row.packed, row.extra) for row in found.values()]
    steps: dict[Path, Step] = dict(zip(found, unpack_all(blobs, [""] * len(blobs), [Finish.END] * len(blobs)), strict=True))
    source, traces = traced([[steps[p] for p in _written(found, entry.path)] for entry in pool])
    # what was written elsewhere may have no statistics of its tokens: that is no confidence, not one of 0
    known = [len(t) == e.tokens and (not len(t) or bool(np.isfinite(t).any())) for e, t in zip(pool, traces, strict=True)]
    return [
        replace(entry, confidences=trace if there else None, source=source)
        for entry, trace, there in zip(pool, traces, known, strict=True)
    ]


__all__ = ["entries", "pools", "score_of"]
