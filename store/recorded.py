"""What the journal has of one attempt, given out reply by reply to the search that asks for it again."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from search.drive import Diverged
from search.packing import unpack_all
from search.types import Embedding, Embeddings, Extension, Finish, Packed, Reading, Readings, Reply, Request, Step

from . import schema
from .values import exact_text


class _Kept(NamedTuple):
    """A reply's row."""

    number: int
    kind: str
    asked: str | None
    rows: int
    cost: dict[str, Any]


@dataclass(slots=True)
class Recorded:
    """The replies of one attempt that have not been given out yet, and what they brought, by reply."""

    replies: deque[_Kept]
    steps: dict[int, list[Step]]
    readings: dict[int, list[tuple[tuple[float, ...], str]]]
    vectors: dict[int, list[bytes]]

    def reply(self, request: Request) -> Reply | None:
        """The next reply, None after the last. Raises Diverged where it is the reply to another request, or not whole."""
        if not self.replies:
            return None
        found = self.replies.popleft()
        kind = type(request).__name__.lower()
        if (found.kind, found.asked) != (kind, request.digest):
            raise Diverged(
                f"reply {found.number} in the journal answers {found.kind} {found.asked}, and the search asks for {kind} "
                f"{request.digest}; the code or its input has changed since it was written"
            )
        reply, rows = self._rebuilt(found)
        if rows != found.rows:
            raise Diverged(f"reply {found.number} in the journal has {rows} of its {found.rows} rows; run `ponderosa audit`")
        return reply

    def _rebuilt(self, found: _Kept) -> tuple[Reply, int]:
        """A reply as it was given, and its size. A verifier's or an encoder's cost, known in sum, stands with its first
        answer."""
        cost = dict(found.cost)
        times = {name: cost.pop(name, 0.0) for name in ("queue_seconds", "seconds")}
        if found.kind == "extend":
            steps = tuple(self.steps.pop(found.number, ()))
            return Extension(steps, **cost, **times), len(steps)
        if found.kind == "verify":
            readings = [Reading(parts, reason) for parts, reason in self.readings.pop(found.number, ())]
            readings[:1] = [Reading(first.parts, first.reason, **cost) for first in readings[:1]]
            return Readings(tuple(readings), **times), len(readings)
        vectors = [np.frombuffer(blob, dtype="<f2").astype(np.float32) for blob in self.vectors.pop(found.number, ())]
        embeddings = tuple(Embedding(vector, **(cost if i == 0 else {})) for i, vector in enumerate(vectors))
        return Embeddings(embeddings, **times), len(embeddings)


def recorded(connection: Connection, attempt: int) -> Recorded:
    """All that the journal has of an attempt."""
    r, c, s, e = schema.reply.c, schema.candidate.c, schema.score.c, schema.embedding.c
    asked = select(r.number, r.kind, r.asked, r["count"], r.cost).where(r.attempt_id == attempt).order_by(r.number)
    replies = [_Kept(n, kind, digest, count, json.loads(cost)) for n, kind, digest, count, cost in connection.execute(asked)]
    found = Recorded(deque(replies), {}, {}, {})
    steps = select(c.reply, c.packed, c.extra, c.text, c.text_zlib, c.finish).where(c.attempt_id == attempt).order_by(c.number)
    rows = connection.execute(steps).all()
    blobs = [Packed(row.packed, row.extra) for row in rows]
    texts = [exact_text(row.text, row.text_zlib) for row in rows]
    for row, step in zip(rows, unpack_all(blobs, texts, [Finish(row.finish) for row in rows]), strict=True):
        found.steps.setdefault(row.reply, []).append(step)
    scores = select(s.reply, s.parts, s.reason).where(s.attempt_id == attempt, s.reply.is_not(None)).order_by(s.number)
    for number, parts, reason in connection.execute(scores):
        found.readings.setdefault(number, []).append((tuple(json.loads(parts)), reason))
    vectors = select(e.reply, e.vector).where(e.attempt_id == attempt).order_by(e.number)
    for number, vector in connection.execute(vectors):
        found.vectors.setdefault(number, []).append(vector)
    return found
