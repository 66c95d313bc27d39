"""The driver's journal, kept in a database: every reply is there before its strategy sees it.

Rows are buffered and written by `commit` in one transaction, all or none. Natural keys make writing idempotent: the
same reply written twice changes nothing. Open one journal for the attempts of one drive, after `runs.restart` of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Update, bindparam, update

from search.drive import Outcome
from search.tree import Tree, scored, state_of
from search.types import Candidate, Choice, Extend, Extension, Finish, Join, Path, Readings, Score, Step, Verify

from . import schema
from .database import Database, insert_new
from .values import clean, clean_or_none, dumps, finite, pack, view

Row = dict[str, Any]


@dataclass(slots=True)
class _Buffer:
    """Rows of one transaction, in the order in which the foreign keys need them."""

    started: dict[int, None] = field(default_factory=dict)  # attempts with a first reply; a dict keeps their order
    candidates: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    replies: list[Row] = field(default_factory=list)
    finals: list[Row] = field(default_factory=list)
    closings: list[Row] = field(default_factory=list)

    def write(self, connection: Connection) -> None:
        if self.started:
            connection.execute(_START, [{"at_attempt": attempt} for attempt in self.started])
        insert_new(connection, schema.candidate, self.candidates)
        insert_new(connection, schema.score, self.scores)
        # the target is the natural key, so that another reply under a number in use is an error, not silence
        insert_new(connection, schema.reply, self.replies, key=("attempt_id", "kind", "path"))
        if self.finals:
            connection.execute(_FINAL, self.finals)
        if self.closings:
            connection.execute(_CLOSE, self.closings)

    @property
    def empty(self) -> bool:
        return not (self.candidates or self.scores or self.replies or self.finals or self.closings)


@dataclass(slots=True)
class StoreJournal:
    """Writes the searches of one drive. `attempts` gives each search's attempt; a score's value is joined by `join`."""

    database: Database
    attempts: Mapping[int, int]  # Search.key -> attempt.id
    verifier: str = ""
    join: Join = Join.MIN
    _buffer: _Buffer = field(default_factory=_Buffer)
    _minted: Counter[int] = field(default_factory=Counter)
    _replies: Counter[int] = field(default_factory=Counter)

    def extended(self, search: int, request: Extend, reply: Extension) -> None:
        """Buffers the new candidates, in the state they are born in.

        A reply of the wrong size is not written: the tree refuses it, which ends that search and no other.
        """
        if not request.rows or len(request.rows) != len(reply.steps):
            return
        attempt = self.attempts[search]
        for row, step in zip(request.rows, reply.steps, strict=True):
            self._buffer.candidates.append(_candidate_row(attempt, row.path, step, self._minted[search]))
            self._minted[search] += 1
        cost = {
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.cached_tokens,
            "recomputed_tokens": reply.recomputed_tokens,
            "drafted_tokens": reply.drafted_tokens,
            "accepted_tokens": reply.accepted_tokens,
            "flops": finite(reply.flops),
            "queue_seconds": finite(reply.queue_seconds),
            "seconds": finite(reply.seconds),
        }
        self._reply(search, "extend", [row.path for row in request.rows], cost)

    def verified(self, search: int, request: Verify, reply: Readings) -> None:
        """Buffers the scores, by the rule by which the tree makes them. As above for one of the wrong size."""
        if not request.paths or len(request.paths) != len(reply.readings):
            return
        attempt = self.attempts[search]
        for path, reading in zip(request.paths, reply.readings, strict=True):
            score = scored(path, self.verifier, reading.parts, reading.reason, self.join)
            self._buffer.scores.append(self._score_row(attempt, score))
        cost = {
            "passes": [reading.passes for reading in reply.readings],
            "tokens": [reading.tokens for reading in reply.readings],
            "flops": [finite(reading.flops) for reading in reply.readings],
            "queue_seconds": finite(reply.queue_seconds),
            "seconds": finite(reply.seconds),
        }
        self._reply(search, "verify", list(request.paths), cost)

    def closed(self, outcome: Outcome) -> None:
        """Buffers how a search ended: its candidates' last states and answers, its choice or error, and its ledger."""
        search, tree = outcome.search.key, outcome.search.tree
        attempt = self.attempts[search]
        changed = (c for c in tree.candidates.values() if c.finished or tree.states[c.path] != state_of(c.step))
        self._buffer.finals += [_final_row(attempt, tree, candidate) for candidate in changed]
        # scores that no reply gave: those the budget of passes refused
        self._buffer.scores += [self._score_row(attempt, s) for s in tree.scores.values() if s.value is None]
        self._buffer.closings.append(_closing_row(attempt, outcome))
        self._minted.pop(search, None)
        self._replies.pop(search, None)

    def commit(self) -> None:
        """Writes all that is buffered in one transaction. Where that fails, the rows stay buffered."""
        if self._buffer.empty:
            return
        with self.database.write() as connection:
            self._buffer.write(connection)
        self._buffer = _Buffer()

    def _reply(self, search: int, kind: str, paths: list[Path], cost: Row) -> None:
        attempt = self.attempts[search]
        self._buffer.started[attempt] = None
        self._buffer.replies.append(
            {
                "attempt_id": attempt,
                "number": self._replies[search],
                "kind": kind,
                "path": paths[0],
                "paths": dumps(paths),
                "cost": dumps(cost),
            }
        )
        self._replies[search] += 1

    def _score_row(self, attempt: int, score: Score) -> Row:
        return {
            "attempt_id": attempt,
            "path": score.path,
            "verifier": self.verifier,
            "value": None if score.value is None else finite(score.value),
            "parts": dumps(score.parts),
            "reason": clean(score.reason),
            "join_rule": self.join.value,
        }


