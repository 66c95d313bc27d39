"""Drives many searches over one generator and one verifier.

Event by event: a search goes on the moment its own reply is there. Whatever the searches ask for goes to one
generator, which batches it token by token; between two of its steps at most one slice of what is to be verified is
scored. Every reply is journaled before the strategy sees it, and replies that come together are committed together. A
search that fails ends alone. A generator or a journal that fails ends the drive; what the searches held of the generator
is given back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .checks import positive
from .judge import Judge
from .strategies import Strategy
from .tree import Tree
from .types import Ask, Choice, Extend, Extension, Readings, Reply, Request, TextGenerator, Verifier, Verify


class Journal(Protocol):
    """Where replies are written before a strategy sees them. Rows of one `commit` are all there or none of them."""

    def extended(self, search: int, request: Extend, reply: Extension) -> None: ...

    def verified(self, search: int, request: Verify, reply: Readings) -> None: ...

    def closed(self, outcome: Outcome) -> None: ...

    def commit(self) -> None: ...


class NoJournal:
    """Keeps nothing: for a search whose tree is all that is wanted."""

    def extended(self, search: int, request: Extend, reply: Extension) -> None:
        pass

    def verified(self, search: int, request: Verify, reply: Readings) -> None:
        pass

    def closed(self, outcome: Outcome) -> None:
        pass

    def commit(self) -> None:
        pass


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


_Answered = tuple[int, Request, Reply]  # the search, what it asked for, and the reply


@dataclass(slots=True)
class Driver:
    """Holds up to `concurrency` searches at once and yields outcomes as they end."""

    generator: TextGenerator
    verifier: Verifier | None = None
    journal: Journal = field(default_factory=NoJournal)
    concurrency: int = 64
    patience: int = 4  # generator steps a verification may wait for company
    slice: int = 64  # traces verified between two generator steps
    _judge: Judge = field(init=False)
    _running: dict[int, _Running] = field(default_factory=dict)
    _asked: dict[int, Extend] = field(default_factory=dict)
    _ended: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        positive(concurrency=self.concurrency)
        self._judge = Judge(self.verifier, self.slice, self.patience)

    def drive(self, searches: Iterable[Search]) -> Iterator[Outcome]:
        """Runs all searches; outcomes come in the order in which they end."""
        try:
            yield from self._drive(iter(searches))
        finally:  # a drive that is left half way: the generator outlives it and must not answer it later
            for key in self._running:
                self._forget(key)
            self._running, self._asked, self._ended = {}, {}, []

    # ------------------------------------------------------------------------------------------------------- internals

    def _drive(self, waiting: Iterator[Search]) -> Iterator[Outcome]:
        more = True
        while True:
            while more and len(self._running) + len(self._ended) < self.concurrency:
                search = next(waiting, None)
                if search is None:
                    more = False
                    break
                self._start(search)
            if not self._running and not self._ended:
                return
            if not self.generator.busy:
                self._lost()
            self._deliver([*self._generated(), *self._verified()])
            yield from self._flush()

    def _start(self, search: Search) -> None:
        if search.key in self._running:
            raise ValueError(f"two searches at once have the key {search.key}")
        self._running[search.key] = _Running(search, _steps(search), time.monotonic())
        self._resume(search.key, None)

    def _lost(self) -> None:
        """Ends the searches whose request an idle generator does not have: nothing would ever wake them."""
        for key in list(self._asked):
            self._end(key, None, RuntimeError("the generator is idle and has not answered"))

    def _resume(self, key: int, reply: Reply | None) -> None:
        """Gives a search its reply and queues what it asks for next."""
        running = self._running[key]
        try:
            request = running.steps.send(reply) if reply is not None else next(running.steps)
            self._ask(key, request)
        except StopIteration as stop:
            chosen = isinstance(stop.value, Choice)
            error = None if chosen else TypeError(f"the strategy returned {stop.value!r}, not a Choice")
            self._end(key, stop.value if chosen else None, error)
        except Exception as error:  # a strategy's fault ends its own search, whatever it is
            self._end(key, None, error)

    def _ask(self, key: int, request: Request) -> None:
        if isinstance(request, Verify):
            self._judge.submit(key, request)
        elif isinstance(request, Extend):
            self.generator.submit(key, request)
            self._asked[key] = request
        else:
            raise TypeError(f"a search asked for {request!r}")

    def _end(self, key: int, choice: Choice | None, error: Exception | None) -> None:
        running = self._running.pop(key)
        self._asked.pop(key, None)
        self._forget(key)
        seconds = time.monotonic() - running.started
        said = f"{type(error).__name__}: {error}" if error else ""
        self._ended.append(Outcome(running.search, choice, said, error, seconds))

    def _forget(self, key: int) -> None:
        self.generator.forget(key)
        self._judge.forget(key)

    def _generated(self) -> list[_Answered]:
        if not self.generator.busy:
            return []
        return [(key, self._asked.pop(key), reply) for key, reply in self.generator.advance()]

    def _verified(self) -> list[_Answered]:
        ready: list[_Answered] = []
        for key, request, reply in self._judge.advance(idle=not self.generator.busy):
            if isinstance(reply, Exception):
                self._end(key, None, reply)
            else:
                ready.append((key, request, reply))
        return ready

    def _deliver(self, ready: list[_Answered]) -> None:
        """Journals all replies, commits them together, and only then lets the searches go on."""
        if not ready:
            return
        began = time.monotonic()
        for key, request, reply in ready:
            if isinstance(request, Extend) and isinstance(reply, Extension):
                self.journal.extended(key, request, reply)
            elif isinstance(request, Verify) and isinstance(reply, Readings):
                self.journal.verified(key, request, reply)
        self.journal.commit()
        share = (time.monotonic() - began) / len(ready)
        for key, _, reply in ready:
            self._running[key].search.tree.usage.store_seconds += share
            self._resume(key, reply)

    def _flush(self) -> Iterator[Outcome]:
        ended, self._ended = self._ended, []
        if ended:
            for outcome in ended:
                self.journal.closed(outcome)
            self.journal.commit()
        yield from ended


def _steps(search: Search) -> Ask[Choice]:
    """The search itself, wrapped so that one which fails before its first request fails like any other."""
    return (yield from search.strategy.search(search.tree))
