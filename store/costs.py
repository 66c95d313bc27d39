"""The cost ledger as a sum over rows: what the candidates and the journal say that an attempt has cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from search.ledger import Usage
from search.tree import SPENT
from search.types import GIVEN_UP, State

from . import schema

_A, _C, _R, _S = schema.attempt.c, schema.candidate.c, schema.reply.c, schema.score.c

# the ledger's entry for each cost field of a reply, by the reply's kind
FIELDS = {
    "extend": {
        "prompt_tokens": "prompt_tokens",
        "cached_tokens": "cached_tokens",
        "recomputed_tokens": "recomputed_tokens",
        "drafted_tokens": "drafted_tokens",
        "accepted_tokens": "accepted_tokens",
        "small_tokens": "small_tokens",
        "shared_tokens": "shared_tokens",
        "shared_seconds": "shared_seconds",
        "flops": "flops",
        "queue_seconds": "queue_seconds",
        "seconds": "generate_seconds",
    },
    "verify": {
        "passes": "verifier_passes",
        "tokens": "verifier_tokens",
        "flops": "flops",
        "queue_seconds": "queue_seconds",
        "seconds": "verify_seconds",
    },
    "embed": {"tokens": "embedding_tokens", "flops": "flops", "queue_seconds": "queue_seconds", "seconds": "embed_seconds"},
}
_DROPPED = (State.PRUNED, State.MERGED)
UNSUMMED = ("store_seconds",)  # known only when a reply is written, so no row has it


def ledger(steps: Iterable[tuple[int, str, str, int]], replies: Iterable[tuple[str, str]], lacking: int) -> Usage:
    """The ledger of one attempt from its candidates (tokens, finish, state, reply), its replies (kind, cost as JSON) in order,
    and how many scores it lacks (`invalid`).

    Floats are added in the order of the replies, as the search added them: the sums are equal to the last bit.
    """
    usage = Usage(invalid_scores=lacking)
    longest: dict[int, int] = {}  # by reply: its rows ran side by side
    for tokens, finish, state, reply in steps:
        usage.candidates += 1
        usage.generated_tokens += tokens
        usage.cancelled_tokens += tokens if finish in GIVEN_UP else 0
        usage.pruned_tokens += tokens if state in _DROPPED else 0
        longest[reply] = max(longest.get(reply, 0), tokens)
    usage.sequential_tokens = sum(longest.values())
    for kind, cost in replies:
        for name, value in json.loads(cost).items():
            entry = FIELDS[kind][name]
            setattr(usage, entry, getattr(usage, entry) + value)
    return usage


def summed(connection: Connection, which: ColumnElement[bool]) -> Iterator[tuple[int, Usage, int]]:
    """Attempt, ledger and number of replies of each attempt that the condition (on attempt) chooses, in order of its id."""
    for attempt in connection.scalars(select(_A.id).where(which).order_by(_A.id)).all():
        steps = select(_C.tokens, _C.finish, _C.state, _C.reply).where(_C.attempt_id == attempt)
        replies = connection.execute(select(_R.kind, _R.cost).where(_R.attempt_id == attempt).order_by(_R.number)).all()
        scores = select(_S.value, _S.reason, _S.reply).where(_S.attempt_id == attempt, _S.value.is_(None))
        yield attempt, ledger(connection.execute(steps), replies, invalid(connection.execute(scores))), len(replies)


def invalid(scores: Iterable[Row[Any]]) -> int:
    """How many of the scores (value, reason, reply) a verifier was asked for and gave no number in [0, 1]."""
    return sum(row.value is None and row.reply is not None and not row.reason.startswith(SPENT) for row in scores)
