"""Verification and embedding in slices, so that neither side waits for the other: generation goes on between two slices.

Requests are served first come first served, whole or in parts: a slice holds up to `slice` traces of as many requests as
it has room for. When the next slice is due is a matter of counts, never of the clock: when it can be full, when the oldest
request has waited for `patience` turns, or when nothing else is there to do.

A request bounded in FLOPs or seconds is cut into parts by its own readings alone, and a part is not cut again: which of its
traces its FLOPs pay for does not depend on what else is queued. A trace's price is not known beforehand; it is taken to be
the highest a token among the readings so far. While there is none, and when less than twice the next price is left, a part is
one trace, so at most one trace's price is spent above the bound, as long as prices a token differ by less than a factor of two.
Seconds cannot be known beforehand: parts are of `CAREFUL` traces, and nothing is scored after the bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .checks import positive
from .types import Embed, Embedding, Embeddings, Encoder, Reading, Readings, Trace, Verifier, Verify

CAREFUL = 8  # traces scored between two looks at the clock, where seconds are bounded
SPENT = "the budget of {} is spent"

Asked = Verify | Embed
Verdict = tuple[int, Asked, Readings | Embeddings | Exception]  # the search, what it asked for, and what came of it
Got = TypeVar("Got", Reading, Embedding)


@dataclass(slots=True)
class _Request(Generic[Got]):
    """One search's request and how far it is."""

    search: int
    asked: Asked
    turn: int  # in which it came
    since: float
    got: list[Got] = field(default_factory=list)
    queue_seconds: float = 0.0
    seconds: float = 0.0
    flops: float = 0.0  # spent
    dearest: float | None = None  # FLOPs a token of the trace, of those that got a value

    @property
    def left(self) -> int:
        return len(self.asked.traces) - len(self.got)

    def part(self, most: int) -> int:
        """How many traces, of at most so many, are to be scored next without a look at what they cost; 0 where the bound is
        reached. A function of the request and of what its traces cost, and of nothing else."""
        if not isinstance(self.asked, Verify):
            return min(self.left, most)
        count = min(self.left, most)
        if self.asked.seconds is not None:
            count = min(count, CAREFUL) if self.seconds < self.asked.seconds else 0
        if self.asked.flops is None or not count:
            return count
        purse = self.asked.flops - self.flops
        if self.dearest is None:
            return 1 if purse > 0 else 0
        prices = [self.dearest * length(trace) for trace in self.asked.traces[len(self.got) :][:count]]
        if prices[0] > purse:
            return 0
        paid, fits = 0.0, 0
        while fits < count and paid + prices[fits] <= purse / 2:
            paid += prices[fits]
            fits += 1
        return max(fits, 1)

    @property
    def spent(self) -> str:
        """Which bound keeps the next trace from being scored."""
        late = isinstance(self.asked, Verify) and self.asked.seconds is not None and self.seconds >= self.asked.seconds
        return SPENT.format("seconds" if late else "FLOPs")

    def take(self, got: Sequence[Got]) -> None:
        """Keeps what came of the next traces, and what it tells of their price."""
        at = len(self.got)
        for one, trace in zip(got, self.asked.traces[at : at + len(got)], strict=True):
            self.flops += one.flops
            if isinstance(one, Reading) and one.parts:
                self.dearest = max(self.dearest or 0.0, one.flops / length(trace))
        self.got += got


def length(trace: Trace) -> int:
    """Tokens of a trace, its question's with them: what a price is estimated by."""
    return max(len(trace.question.tokens) + sum(map(len, trace.steps)), 1)


