"""Who runs what is due: looks at the clock, records the slots that have come, takes them one by one, evaluates, closes.

Any number of schedulers may work on one database. What is due is decided in the database (`store.slots`): here is the clock,
the loop, and what becomes of an evaluation that ends, fails, or is stopped.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flows import hurry
from flows.progress import said
from flows.records import nothing
from flows.schedule import alarm, specs
from flows.schedule.times import due
from search.types import RunSpec
from store import queries
from store.database import Database
from store.errors import LeaseLost, StoreError, Unavailable, Unreadable, WriteError
from store.leases import BEAT, STALE
from store.schedules import find_schedule, schedule_names, stamp
from store.slots import SLOT_TRIES, Slot, Taken, close, give_back, record_due, set_run, take

LOOK = 5.0  # seconds between two looks at the clock and at the database
LATER = 60.0  # seconds after which an evaluation that could not be done now is tried again
HANG = 6 * 3600.0  # seconds without a word of its evaluation after which a slot may be another's; its shards are so long before

Touch = Callable[[], None]
Evaluate = Callable[[RunSpec, str, Touch], None]  # a run from its spec and name; Touch says that it goes on


class Later(Exception):
    """An evaluation that may succeed when it is tried again: a server is away, its process was killed."""

    exit_code = 75


class Stopped(BaseException):
    """An evaluation was ended because its scheduler is. No Exception: nothing is wrong with the slot."""


def _nothing() -> None:
    pass


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Scheduler:
    """One process's part. `evaluate` does a run; `now` is the clock that slots are due by."""

    database: Database
    evaluate: Evaluate
    only: str = ""  # the one schedule that is served; '' = all
    hooks: bool = True
    now: Callable[[], datetime] = utc_now
    say: Callable[[str], None] = said
    tell: Callable[[Mapping[str, Any]], None] = nothing  # how each slot ends, to machines
    look: float = LOOK
    later: float = LATER
    stale: float = STALE
    beat: float = BEAT
    halt: Callable[[], None] = _nothing  # ends what `evaluate` is at, from another thread: it raises Stopped
    alarms: list[alarm.Alarm] = field(default_factory=list)  # that were raised
    unread: set[str] = field(default_factory=set)  # schedules that cannot be read
    _said: dict[str, str] = field(default_factory=dict)  # what was said of each schedule last: once is enough
    _until: dict[str, float] = field(default_factory=dict)  # schedules that are left alone until then, by the monotonic clock

    def notice(self) -> list[Slot]:
        """Records the slots that have come; those that are new. A schedule that cannot be read holds up no other."""
        found: list[Slot] = []
        moment = self.now()
        for name in [find_schedule(self.database, self.only).name] if self.only else schedule_names(self.database):
            try:
                new = record_due(self.database, name, lambda s, after: due(s, after, moment), stamp(moment))
            except Unreadable as error:  # a time zone that this machine does not know, for one
                self.unread.add(name)
                self._once(name, str(error))
                continue
            self.unread.discard(name)
            found += new
            for slot in new:
                if slot.status != "queued":
                    self.say(f"{slot.name}: {slot.status} ({slot.reason})")
                    self.tell({"slot": slot.name, "status": slot.status, "reason": slot.reason})
        return found

    def take(self) -> Taken | None:
        """The next slot that is this process's to run."""
        waiting = [name for name, until in self._until.items() if time.monotonic() < until]
        return take(self.database, stamp(self.now()), self.only, waiting, stale=self.stale)

    def perform(self, taken: Taken) -> str:
        """Runs a slot that was taken, to its end; its status then, '' where another process has taken it over."""
        with taken.lease.kept(self.beat, HANG):
            try:
                return self._performed(taken)
            except LeaseLost as lost:
                self.say(f"{taken.name}: {lost}")
                return ""
            except StoreError as error:  # the database is away, or full: whoever comes next goes on
                self._once(taken.schedule.name, f"{taken.name}: {error}")
                self._wait(taken)
                return ""
            except BaseException:
                self._give_back(taken)
                raise

    def once(self) -> Counter[str]:
        """Runs what is due now, and all that others have left; how many slots have ended how."""
        ended = Counter(slot.status for slot in self.notice() if slot.status != "queued")
        while (taken := self.take()) is not None:
            ended[self.perform(taken) or "left"] += 1
            ended += Counter(slot.status for slot in self.notice() if slot.status != "queued")
        return ended

    def forever(self, stop: threading.Event, at_once: int = 1) -> None:
        """Runs what becomes due until `stop`; up to `at_once` slots at the same time. A database that is away is waited for."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="slot") as pool:
            working: set[Future[str]] = set()
            try:
                while not stop.is_set():
                    self._turn(pool, working, at_once)
                    stop.wait(min(self.look, 1.0) if working else self.look)
            finally:
                self.halt()

    def _turn(self, pool: ThreadPoolExecutor, working: set[Future[str]], at_once: int) -> None:
        working -= {each for each in working if self._ended(each)}
        try:
            self.notice()
            while len(working) < at_once and (taken := self.take()) is not None:
                working.add(pool.submit(self.perform, taken))
        except StoreError as error:
            self._once("", str(error))
        else:
            self._said.pop("", None)

    # ------------------------------------------------------------------------------------------------------- internals

    def _performed(self, taken: Taken) -> str:
        if taken.slot.tries > SLOT_TRIES:
            return self._failed(taken, f"{SLOT_TRIES} processes died or gave up over it; {taken.slot.reason}".strip("; "))
        try:
            spec = specs.of_taken(self.database, taken)
            set_run(self.database, taken, spec.id)
            self.say(f"{taken.name}: begins, run {spec.id}")
            self.evaluate(spec, taken.name, taken.lease.touch)
            found = queries.summary(self.database, spec.id)
        except (Unavailable, WriteError):
            raise
        except Exception as error:
            if hurry.heard():  # it is what became of a signal, or of its child's: the slot is given back
                raise
            reason = " ".join(f"{'' if isinstance(error, Later) else type(error).__name__ + ': '}{error}".split())
            if getattr(error, "exit_code", 1) != 75 or taken.slot.tries >= SLOT_TRIES:
                return self._failed(taken, reason)
            give_back(self.database, taken, reason, counted=True)
            self.say(f"{taken.name}: {reason}; again in {self.later:.0f} s")
            self.tell({"slot": taken.name, "status": "queued", "reason": reason})
            self._wait(taken)
            return "queued"
        told = alarm.below(taken.schedule, taken.slot, found, spec.id)
        kept = None if told is None else self._raised(taken, told)
        close(self.database, taken, "done", stamp(self.now()), alarm=kept)
        accuracy = "-" if found.accuracy is None else f"{found.accuracy:.3f}"
        self.say(f"{taken.name}: done, accuracy {accuracy} [{found.low:.3f}, {found.high:.3f}]")
        measured = {"accuracy": found.accuracy, "low": found.low, "high": found.high, "tokens": found.generated_tokens}
        self.tell({"slot": taken.name, "status": "done", "run": spec.id, **measured, "alarm": kept})
        if kept is not None:
            self.say(f"{taken.name}: ALARM {kept}")
        elif taken.schedule.bar is not None and not found.graded:
            self.say(f"{taken.name}: nothing could be graded, so the bar of {taken.schedule.bar:g} says nothing")
        return "done"

    def _failed(self, taken: Taken, reason: str) -> str:
        kept = self._raised(taken, alarm.failed(taken.schedule, taken.slot, reason))
        close(self.database, taken, "failed", stamp(self.now()), reason, kept)
        self.tell({"slot": taken.name, "status": "failed", "reason": reason, "alarm": kept})
        self.say(f"{taken.name}: ALARM {kept}")
        return "failed"

    def _raised(self, taken: Taken, told: alarm.Alarm) -> str:
        self.alarms.append(told)
        return alarm.raised(told, taken.schedule.hook if self.hooks else "")

    def _give_back(self, taken: Taken) -> None:
        try:
            give_back(self.database, taken, "its scheduler was stopped", counted=False)
        except StoreError as error:  # who comes next finds this process dead
            self.say(f"{taken.name}: {error}")

    def _wait(self, taken: Taken) -> None:
        self._until[taken.schedule.name] = time.monotonic() + self.later

    def _once(self, about: str, line: str) -> None:
        if self._said.get(about) != line:
            self._said[about] = line
            self.say(line)

    def _ended(self, working: Future[str]) -> bool:
        if not working.done():
            return False
        error = working.exception()
        if error is not None and not isinstance(error, Stopped):
            self.say(f"a slot could not be run: {type(error).__name__}: {error}")
        return True


__all__ = ["Evaluate", "Later", "Scheduler", "Stopped", "utc_now"]
