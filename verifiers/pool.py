"""A warm pool of grading children: gradings run side by side, and one that is killed holds up no other.

Nothing is started before the first request. From then on there is one child more than are at work, up to `size`, so that
whoever comes next finds one that is up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from .child import Child


def default_size() -> int:
    """The processors that this process may use, at least 2."""
    try:
        return max(2, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return max(2, os.cpu_count() or 1)


class Pool:
    """Grading children, shared by any number of threads. `seconds` is the wall limit of one request, in a child that is up."""

    def __init__(self, size: int | None = None, seconds: float = 5.0) -> None:
        if size is not None and size < 1:
            raise ValueError(f"a pool needs at least 1 child, not {size}")
        self.size = size or default_size()
        self.seconds = seconds
        self._idle: list[Child] = []
        self._busy: list[Child] = []
        self._free = threading.Condition()

    def ask(self, gold: str, answer: str, *, prose: bool = False, letters: bool = False) -> tuple[str, str]:
        """(verdict, detail) of a pair, as Child.ask has it; waits for a child where all are at work."""
        with self._taken() as child:
            return child.ask(gold, answer, prose=prose, letters=letters)

    @property
    def starts(self) -> int:
        """How often a child was started."""
        with self._free:
            return sum(child.starts for child in (*self._idle, *self._busy))

    @property
    def pids(self) -> list[int]:
        """The processes that there are."""
        with self._free:
            return [child.pid for child in (*self._idle, *self._busy) if child.pid is not None]

    def interrupt(self) -> None:
        """Ends the requests under way, each with an "error"."""
        with self._free:
            for child in self._busy:
                child.interrupt()

    def close(self) -> None:
        """Kills all children; requests under way end with an "error". The next request would start new ones."""
        self.interrupt()
        with self._free:
            while self._busy:
                self._free.wait()
            children, self._idle = self._idle, []
        for child in children:
            child.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _taken(self) -> Iterator[Child]:
        """A child for one request: one that is up, if there is any."""
        with self._free:
            while not self._idle and len(self._busy) >= self.size:
                self._free.wait()
            if not self._idle:
                self._idle.append(Child())
            child = next((each for each in self._idle if each.ready), self._idle[0])
            child.seconds = self.seconds
            self._idle.remove(child)
            self._busy.append(child)
            spare = not self._idle and len(self._busy) < self.size
        try:
            child.begin()
            if spare:
                self._more()
            yield child
        finally:
            with self._free:
                self._busy.remove(child)
                self._idle.append(child)
                self._free.notify_all()

    def _more(self) -> None:
        """One more child, for whoever comes next."""
        another = Child()
        another.begin()
        with self._free:
            self._idle.append(another)


__all__ = ["Pool", "default_size"]