@dataclass(slots=True)
class _Desk(Generic[Got]):
    """Answers one kind of request. `work` gives one result a trace, in order; `unscored` is the result of a trace that a bound
    leaves out, given the reason."""

    work: Callable[[Sequence[Trace]], list[Got]]
    reply: Callable[[_Request[Got]], Readings | Embeddings]
    unscored: Callable[[str], Got] | None
    what: str  # for the error of a wrong count
    slice: int
    patience: int
    requests: dict[int, _Request[Got]] = field(default_factory=dict)  # by search, the oldest first
    turn: int = 0

    def advance(self, idle: bool) -> list[Verdict]:
        """One turn: at most one slice; the requests that are done with it, or failed in it."""
        self.turn += 1
        if not self._due(idle):
            return []
        parts = self._next()
        failed = self._score([part for part in parts if part[1]])
        ended: list[Verdict] = []
        for request, _ in parts:
            if request.search in failed:
                ended.append((request.search, request.asked, failed[request.search]))
                continue
            if request.left and not request.part(1):
                assert self.unscored is not None  # only a Verify has bounds
                request.got += [self.unscored(request.spent)] * request.left
            if not request.left:
                ended.append((request.search, request.asked, self.reply(request)))
        for search, *_ in ended:
            del self.requests[search]
        return ended

    def _due(self, idle: bool) -> bool:
        if not self.requests:
            return False
        oldest = next(iter(self.requests.values()))
        full = sum(request.left for request in self.requests.values()) >= self.slice
        return idle or full or self.turn - oldest.turn >= self.patience

    def _next(self) -> list[tuple[_Request[Got], Sequence[Trace]]]:
        """What of which requests is in the next slice."""
        parts: list[tuple[_Request[Got], Sequence[Trace]]] = []
        room = self.slice
        for request in self.requests.values():
            if not room:
                break
            bounded = isinstance(request.asked, Verify) and (request.asked.flops, request.asked.seconds) != (None, None)
            count = request.part(self.slice if bounded else room)
            if count > room:  # it comes next time, when it is among the first
                break
            at = len(request.got)
            parts.append((request, request.asked.traces[at : at + count]))
            room -= count
        return parts

    def _score(self, parts: Sequence[tuple[_Request[Got], Sequence[Trace]]]) -> dict[int, Exception]:
        """Scores the parts in one batch; where that fails, one request at a time, to find whose fault it is. The faults
        by search."""
        traces = [trace for _, part in parts for trace in part]
        if not traces:
            return {}
        began = time.monotonic()
        try:
            got = self.work(traces)
            if len(got) != len(traces):
                raise ValueError(f"{self.what.format(len(got))} for {len(traces)} traces")
        except Exception as error:  # a fault ends the search it befell
            if len(parts) == 1:
                return {parts[0][0].search: error}
            return {search: fault for part in parts for search, fault in self._score([part]).items()}
        share = (time.monotonic() - began) / len(traces)
        at = 0
        for request, part in parts:
            if not request.got:
                request.queue_seconds = began - request.since
            request.take(got[at : at + len(part)])
            request.seconds += share * len(part)
            at += len(part)
        return {}


@dataclass(slots=True)
class Judge:
    """Scores and embeds what many searches ask for: one desk for each. A request is answered when its last trace is done."""

    verifier: Verifier | None
    encoder: Encoder | None = None
    slice: int = 64  # traces of a kind between two generator steps
    patience: int = 4  # turns a request may wait for company
    _readings: _Desk[Reading] | None = field(init=False, default=None)
    _vectors: _Desk[Embedding] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        positive(slice=self.slice, patience=self.patience)
        if self.verifier is not None:
            says = "the verifier gave {} readings"
            self._readings = _Desk(self.verifier.score, _readings, _unscored, says, self.slice, self.patience)
        if self.encoder is not None:
            says = "the encoder gave {} vectors"
            self._vectors = _Desk(self.encoder.embed, _embeddings, None, says, self.slice, self.patience)

    def submit(self, search: int, request: Asked) -> None:
        """Queues a request; one at a time for each search. ValueError where the run has nobody who could answer it."""
        desk = self._readings if isinstance(request, Verify) else self._vectors
        if desk is None:
            who = "a verifier" if isinstance(request, Verify) else "an encoder"
            raise ValueError(f"this strategy needs {who}, and the run has none")
        desk.requests[search] = _Request(search, request, desk.turn, time.monotonic())

    def forget(self, search: int) -> None:
        """The search is over: what is left of its request is not scored."""
        for desk in (self._readings, self._vectors):
            if desk is not None:
                desk.requests.pop(search, None)

    def advance(self, idle: bool) -> list[Verdict]:
        """One turn: at most one slice of each kind; the requests that are done with it, or failed in it. `idle`: there is
        nothing else to do, so nothing is to be waited for."""
        return [verdict for desk in (self._readings, self._vectors) if desk is not None for verdict in desk.advance(idle)]


def _readings(request: _Request[Reading]) -> Readings:
    return Readings(tuple(request.got), request.queue_seconds, request.seconds)


def _embeddings(request: _Request[Embedding]) -> Embeddings:
    return Embeddings(tuple(request.got), request.queue_seconds, request.seconds)


def _unscored(reason: str) -> Reading:
    return Reading((), reason=reason)
