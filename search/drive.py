"""Drives many searches over one generator, one verifier and one encoder.

Event by event: a search goes on the moment its own reply is there. Whatever the searches ask for goes to one
generator, which batches it token by token; between two of its steps at most one slice of what is to be verified or
embedded is computed. Every reply is journaled before the strategy sees it; while a journal writes, the other searches go
on. What the journal already holds is replayed: nothing that was answered is asked for again. A search that fails ends
alone. A generator or a journal that fails ends the drive; what the searches held of the generator is given back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from .checks import positive
from .judge import Judge
from .packing import rounded
from .strategies import Strategy
from .tree import Tree
from .types import Ask, Choice, Embed, Encoder, Extend, Extension, Reply, Request, TextGenerator, Verifier, Verify


class Journal(Protocol):
    """Where a search's beginning, its replies and its end are written before they take effect."""

    def started(self, search: int) -> None:
        """Buffers that a search begins, or begins again."""

    def stored(self, search: int, request: Request) -> Reply | None:
        """The reply to the search's next request where the journal has it. Raises Diverged where it has one to another."""

    def answered(self, search: int, request: Request, reply: Reply) -> None:
        """Buffers a reply."""

    def closed(self, outcome: Outcome) -> None:
        """Buffers how a search ended."""

    def commit(self) -> int:
        """Hands over what is buffered, to be there whole or not at all; a number that rises."""

    def written(self, number: int, wait: bool) -> float | None:
        """None while the commit is on its way, else the seconds its writing took. Raises what its writing raised."""


class Diverged(Exception):
    """A search asks for something else than it did when its journal was written: the code or its input has changed."""

    exit_code = 65


class NoJournal:
    """Keeps nothing: for a search whose tree is all that is wanted."""

    def started(self, search: int) -> None:
        pass

    def stored(self, search: int, request: Request) -> Reply | None:
        return None

    def answered(self, search: int, request: Request, reply: Reply) -> None:
        pass

    def closed(self, outcome: Outcome) -> None:
        pass

    def commit(self) -> int:
        return 0

    def written(self, number: int, wait: bool) -> float | None:
        return 0.0


