"""Verification in slices, so that neither side waits for the other: generation goes on between two slices.

Requests are served first come first served, whole or in parts: a slice holds up to `slice` traces of as many requests as
it has room for. When the next slice is due is a matter of counts, never of the clock: when it can be full, when the oldest
request has waited for `patience` turns, or when nothing else is there to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .checks import positive
from .types import Reading, Readings, Trace, Verifier, Verify

Verdict = tuple[int, Verify, Readings | Exception]  # the search, what it asked for, and what came of it


@dataclass(slots=True)
class _Request:
    """One search's request and how far it is."""

    search: int
    asked: Verify
    turn: int  # in which it came
    since: float
    readings: list[Reading] = field(default_factory=list)
    queue_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def left(self) -> int:
        return len(self.asked.traces) - len(self.readings)


_Part = tuple[_Request, Sequence[Trace]]  # what of a request is in a slice


@dataclass(slots=True)
class Judge:
    """Scores what many searches ask for. A request is answered when its last trace has its reading."""

    verifier: Verifier | None
    slice: int = 64  # traces scored between two generator steps
    patience: int = 4  # turns a request may wait for company
    _requests: dict[int, _Request] = field(default_factory=dict)  # by search, the oldest first
    _turn: int = 0

    def __post_init__(self) -> None:
        positive(slice=self.slice, patience=self.patience)

    def submit(self, search: int, request: Verify) -> None:
        """Queues a request; one at a time for each search."""
        if self.verifier is None:
            raise ValueError("this strategy needs a verifier, and the run has none")
        self._requests[search] = _Request(search, request, self._turn, time.monotonic())

    def forget(self, search: int) -> None:
        """The search is over: what is left of its request is not scored."""
        self._requests.pop(search, None)

    def advance(self, idle: bool) -> list[Verdict]:
        """One turn: scores at most one slice; the requests that are done with it, or failed in it. `idle`: there is
        nothing else to do, so nothing is to be waited for."""
        self._turn += 1
        if not self._due(idle):
            return []
        parts = self._next()
        failed = self._score(parts)
        ended: list[Verdict] = []
        for request, _ in parts:
            if request.search in failed:
                ended.append((request.search, request.asked, failed[request.search]))
            elif not request.left:
                readings = Readings(tuple(request.readings), request.queue_seconds, request.seconds)
                ended.append((request.search, request.asked, readings))
        for search, *_ in ended:
            self.forget(search)
        return ended

    def _due(self, idle: bool) -> bool:
        if not self._requests:
            return False
        oldest = next(iter(self._requests.values()))
        full = sum(request.left for request in self._requests.values()) >= self.slice
        return idle or full or self._turn - oldest.turn >= self.patience

    def _next(self) -> list[_Part]:
        parts: list[_Part] = []
        room = self.slice
        for request in self._requests.values():
            if not room:
                break
            at = len(request.readings)
            part = request.asked.traces[at : at + room]
            parts.append((request, part))
            room -= len(part)
        return parts

    def _score(self, parts: Sequence[_Part]) -> dict[int, Exception]:
        """Scores the parts in one batch; where that fails, one request at a time, to find whose fault it is. The faults
        by search."""
        assert self.verifier is not None  # else nothing was submitted
        began = time.monotonic()
        try:
            traces = [trace for _, part in parts for trace in part]
            readings = self.verifier.score(traces)
            if len(readings) != len(traces):
                raise ValueError(f"the verifier gave {len(readings)} readings for {len(traces)} traces")
        except Exception as error:  # a verifier's fault ends the search it befell
            if len(parts) == 1:
                return {parts[0][0].search: error}
            return {search: fault for part in parts for search, fault in self._score([part]).items()}
        share = (time.monotonic() - began) / max(len(traces), 1)
        at = 0
        for request, part in parts:
            if not request.readings:
                request.queue_seconds = began - request.since
            request.readings += readings[at : at + len(part)]
            request.seconds += share * len(part)
            at += len(part)
        return {}
