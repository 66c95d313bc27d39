"""Work that begins while Prefect starts: its server takes 10 to 30 s, and the first token need not wait for it.

A thread plans the run and works on it in plain Python. Prefect is imported when it has drawn its first token: both are
seconds of Python, of which one process runs one at a time. When the server is there the flow begins: the thread takes no
further shard, and the flow's first task waits for it. From then on Prefect's states follow the work as they always do. What
the thread did is what the flow would have done, in the same rows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from flows import work
from flows.progress import shown
from search.types import RunSpec
from store.database import Database, open_database
from store.errors import StoreError
from store.leases import Held
from store.runs import SHARD, close_run, open_shards

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
    size: int = SHARD  # problems of a shard
    share: bool = False  # what other runs have generated
    error: BaseException | None = None
    _ended: int = 0  # problems
    _begun: threading.Event = field(default_factory=threading.Event)  # planned, with its models loaded; or failed
    _token: threading.Event = field(default_factory=threading.Event)  # the generator has taken a step; or there is none to take
    _turns: int = 0
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
        if self._thread is not None:
            self._thread.join(None if self._begun.is_set() else LOADING)

    def close(self) -> None:
        """Ends the run as it stands, where its flow was stopped before it could."""
        with suppress(StoreError), open_database(self.database) as opened:  # what ended it is what matters
            close_run(opened, self.spec.id, patience=5.0)

    def handed(self) -> None:
        """The flow has begun: waits until the models are loaded, and lets the thread take no further shard."""
        self._begun.wait()
        self._handed = True

    def result(self) -> int:
        """Waits for the thread; how many problems it ended. Raises what broke it off."""
        assert self._thread is not None
        try:
            self._thread.join()
        except BaseException:  # a signal: the shard is given back before the run is closed
            self.stop()
            raise
        _AHEAD.pop(self.spec.id, None)
        if self.error is not None:
            raise self.error
        return self._ended

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
            work.plan(opened, self.spec, self.name, self.size)
        self._begun.set()
        with shown(self.name or self.spec.id, key=self.spec.id) as watch:
            while self._going() and (shards := open_shards(opened, self.spec.id)):
                progress = work.started(opened, self.spec.id)
                before = progress.done
                found = work.work_extent(
                    opened, self.spec, shards, watch, progress, share=self.share, pulse=self._pulse, going=self._going
                )
                if isinstance(found, Held):
                    return
                self._ended += progress.done - before

    def _going(self) -> bool:
        return not (self._handed or self._halt.is_set())

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


def is_ahead(run_id: str) -> bool:
    """Whether a run was begun before its flow, and nobody has waited for that yet."""
    return run_id in _AHEAD


def done_ahead(runs: Sequence[str]) -> int:
    """Waits for what was begun ahead of these runs; how many problems that ended."""
    return sum(found.result() for run_id in runs if (found := _AHEAD.get(run_id)) is not None)


__all__ = ["Ahead", "Halted", "done_ahead", "hand_over", "is_ahead"]
