"""Schedulers as processes of their own, on a clock of the tests', with evaluations of the small language of the fakes.

    with Town(where, clock) as town:
        town.open(8)          # so many schedulers
        town.kill(worker)     # SIGKILL; open() starts another

The processes are forked by a server that has imported what they need: one that is killed is replaced within milliseconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crashes import fake_problems, fake_spec, put_fakes

from flows import work
from flows.schedule import specs
from flows.schedule.scheduler import Scheduler, Touch
from search.types import RunSpec
from store.database import Database, open_database
from store.errors import LeaseLost, StoreError
from store.runs import begin_run
from store.schedules import Schedule, stamp
from store.slots import count_slots

START = datetime(2026, 3, 28, 12, tzinfo=UTC)  # a day in which Europe's clocks are set forward
PROBLEMS = 1  # of one evaluation


@dataclass(frozen=True)
class Clock:
    """`speed` seconds pass in one of the machine's, until the clock stands still."""

    speed: float
    end: timedelta
    began: Path  # when, by the machine's monotonic clock: the schedulers wait for it

    def __call__(self) -> datetime:
        if not self.began.exists():
            return START
        return START + min(timedelta(seconds=(time.monotonic() - float(self.began.read_text())) * self.speed), self.end)

    def begin(self) -> None:
        made = self.began.with_suffix(".new")
        made.write_text(str(time.monotonic()))
        made.rename(self.began)  # nobody reads half of it


def make_schedule(name: str = "nightly", **how: Any) -> Schedule:
    made = stamp(START)
    given = {"anchor": made, "created": made, "since": made, **how}
    if "cron" not in given and "every" not in given:
        given["every"] = 300
    return Schedule(name, given.pop("spec", fake_spec("greedy")), **given)


@dataclass(frozen=True)
class Job:
    where: str
    clock: Clock
    report: str
    tests: int  # the process that it ends with
    stale: float
    beat: float
    pause: float


def faked() -> None:
    """Puts the fakes in. For a process that ends with its job."""
    put_fakes()
    work.PAUSE = 0.02
    specs.weights = lambda *parts: ""  # type: ignore[attr-defined]


def evaluated(database: Database, spec: RunSpec, pause: float = 0.0) -> None:
    begin_run(database, spec, fake_problems(PROBLEMS), {})
    time.sleep(pause)
    with work.closing(database, spec.id):
        work.through(database, spec.id, lambda shards: work.work_extent(database, spec, shards))


def live(job: Job) -> None:
    """A scheduler, until it is killed or told to stop; what it noticed and ended is in its report, a line each."""
    faked()
    out = os.open(job.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))

    def evaluate(spec: RunSpec, name: str, touch: Touch) -> None:
        evaluated(database, spec, job.pause)

    with open_database(job.where) as database:
        scheduler = Scheduler(
            database, evaluate, now=job.clock, stale=job.stale, beat=job.beat, later=0.05, say=lambda line: None
        )
        os.write(out, b"{}\n")  # it is there
        while not stop and Path(f"/proc/{job.tests}").exists():
            try:
                noticed = [slot.slot_utc for slot in scheduler.notice()]
                taken = scheduler.take()
                ended = [taken.slot.slot_utc, scheduler.perform(taken)] if taken is not None else []
            except StoreError as error:
                noticed, ended = [], [type(error).__name__, "" if isinstance(error, LeaseLost) else "error"]
            if noticed or ended:
                os.write(out, (json.dumps({"noticed": noticed, "ended": ended}) + "\n").encode())
            else:
                time.sleep(0.03)


@dataclass
class Town:
    """Schedulers over one database."""

    where: str
    clock: Clock
    stale: float = 60.0
    beat: float = 10.0
    pause: float = 0.0
    living: list[BaseProcess] = field(default_factory=list)
    _reports: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="town-")))
    _context: Any = field(default_factory=lambda: multiprocessing.get_context("forkserver"))
    _started: int = 0

    def open(self, count: int) -> None:
        """Starts schedulers until so many live."""
        self._prepare()
        crashed = [each.exitcode for each in self.living if each.exitcode not in (None, -signal.SIGKILL)]
        assert not crashed, f"schedulers ended by themselves: {crashed}"
        self.living = [each for each in self.living if each.is_alive()]
        while len(self.living) < count:
            self._started += 1
            job = Job(
                self.where, self.clock, str(self._reports / str(self._started)), os.getpid(), self.stale, self.beat, self.pause
            )
            process = self._context.Process(target=live, args=(job,), daemon=True)
            process.start()
            self.living.append(process)

    def _prepare(self) -> None:
        """Has the server import what its children need, once. It does not know where the tests are but by the environment."""
        self._context.set_forkserver_preload(["nightly", "psycopg", "flows.parts"])
        here = Path(__file__).resolve().parent
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
        try:
            forkserver.ensure_running()
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    def kill(self, process: BaseProcess) -> None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)

    def close(self) -> None:
        for process in self.living:
            process.terminate()
        for process in self.living:
            process.join(20)
            if process.is_alive():
                process.kill()
                process.join(10)

    def said(self) -> list[list[dict[str, Any]]]:
        """What each scheduler has reported."""
        files = sorted(self._reports.iterdir(), key=lambda path: int(path.name))
        return [[json.loads(line) for line in path.read_text().splitlines()[1:]] for path in files]

    def begin(self) -> None:
        """Lets the clock go when all of them are there."""
        end = time.monotonic() + 120
        while sum(path.stat().st_size > 0 for path in self._reports.iterdir()) < len(self.living):
            assert time.monotonic() < end, "the schedulers do not start"
            time.sleep(0.05)
        self.clock.begin()


@contextmanager
def town(where: str, clock: Clock, **how: Any) -> Iterator[Town]:
    made = Town(where, clock, **how)
    try:
        yield made
    finally:
        made.close()


def done(database: Database) -> int:
    """How many slots have been run; none may fail."""
    counts = count_slots(database).get("nightly", {})
    assert not counts.get("failed"), counts
    return counts.get("done", 0)


__all__ = ["PROBLEMS", "START", "Clock", "Town", "done", "evaluated", "faked", "make_schedule", "town"]
