"""Work that begins while Prefect starts: its server takes 10 to 30 s, and the first token need not wait for it.

A thread plans the run and solves its first shards in plain Python. Prefect is imported when it has drawn its first token: both
are seconds of Python, of which a process runs one line at a time. When the server is there the flow begins, and its task of the
shard that the thread is at waits for the thread: from then on Prefect's states follow the work as they always do. What the
thread did is what the flow would have done, in the same rows.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field

from flows import work
from flows.progress import shown
from search.types import RunSpec
from store.database import Database, open_database
from store.errors import StoreError
from store.leases import Held
from store.runs import close_run, open_shards

PATIENCE = 30.0  # seconds that Prefect waits for the first token: large models load for minutes, mostly from the disk
LOADING = 8.0  # seconds that a command which is stopped waits for models that load

_AHEAD: dict[str, Ahead] = {}  # by run


class Halted(BaseException):
    """The thread is to stop. No Exception, which a search's containment would take for its own."""


@dataclass(eq=False)
class Ahead:
    """A run that is being worked on before its flow has begun."""

    spec: RunSpec
    name: str
    database: str
    planned_before: bool = False
    shard: int | None = None  # that the thread is at, or was when it ended
    error: BaseException | None = None
    _done: work.Progress | Held | None = None
    _begun: threading.Event = field(default_factory=threading.Event)  # planned, with its models loaded; or failed
    _token: threading.Event = field(default_factory=threading.Event)  # the generator has taken a step; or there is none to take
    _turns: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)  # who decides what shard is the thread's
    _handed: bool = False
    _halt: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Ahead:
        _AHEAD[self.spec.id] = self
        self._thread = threading.Thread(target=self._work, name=f"ahead {self.spec.id}", daemon=True)
        self._thread.start()
        return self

    def await_token(self, patience: float = PATIENCE) -> None:
        """Waits until the first token is drawn, or nothing is left to be drawn."""
        self._token.wait(patience)

    def stop(self) -> None:
        """Ends the thread: what was answered is written, and its shard given back. One that still loads models has nothing to
        write, and is not waited for."""
        _AHEAD.pop(self.spec.id, None)
        self._halt.set()
        with self._turn:
            working = self.shard is not None
        if self._thread is not None:
            self._thread.join(None if working else LOADING)

    def close(self) -> None:
        """Ends the run as it stands, where its flow was stopped before it could."""
        with suppress(StoreError), open_database(self.database) as opened:  # what ended it is what matters
            close_run(opened, self.spec.id, patience=5.0)

    def handed(self) -> None:
        """The flow has begun: waits until the models are loaded, and lets the thread take no further shard."""
        self._begun.wait()
        with self._turn:
            self._handed = True

    def result(self) -> work.Progress | Held:
        """Waits for the thread's shard; raises what ended it."""
        assert self._thread is not None
        try:
            self._thread.join()
        except BaseException:  # a signal: the shard is given back before the run is closed
            self.stop()
            raise
        _AHEAD.pop(self.spec.id, None)
        if self.error is not None:
            raise self.error
        assert self._done is not None
        return self._done

    # ------------------------------------------------------------------------------------------------------- the thread

    def _work(self) -> None:
        try:
            with open_database(self.database) as opened:
                try:
                    self._solve(opened)
                except Halted:
                    close_run(opened, self.spec.id, patience=5.0)
        except BaseException as error:
            self.error = error
        finally:
            self._begun.set()
            self._token.set()

    def _solve(self, opened: Database) -> None:
        if self.planned_before:
            work.environment(self.spec)
        else:
            work.plan(opened, self.spec, self.name)
        self._begun.set()
        with shown(self.name or self.spec.id, key=self.spec.id) as watch:
            for shard in open_shards(opened, self.spec.id):
                with self._turn:
                    if self._handed or self._halt.is_set():
                        return
                    self.shard = shard
                progress = work.started(opened, self.spec.id)
                self._done = work.work_shard(opened, self.spec, shard, watch, progress, pulse=self._pulse)

    def _pulse(self) -> None:
        """At every turn of the searches; the generator steps between two."""
        self._turns += 1
        if self._turns > 1:
            self._token.set()
        if self._halt.is_set():
            raise Halted


def hand_over(run_id: str) -> None:
    """The run's flow begins: no further shard of it is begun ahead."""
    if (found := _AHEAD.get(run_id)) is not None:
        found.handed()


def done_ahead(run_id: str, shard: int) -> work.Progress | Held | None:
    """The outcome of a shard that was begun ahead, when it is done; None for one that was not."""
    found = _AHEAD.get(run_id)
    return found.result() if found is not None and found.shard == shard else None


__all__ = ["Ahead", "Halted", "done_ahead", "hand_over"]
