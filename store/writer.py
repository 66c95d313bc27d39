"""One thread that writes what it is given, in order: as many commits to a transaction as have come while it was busy.

That is group commit: the cost of making a transaction durable is shared by all that waited for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

B = TypeVar("B")


class Writer(Generic[B]):
    """`write` is called in the writer's thread with all that has come, the oldest first; what it raises, every caller gets."""

    def __init__(self, write: Callable[[list[B]], None]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._waiting: list[B] = []
        self._given = 0  # the last number given
        self._done = 0  # the last one written
        self._shares: deque[tuple[int, float]] = deque(
            maxlen=1024
        )  # last number of a transaction, seconds for each of its commits
        self._failure: BaseException | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, batch: B) -> int:
        """Queues a batch; its number."""
        with self._changed:
            self._refuse()
            if self._closing:
                raise RuntimeError("the writer is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()
            self._waiting.append(batch)
            self._given += 1
            self._changed.notify_all()
            return self._given

    def written(self, number: int, wait: bool = False) -> float | None:
        """None while the batch is on its way, else the seconds that its writing took: its share of the transaction's."""
        if self._done < number and not wait and self._failure is None:
            return None
        with self._changed:
            while wait and self._done < number and self._failure is None:
                self._changed.wait()
            if self._done < number:
                self._refuse()
                return None
            share = 0.0
            for last, each in reversed(self._shares):
                if last < number:
                    break
                share = each
            return share

    @property
    def last(self) -> int:
        """The number given last; 0 before the first."""
        return self._given

    def close(self, patience: float | None = None) -> None:
        """Writes what is left and ends the thread; leaves it to itself after `patience` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(patience)
        self._thread = None

    def _refuse(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                batches, self._waiting = self._waiting, []
            if not batches:
                return
            began = time.monotonic()
            try:
                self._write(batches)
            except BaseException as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._done += len(batches)
                self._shares.append((self._done, (time.monotonic() - began) / len(batches)))
                self._changed.notify_all()
