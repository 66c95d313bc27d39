"""The driver's journal, kept in a database: every reply is there before its strategy sees it.

Rows are buffered; `commit` hands them to a writer thread, which writes all or none of them in one transaction, together with
other commits that have come meanwhile. Natural keys make writing idempotent: the same reply written twice changes nothing.
With a lease, each transaction is fenced by its epoch. What a search was answered before, in this process or in an earlier one,
is given to it again, and a search that asks for something else than the journal says is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, bindparam, select, update

from search.drive import Diverged, Outcome
from search.packing import packed
from search.tree import SPENT, Tree, scored, state_of
from search.types import (
    Candidate,
    Choice,
    Embed,
    Embeddings,
    Extend,
    Extension,
    Finish,
    Join,
    Path,
    Readings,
    Reply,
    Request,
    Score,
    Step,
    Verify,
)

from . import schema
from .database import Database, insert_new
from .leases import Lease
from .recorded import Recorded, recorded
from .values import clean, clean_or_none, dumps, finite, pack_ids, stored_text
from .writer import Writer

Row = dict[str, Any]
IN_HASTE = 5.0  # seconds for the last commits of a drive that was broken off: a database that is away is not waited for


class Grade(NamedTuple):
    """What a grader says of an attempt."""

    verdict: str  # schema.VERDICTS
    correct: bool | None  # None: not decided
    grader: str


@dataclass(slots=True)
class _Buffer:
    """Rows of one transaction, in the order in which the foreign keys need them."""

    started: dict[int, None] = field(default_factory=dict)  # attempts that begin; a dict keeps their order
    replies: list[Row] = field(default_factory=list)
    candidates: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    embeddings: list[Row] = field(default_factory=list)
    finals: list[Row] = field(default_factory=list)
    tries: list[Row] = field(default_factory=list)
    closings: list[Row] = field(default_factory=list)

    def add(self, other: _Buffer) -> None:
        self.started |= other.started
        self.replies += other.replies
        self.candidates += other.candidates
        self.scores += other.scores
        self.embeddings += other.embeddings
        self.finals += other.finals
        self.tries += other.tries
        self.closings += other.closings

    def write(self, connection: Connection) -> None:
        if self.started:
            connection.execute(_START, [{"at_attempt": attempt} for attempt in self.started])
        insert_new(connection, schema.reply, self.replies)
        insert_new(connection, schema.candidate, self.candidates)
        insert_new(connection, schema.score, self.scores)
        insert_new(connection, schema.embedding, self.embeddings)
        for statement, rows in ((_FINAL, self.finals), (_TRY, self.tries), (_CLOSE, self.closings)):
            if rows:
                connection.execute(statement, rows)

    @property
    def progress(self) -> int:
        """How much further the work is with it."""
        return len(self.replies) + len(self.tries) + len(self.closings)

    @property
    def empty(self) -> bool:
        return not (self.started or self.progress or self.candidates or self.scores or self.embeddings or self.finals)


@dataclass(slots=True)
class StoreJournal:
    """Writes the searches of one drive. `attempts` gives each search's attempt, and may grow while it writes; a score's value
    is joined by `join`."""

    database: Database
    attempts: Mapping[int, int]  # Search.key -> attempt.id
    verifier: str = ""
    join: Join = Join.MIN
    encoder: str = ""
    lease: Lease | None = None
    judge: Callable[[Outcome], Grade] | None = None  # grades an attempt that closes
    tries: Mapping[int, int] = field(default_factory=dict)  # attempt.id -> tries before; the last one that is allowed closes it
    most_tries: int = 1
    _buffer: _Buffer = field(default_factory=_Buffer)
    _writer: Writer[_Buffer] = field(init=False)
    _replies: Counter[int] = field(default_factory=Counter)  # by search
    _minted: Counter[int] = field(default_factory=Counter)
    _scored: Counter[int] = field(default_factory=Counter)
    _embedded: Counter[int] = field(default_factory=Counter)
    _tried: Counter[int] = field(default_factory=Counter)  # in this drive
    _records: dict[int, Recorded] = field(default_factory=dict)
    _unread: set[int] = field(default_factory=set)  # searches whose journal is still to be read
    _journaled: set[int] = field(default_factory=set)  # attempts that have replies
    _looked: set[int] = field(default_factory=set)  # attempts of which it is known whether they have
    _grades: dict[int, Grade] = field(default_factory=dict)  # by search

    def __post_init__(self) -> None:
        self._writer = Writer(self._write)

    # ---------------------------------------------------------------------------------------------- what a driver calls

    def started(self, search: int) -> None:
        """Buffers that the attempt runs, and finds out whether its journal has something."""
        attempt = self.attempts[search]
        self._buffer.started[attempt] = None
        self._forget(search)
        if attempt not in self._looked:  # those that came since the last look, in one go
            fresh = set(self.attempts.values()) - self._looked
            self._journaled |= self.database.consult(lambda connection: self._with_replies(connection, fresh))
            self._looked |= fresh
        if attempt in self._journaled:
            self._unread.add(search)

    def stored(self, search: int, request: Request) -> Reply | None:
        """The next reply of the journal, None after the last. Raises Diverged where it is the reply to another request."""
        if search in self._unread:
            self._unread.remove(search)
            self._records[search] = self.database.consult(lambda connection: recorded(connection, self.attempts[search]))
        record = self._records.get(search)
        reply = None if record is None else record.reply(request)
        if reply is None:
            self._records.pop(search, None)
            return None
        self._replies[search] += 1
        if isinstance(reply, Extension):
            self._minted[search] += len(reply.steps)
        elif isinstance(reply, Readings):
            self._scored[search] += len(reply.readings)
        else:
            self._embedded[search] += len(reply.embeddings)
        return reply

    def answered(self, search: int, request: Request, reply: Reply) -> None:
        """Buffers a reply with its candidates, in the state they are born in, its scores or its vectors.

        One of the wrong kind or size is not written: the tree refuses it, which ends that search and no other.
        """
        if isinstance(request, Extend) and isinstance(reply, Extension):
            asked, cost = len(request.rows), self._extended(search, request, reply)
        elif isinstance(request, Verify) and isinstance(reply, Readings):
            asked, cost = len(request.paths), self._verified(search, request, reply)
        elif isinstance(request, Embed) and isinstance(reply, Embeddings):
            asked, cost = len(request.paths), self._with_vectors(search, request, reply)
        else:
            return
        if cost is None:
            return
        cost |= {"queue_seconds": reply.queue_seconds, "seconds": reply.seconds}
        self._buffer.replies.append(
            {
                "attempt_id": self.attempts[search],
                "number": self._replies[search],
                "kind": type(request).__name__.lower(),
                "asked": request.digest,
                "count": asked,
                # 0 and what is no number is left out
                "cost": dumps({name: value for name, value in cost.items() if finite(value)}),
            }
        )
        self._replies[search] += 1

    def _extended(self, search: int, request: Extend, reply: Extension) -> Row | None:
        """Buffers the candidates; the cost, or None where the reply has the wrong size."""
        if not request.rows or len(request.rows) != len(reply.steps):
            return None
        for row, step in zip(request.rows, reply.steps, strict=True):
            self._buffer.candidates.append(self._candidate_row(search, row.path, step, request.prompt))
        return {
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.cached_tokens,
            "recomputed_tokens": reply.recomputed_tokens,
            "drafted_tokens": reply.drafted_tokens,
            "accepted_tokens": reply.accepted_tokens,
            "small_tokens": reply.small_tokens,
            "shared_tokens": reply.shared_tokens,
            "shared_seconds": reply.shared_seconds,
            "flops": reply.flops,
        }

    def _verified(self, search: int, request: Verify, reply: Readings) -> Row | None:
        """Buffers the scores, by the rule by which the tree makes them; the cost, as above."""
        if not request.paths or len(request.paths) != len(reply.readings):
            return None
        for path, reading in zip(request.paths, reply.readings, strict=True):
            score = scored(path, self.verifier, reading.parts, reading.reason, self.join)
            self._buffer.scores.append(self._score_row(search, score, self._replies[search]))
        return {
            "passes": sum(reading.passes for reading in reply.readings),
            "tokens": sum(reading.tokens for reading in reply.readings),
            "flops": sum(reading.flops for reading in reply.readings),
        }

    def _with_vectors(self, search: int, request: Embed, reply: Embeddings) -> Row | None:
        """Buffers the vectors; the cost, as above."""
        if not request.paths or len(request.paths) != len(reply.embeddings):
            return None
        for path, embedding in zip(request.paths, reply.embeddings, strict=True):
            row = {
                "attempt_id": self.attempts[search],
                "path": path,
                "encoder": self.encoder,
                "vector": embedding.vector.astype("<f2").tobytes(),
                "reply": self._replies[search],
                "number": self._embedded[search],
            }
            self._embedded[search] += 1
            self._buffer.embeddings.append(row)
        return {
            "tokens": sum(embedding.tokens for embedding in reply.embeddings),
            "flops": sum(embedding.flops for embedding in reply.embeddings),
        }

    def closed(self, outcome: Outcome) -> None:
        """Buffers how a search ended: its candidates' last states and answers, its choice or error, its grade, its ledger.

        A search that failed and may be tried again is not closed, nor is one that is not the search of its journal.
        """
        search, tree = outcome.search.key, outcome.search.tree
        attempt = self.attempts[search]
        if isinstance(outcome.exception, Diverged):
            self._forget(search)
            return
        if outcome.choice is None:
            self._tried[search] += 1
            tries = self.tries.get(attempt, 0) + self._tried[search]
            error = clean(outcome.error or "the search returned no choice")
            self._buffer.tries.append({"at_attempt": attempt, "new_tries": tries, "new_error": error})
            if tries < self.most_tries:
                if self._replies[search]:
                    self._journaled.add(attempt)
                self._forget(search)
                return
        # what the tree barred came as ended, and was written so
        told = (c for c in tree.candidates.values() if c.finished or c.step.finish is Finish.BARRED)
        changed = {
            c.path: c for c in (*told, *(c for c in tree.candidates.values() if tree.states[c.path] != state_of(c.step)))
        }
        self._buffer.finals += [_final_row(attempt, tree, candidate) for candidate in changed.values()]
        # scores that no reply gave: those that the budget refused
        refused = (s for s in tree.scores.values() if s.value is None and s.reason.startswith(SPENT))
        self._buffer.scores += [self._score_row(search, score, None) for score in refused]
        grade = self.judge(outcome) if self.judge is not None else None
        if grade is not None:
            self._grades[search] = grade
        self._buffer.closings.append(_closing_row(attempt, outcome, self._replies[search], grade))
        self._forget(search)

    def commit(self) -> int:
        """Hands all that is buffered to the writer; a number for `written`."""
        if self._buffer.empty:
            return self._writer.last
        buffer, self._buffer = self._buffer, _Buffer()
        return self._writer.submit(buffer)

    def written(self, number: int, wait: bool = True) -> float | None:
        """None while a commit is on its way, else the seconds its writing took. Raises what its writing raised."""
        return self._writer.written(number, wait)

    def right(self, search: int) -> bool:
        """Whether a search that was closed here was graded as correct."""
        return search in self._grades and self._grades[search].correct is True

    def close(self, patience: float | None = None) -> None:
        """Writes what was committed, and ends the writer; gives up after `patience` seconds."""
        self._writer.close(patience)

    def __enter__(self) -> StoreJournal:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close(None if raised[0] is None else IN_HASTE)

    # ------------------------------------------------------------------------------------------------------- internals

    def _write(self, buffers: list[_Buffer]) -> None:
        """In the writer's thread: one transaction."""
        whole = buffers[0]
        for buffer in buffers[1:]:
            whole.add(buffer)

        def work(connection: Connection) -> None:
            if self.lease is not None:
                self.lease.fence(connection, whole.progress)
            whole.write(connection)

        self.database.transact(work)

    def _with_replies(self, connection: Connection, ids: set[int]) -> set[int]:
        # by the attempts' range: their number may be over what a statement takes as parameters
        table = schema.reply.c
        within = table.attempt_id.between(min(ids, default=0), max(ids, default=0))
        return set(connection.scalars(select(table.attempt_id).where(table.number == 0, within)))

    def _forget(self, search: int) -> None:
        for counter in (self._replies, self._minted, self._scored, self._embedded):
            counter.pop(search, None)
        self._records.pop(search, None)
        self._unread.discard(search)

    def _candidate_row(self, search: int, path: Path, step: Step, prompt: str | None) -> Row:
        candidate = Candidate(path, step)
        state, cause = state_of(step)
        blob = step.packed or packed(step)
        text = stored_text(step.text, compress=self.database.is_sqlite)
        waiting = "the search has not ended" if step.finish is Finish.END else f"not finished ({step.finish})"
        self._minted[search] += 1
        return {
            "attempt_id": self.attempts[search],
            "path": path,
            "parent": candidate.parent,
            "depth": candidate.depth,
            "number": self._minted[search] - 1,
            "reply": self._replies[search],
            "tokens": len(step),
            "packed": blob.tokens,
            "extra": blob.extra,
            "prompt": clean_or_none(prompt),
            **text._asdict(),
            "finish": step.finish.value,
            "state": state.value,
            "cause": cause,
            "answer": None,
            "answer_reason": waiting,
            "logprob": finite(step.logprob),
            "certainty": finite(step.certainty),
        }

    def _score_row(self, search: int, score: Score, reply: int | None) -> Row:
        self._scored[search] += 1
        return {
            "attempt_id": self.attempts[search],
            "path": score.path,
            "verifier": self.verifier,
            "value": None if score.value is None else finite(score.value),
            "parts": dumps(score.parts),
            "reason": clean(score.reason),
            "join_rule": self.join.value,
            "reply": reply,
            "number": self._scored[search] - 1,
        }