@dataclass(slots=True)
class Search:
    """One attempt at one problem. `key` is the caller's number for it, unique in one drive."""

    key: int
    tree: Tree
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a search ended: with a choice, or with an error."""

    search: Search
    choice: Choice | None
    error: str = ""
    exception: Exception | None = None
    seconds: float = 0.0  # from its start to its end


@dataclass(slots=True)
class _Running:
    search: Search
    steps: Ask[Choice]
    started: float


REPLAYED = 16  # stored replies after which the searches that are under way get their turn

_Answered = tuple[int, Request, Reply]  # the search, what it asked for, and the reply


@dataclass(slots=True)
class _Writing:
    """What waits for a commit: searches that begin (None) or have a reply, or that have ended."""

    number: int
    buffering: float  # seconds
    replies: list[tuple[int, Reply | None]] = field(default_factory=list)
    ended: list[Outcome] = field(default_factory=list)


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Driver:
    """Holds up to `concurrency` searches at once and yields outcomes as they end."""

    generator: TextGenerator
    verifier: Verifier | None = None
    journal: Journal = field(default_factory=NoJournal)
    concurrency: int = 64
    patience: int = 4  # generator steps a verification may wait for company
    slice: int = 64  # traces verified between two generator steps
    encoder: Encoder | None = None
    pulse: Callable[[], None] = _nothing  # called once a turn: a sign of life; what it raises ends the drive
    _judge: Judge = field(init=False)
    _running: dict[int, _Running] = field(default_factory=dict)
    _asked: dict[int, Extend] = field(default_factory=dict)
    _judging: set[int] = field(default_factory=set)
    _begun: list[int] = field(default_factory=list)
    _starting: deque[int] = field(default_factory=deque)  # whose beginning is written
    _ended: list[Outcome] = field(default_factory=list)
    _writing: deque[_Writing] = field(default_factory=deque)

    def __post_init__(self) -> None:
        positive(concurrency=self.concurrency)
        self._judge = Judge(self.verifier, self.encoder, self.slice, self.patience)

    def drive(self, searches: Iterable[Search]) -> Iterator[Outcome]:
        """Runs all searches; outcomes come in the order in which they end."""
        try:
            yield from self._drive(iter(searches))
        finally:  # a drive that is left half way: the generator outlives it and must not answer it later
            for key in self._running:
                self._forget(key)
            self._running, self._asked, self._begun, self._ended, self._writing = {}, {}, [], [], deque()
            self._starting.clear()

    # ------------------------------------------------------------------------------------------------------- internals

    def _drive(self, waiting: Iterator[Search]) -> Iterator[Outcome]:
        more = True
        while True:
            self.pulse()
            while more and self._held < self.concurrency:
                search = next(waiting, None)
                if search is None:
                    more = False
                    break
                self._start(search)
            if not self._held:
                return
            if not self.generator.busy:
                self._lost()
            self._write([*self._generated(), *self._judged()])
            yield from self._settled()
            self._begin()

    @property
    def _held(self) -> int:
        return len(self._running) + len(self._ended) + sum(len(each.ended) for each in self._writing)

    def _start(self, search: Search) -> None:
        if search.key in self._running:
            raise ValueError(f"two searches at once have the key {search.key}")
        self._running[search.key] = _Running(search, _steps(search), time.monotonic())
        self.journal.started(search.key)
        self._begun.append(search.key)

    def _lost(self) -> None:
        """Ends the searches whose request an idle generator does not have: nothing would ever wake them."""
        for key in list(self._asked):
            self._end(key, None, RuntimeError("the generator is idle and has not answered"))

    def _resume(self, key: int, reply: Reply | None) -> int:
        """Gives a search its reply, then all that the journal has for it, and queues what it asks for next; how many replies
        the journal had."""
        running, replayed = self._running[key], 0
        try:
            while True:
                request = running.steps.send(reply) if reply is not None else next(running.steps)
                reply = self.journal.stored(key, request)
                if reply is None:
                    break
                replayed += 1
            self._ask(key, request)
        except StopIteration as stop:
            chosen = isinstance(stop.value, Choice)
            error = None if chosen else TypeError(f"the strategy returned {stop.value!r}, not a Choice")
            self._end(key, stop.value if chosen else None, error)
        except Exception as error:  # a strategy's fault ends its own search, whatever it is
            self._end(key, None, error)
        return replayed

    def _ask(self, key: int, request: Request) -> None:
        if isinstance(request, Verify | Embed):
            self._judge.submit(key, request)
            self._judging.add(key)
        elif isinstance(request, Extend):
            self.generator.submit(key, request)
            self._asked[key] = request
        else:
            raise TypeError(f"a search asked for {request!r}")

    def _end(self, key: int, choice: Choice | None, error: Exception | None) -> None:
        running = self._running.pop(key)
        self._asked.pop(key, None)
        self._forget(key)
        running.search.tree.settle()
        seconds = time.monotonic() - running.started
        said = f"{type(error).__name__}: {error}" if error else ""
        self._ended.append(Outcome(running.search, choice, said, error, seconds))

    def _forget(self, key: int) -> None:
        self.generator.forget(key)
        self._judge.forget(key)
        self._judging.discard(key)

    def _generated(self) -> list[_Answered]:
        ready: list[_Answered] = []
        if self.generator.busy:
            for key, reply in self.generator.advance():
                request = self._asked.pop(key)
                if isinstance(reply, Exception):
                    self._end(key, None, reply)
                else:
                    ready.append((key, request, reply))
        return ready

    def _judged(self) -> list[_Answered]:
        ready: list[_Answered] = []
        for key, request, reply in self._judge.advance(idle=not self.generator.busy):
            self._judging.discard(key)
            if isinstance(reply, Exception):
                self._end(key, None, reply)
            else:
                ready.append((key, request, reply))
        return ready

    def _write(self, ready: list[_Answered]) -> None:
        """Hands the journal what has begun, what was answered and what has ended, in one commit."""
        if not (ready or self._begun or self._ended):
            return
        began = time.monotonic()
        replies: list[tuple[int, Reply | None]] = [(key, None) for key in self._begun]
        for key, request, reply in _packed(ready):
            self.journal.answered(key, request, reply)
            replies.append((key, reply))
        for outcome in self._ended:
            self.journal.closed(outcome)
        number = self.journal.commit()
        self._writing.append(_Writing(number, time.monotonic() - began, replies, self._ended))
        self._begun, self._ended = [], []

    def _settled(self) -> Iterator[Outcome]:
        """Lets the searches go on whose replies are written, and gives out the outcomes that are; waits for the journal only
        where there is nothing else to do."""
        while self._writing:
            idle = not (self.generator.busy or self._judging or self._begun or self._ended or self._starting)
            seconds = self.journal.written(self._writing[0].number, wait=idle)
            if seconds is None:
                return
            done = self._writing.popleft()
            share = (seconds + done.buffering) / max(len(done.replies), 1)
            for key, reply in done.replies:
                self._running[key].search.tree.usage.store_seconds += share
                if reply is None:
                    self._starting.append(key)
                else:
                    self._resume(key, reply)
            yield from done.ended

    def _begin(self) -> None:
        """Lets searches begin: all, but that one which has much to replay does not hold up those under way."""
        replayed = 0
        while self._starting and replayed < REPLAYED:
            replayed += self._resume(self._starting.popleft(), None)


def _packed(ready: list[_Answered]) -> list[_Answered]:
    """The replies with their steps rounded, all in one go: for the journal's bytes and for the tree."""
    steps = iter(rounded([s for _, _, reply in ready if isinstance(reply, Extension) for s in reply.steps]))
    return [
        (key, request, replace(reply, steps=tuple(next(steps) for _ in reply.steps)) if isinstance(reply, Extension) else reply)
        for key, request, reply in ready
    ]


def _steps(search: Search) -> Ask[Choice]:
    """The search itself, wrapped so that one which fails before its first request fails like any other."""
    return (yield from search.strategy.search(search.tree))