# ------------------------------------------------------------------------------------------------------------- the rows


def _candidate_row(attempt: int, path: Path, step: Step, number: int) -> Row:
    candidate = Candidate(path, step)
    state, cause = state_of(step)
    token_ids, stats = pack(step)
    text = view(step.text)
    waiting = "the search has not ended" if step.finish is Finish.END else f"not finished ({step.finish})"
    return {
        "attempt_id": attempt,
        "path": path,
        "parent": candidate.parent,
        "depth": candidate.depth,
        "number": number,
        "tokens": len(step),
        "token_ids": token_ids,
        "stats": stats,
        "text": text.text,
        "text_lossy": text.lossy,
        "text_truncated": text.truncated,
        "finish": step.finish.value,
        "state": state.value,
        "cause": cause,
        "answer": None,
        "answer_reason": waiting,
        "logprob": finite(step.logprob),
        "certainty": finite(step.certainty),
    }


def _final_row(attempt: int, tree: Tree, candidate: Candidate) -> Row:
    state, cause = tree.states[candidate.path]
    try:
        answer = tree.answer(candidate.path)
        key, reason = answer.key, answer.reason
    except Exception as error:  # an extractor's fault must not end the other searches of the drive
        key, reason = None, f"{type(error).__name__}: {error}"
    return {
        "at_attempt": attempt,
        "at_path": candidate.path,
        "new_state": state.value,
        "new_cause": clean(cause),
        "new_answer": clean_or_none(key),
        "new_answer_reason": clean(reason),
    }


def _closing_row(attempt: int, outcome: Outcome) -> Row:
    choice = outcome.choice or Choice(None, None, "the search failed")
    failed = outcome.choice is None
    values: Row = {
        "status": "failed" if failed else "done",
        "error": clean(outcome.error or "the search returned no choice") if failed else None,
        "path": choice.path,
        "answer": clean_or_none(choice.answer),
        "reason": clean(choice.reason),
        "votes": dumps([[clean(v.answer), v.count, finite(v.weight)] for v in choice.votes]),
        "seconds": finite(outcome.seconds),
        **{name: finite(value) for name, value in outcome.search.tree.usage.asdict().items()},
    }
    return {"at_attempt": attempt, **{f"new_{name}": value for name, value in values.items()}}


_CLOSING = ("status", "error", "path", "answer", "reason", "votes", "seconds", *schema.LEDGER)


def _open_attempt() -> Update:
    """An update of an attempt that is not closed: a closed one never changes."""
    table = schema.attempt
    still_open = (table.c.status != status for status in schema.CLOSED)  # executemany takes no NOT IN
    return update(table).where(table.c.id == bindparam("at_attempt"), *still_open)


_START = _open_attempt().values(status="running")
_CLOSE = _open_attempt().values({name: bindparam(f"new_{name}") for name in _CLOSING})
_FINAL = (
    update(schema.candidate)
    .where(schema.candidate.c.attempt_id == bindparam("at_attempt"), schema.candidate.c.path == bindparam("at_path"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "cause", "answer", "answer_reason")})
)