# ------------------------------------------------------------------------------------------------------------- the rows


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


def _closing_row(attempt: int, outcome: Outcome, replies: int, grade: Grade | None) -> Row:
    choice = outcome.choice or Choice(None, None, "the search failed")
    failed = outcome.choice is None
    values: Row = {
        "status": "failed" if failed else "done",
        "replies": replies,
        "prompt_ids": pack_ids(outcome.search.tree.question.tokens),
        "path": choice.path,
        "answer": clean_or_none(choice.answer),
        "reason": clean(choice.reason),
        "votes": dumps([[clean(v.answer), v.count, finite(v.weight)] for v in choice.votes]),
        "seconds": finite(outcome.seconds),
        "verdict": grade.verdict if grade else None,
        "correct": grade.correct if grade else None,
        "grader": clean(grade.grader) if grade else None,
        **{name: finite(value) for name, value in outcome.search.tree.usage.asdict().items()},
    }
    return {"at_attempt": attempt, **{f"new_{name}": value for name, value in values.items()}}


_CLOSING = (
    *("status", "replies", "prompt_ids", "path", "answer", "reason", "votes", "seconds", "verdict", "correct", "grader"),
    *schema.LEDGER,
)


def _open_attempt() -> Update:
    """An update of an attempt that is not closed: a closed one never changes, nor does one that is written again."""
    table = schema.attempt
    still_open = (table.c.status != status for status in schema.CLOSED)  # executemany takes no NOT IN
    return update(table).where(table.c.id == bindparam("at_attempt"), *still_open)


_START = _open_attempt().values(status="running")
_TRY = _open_attempt().values(tries=bindparam("new_tries"), error=bindparam("new_error"))
_CLOSE = _open_attempt().values({name: bindparam(f"new_{name}") for name in _CLOSING})
_FINAL = (
    update(schema.candidate)
    .where(schema.candidate.c.attempt_id == bindparam("at_attempt"), schema.candidate.c.path == bindparam("at_path"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "cause", "answer", "answer_reason")})
)
