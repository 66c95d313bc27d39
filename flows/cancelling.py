"""Cancellation: `ponderosa cancel RUN` sets a flag in the database, and every process that works on the run sees it.

Who works within `heeding` has a thread that looks every LOOK seconds. The next turn of the work (a token of the generator, a
slice of the verifier) then ends it with Cancelled, which frees the engine, ends the grading children and gives the lease back.
Work that makes no turn for GRACE seconds more, in a slow verification or grading, is broken off where it is.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from store import queue
from store.database import Database
from store.errors import StoreError
from store.leases import readable

LOOK = 1.0  # seconds between two looks at the run's status
GRACE = 1.5  # seconds for a turn of the work to end by itself
PAGE = 1.0  # seconds between two looks at Prefect's page
STOPPED = 10.0  # seconds that `cancel` waits for the workers to say that they have stopped


class _BrokenOff(BaseException):
    """Raised within the work, in its thread. No Exception, which the driver would take for a search's fault."""


@dataclass(slots=True)
class _Watch:
    """What a thread that looks and the thread that works know of each other."""

    database: Database
    run_id: str
    worker: int = field(default_factory=threading.get_ident)
    over: threading.Event = field(default_factory=threading.Event)
    seen: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    broken: bool = False

    def pulse(self) -> None:
        """Raises Cancelled where the run is called off."""
        if self.seen.is_set():
            raise queue.called_off(self.run_id)

    def look(self) -> None:
        while not self.over.wait(LOOK):
            with suppress(StoreError):  # the database is away: the work itself will say so
                if queue.is_cancelled(self.database, self.run_id, patience=LOOK):
                    self.seen.set()
                    if not self.over.wait(GRACE):
                        self.break_off()
                    return

    def break_off(self) -> None:
        """Once: what then ends the work must not be broken off as well."""
        with self.lock:
            if self.over.is_set():
                return
            self.broken = True
            if self.worker == threading.main_thread().ident:
                signal.pthread_kill(self.worker, signal.SIGUSR1)  # it ends a wait for a child too
            else:
                _raise_in(self.worker, _BrokenOff)

    def end(self) -> None:
        with self.lock:
            self.over.set()
            if self.broken and self.worker != threading.main_thread().ident:
                _raise_in(self.worker, None)  # it has come, or must not come any more


_watches: list[_Watch] = []  # of the main thread, the innermost last


def _on_signal(signum: int, frame: object) -> None:
    if _watches and _watches[-1].broken and not _watches[-1].over.is_set():
        raise _BrokenOff


def _raise_in(thread: int, what: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(what) if what else None)


@contextmanager
def heeding(database: Database, run_id: str) -> Iterator[Callable[[], None]]:
    """The block's work ends with Cancelled once the run is called off; the pulse is to be called at its turns."""
    queue.refuse_cancelled(database, run_id)
    watch = _Watch(database, run_id)
    if main := threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, _on_signal)  # and it stays: one that comes late is taken, and means nothing
        _watches.append(watch)
    threading.Thread(target=watch.look, name=f"cancelling {run_id}", daemon=True).start()
    try:
        yield watch.pulse
    except _BrokenOff:
        raise queue.called_off(run_id) from None
    finally:
        watch.end()
        if main:
            _watches.remove(watch)


def cancel(database: Database, run_id: str, say: Callable[[str], None], seconds: float = STOPPED) -> bool:
    """Calls a run off and waits until nobody works on it; whether that was so within `seconds`."""
    began = time.monotonic()
    at_work = len(queue.owners(database, run_id))
    fresh = queue.cancel(database, run_id)
    say(f"run {run_id} is cancelled" if fresh else f"run {run_id} was cancelled before")
    while left := queue.owners(database, run_id):
        if time.monotonic() - began > seconds:
            say(f"still at it after {seconds:.0f} s: {', '.join(sorted({readable(each) for each in left}))}")
            return False
        time.sleep(0.1)
    if at_work:
        say(f"its {at_work} shards at work were given back within {time.monotonic() - began:.1f} s")
    return True


@contextmanager
def page_watched(database: Database, *run_ids: str) -> Iterator[None]:
    """While the block runs: cancelling its flow run on Prefect's page, or the flow run that began it, calls the runs off for
    every worker, also on other machines."""
    from prefect.runtime import flow_run

    own, root = flow_run.id, flow_run.root_flow_run_id
    ids = {str(each) for each in (own, root) if each}
    over = threading.Event()

    def look() -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            while not over.wait(PAGE):
                with suppress(Exception):  # a server that is away for a while; the next look will do
                    states = [client.read_flow_run(each).state for each in ids]  # type: ignore[arg-type]
                    if any(state is not None and (state.is_cancelling() or state.is_cancelled()) for state in states):
                        for run_id in run_ids:
                            with suppress(StoreError):  # one that is done already
                                queue.cancel(database, run_id)
                        return

    threading.Thread(target=look, name="prefect page", daemon=True).start()
    try:
        yield
    finally:
        over.set()


__all__ = ["cancel", "heeding", "page_watched"]
