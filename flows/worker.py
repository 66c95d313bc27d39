"""A worker: one long-lived process with warm models, which takes on shards of whatever runs want to be worked on.

    ponderosa run --detach ... -d URL      # anywhere: plans the run
    ponderosa worker -d URL                # on each machine, one for each device: does it

Any number of workers share one database. A shard is leased to one of them; where a worker dies, another takes its shard over
and goes on where the journals end. SIGTERM ends a worker within ten seconds: what was answered is written, its lease is
given back, and a run that nobody is at any more waits for the next worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from flows import device_slots as slots
from flows import hurry, work
from flows.records import nothing
from store import queue
from store.database import Database, open_database
from store.errors import Cancelled, LeaseLost, StoreError, Unavailable
from store.leases import Held, standing
from store.runs import Run, close_run, open_shards

PAUSE = 2.0  # seconds between two looks for something to do
AGAIN = 300.0  # seconds after which a run that could not be worked on here is tried again

Say = Callable[[str], None]
Tell = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class Worker:
    """Works on the runs of one database. `only`: ids of runs; empty = all that are wanted."""

    database: Database
    say: Say
    only: Sequence[str] = ()
    tell: Tell = nothing  # the same to machines
    joined: set[str] = field(default_factory=set)  # runs
    unable: dict[str, float] = field(default_factory=dict)  # run -> when it is to be tried again

    def once(self) -> int:
        """Works on all that is there and free; how often it found something."""
        done = 0
        for run in queue.wanted(self.database):
            if (not self.only or run.id in self.only) and time.monotonic() >= self.unable.get(run.id, 0.0):
                done += self._worked_on(run)
        return done

    def _worked_on(self, run: Run) -> int:
        try:
            return self._shards(run)
        except Cancelled:
            self.say(f"run {run.id} is cancelled")
            self.tell({"run": run.id, "event": "cancelled"})
        except LeaseLost as error:
            self.say(str(error))
            self.tell({"run": run.id, "event": "lost", "reason": str(error)})
        except StoreError:
            raise
        except Exception as error:  # what is not here: a model, a problem set, a sandbox, its server; journals of other code
            if hurry.heard():  # it is what became of a signal
                raise
            self.unable[run.id] = time.monotonic() + AGAIN
            reason = " ".join(str(error).split()) or type(error).__name__
            self.say(f"run {run.id} cannot be worked on here: {reason}")
            self.tell({"run": run.id, "event": "unable", "reason": reason})
        return 0

    def _shards(self, run: Run) -> int:
        if not self._free(run):
            return 0
        if run.id not in self.joined:
            work.check(run.spec, problems=False)
            work.join(self.database, run.spec, self.say)
            self.joined.add(run.id)
        done = 0
        with resting(self.database, run.id):
            queue.begin(self.database, run.id, of=("queued",))
            while free := self._free(run):
                # each worker begins elsewhere: all at the first would wait for each other
                at = hash((os.getpid(), done)) % len(free)
                began, before = time.monotonic(), work.started(self.database, run.id)
                found = work.work_extent(self.database, run.spec, free[at:] + free[:at], progress=before)
                if isinstance(found, Held):
                    continue
                done += 1
                seconds, ended, rate = time.monotonic() - began, found.done - found.before, found.tokens_per_second
                self.say(f"run {run.id}: {ended} problems in {seconds:.1f} s, {rate:,.0f} tokens/s; {found.done}/{found.total}")
                told = {"problems": ended, "seconds": seconds, "tokens_per_second": rate}
                self.tell({"run": run.id, "event": "worked", **told, "done": found.done, "total": found.total})
        return done

    def _free(self, run: Run) -> list[int]:
        return standing(self.database, run.id, open_shards(self.database, run.id))[0]


@contextmanager
def resting(database: Database, run_id: str) -> Iterator[None]:
    """Whatever ends the block: a run that is done is closed, and one that nobody is at waits for the next worker."""
    try:
        yield
    except StoreError:
        raise  # the database itself, or the run was called off
    except BaseException:
        with suppress(StoreError):
            close_run(database, run_id, patience=2.0, resting="queued")
        raise
    close_run(database, run_id, resting="queued")


def run(
    where: str,
    device: str,
    count: int | None,
    only: Sequence[str],
    until_done: bool,
    wait: bool,
    say: Say,
    tell: Tell = nothing,
) -> bool:
    """Works until it is told to stop; `until_done`: until nothing is left that is wanted. Whether it could do all of it."""
    placed(device, count)
    with slots.slot(device, count or slots.slots_of(device), wait, say) as slot, open_database(where) as database:
        worker = Worker(database, say, only, tell)
        say(f"worker {os.getpid()} on {device}, slot {slot.number}: waiting for runs of {database.shown}")
        while True:
            try:
                done = worker.once()
                if until_done and not done and not _left(worker):
                    return not worker.unable
            except Unavailable as error:  # a server that is away for longer; a year has such days
                done = 0
                say(str(error))
            if not done:
                time.sleep(PAUSE)


def _left(worker: Worker) -> bool:
    return any(
        (not worker.only or each.id in worker.only) and each.id not in worker.unable for each in queue.wanted(worker.database)
    )


def placed(device: str, count: int | None) -> None:
    """Before torch is imported: the process sees the device it has a slot of, and computes with its share of the cores."""
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"unknown device '{device}' (cpu, cuda, cuda:NUMBER)")
    if kind == "cuda" and number:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", number)
    elif kind == "cpu":
        share = max(1, slots.slots_of("cpu") // (count or slots.slots_of("cpu")))
        os.environ.setdefault("OMP_NUM_THREADS", str(share))


__all__ = ["Worker", "run"]
