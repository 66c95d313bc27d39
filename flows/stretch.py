"""What one task does: some of what is left of one run or of several, for about a minute and never for an instant.

A task run costs a scheduler tens of milliseconds, and says little where it lasts no longer. So runs that are short are done
several to a task, and long ones are parted by seconds. All of it is plain Python over ids; the database says what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from flows import work
from flows.watching import Sayer, unsaid
from search.strategies import build
from search.types import RunSpec
from store import schema
from store.database import Database
from store.errors import Cancelled, StoreError
from store.leases import STALE, readable, standing
from store.runs import close_run, find_run, open_shards

LEAST = 5.0  # seconds after which a task that has done with a run goes on with no other

Showing = Callable[[str, str], object]  # a run's name and id to a context manager that gives a Watcher


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a task did."""

    runs: tuple[str, ...]  # ids that it worked on
    problems: int  # that it ended
    seconds: float


@dataclass(slots=True)
class Overall:
    """How far several runs are together."""

    total: int
    done: int

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 1.0


def biggest_first(specs: Sequence[RunSpec], share: bool = True) -> list[RunSpec]:
    """The order in which runs are done: where samples are shared, of those alike the one with the most first."""
    if not share:
        return list(specs)
    first: dict[str, int] = {}
    for at, spec in enumerate(specs):
        first.setdefault(_family(spec), at)
    return sorted(specs, key=lambda spec: (first[_family(spec)], -width(spec)))


def _family(spec: RunSpec) -> str:
    kept = replace(spec.strategy, params={})
    return replace(spec, strategy=kept, verifier=kept, weights="", budget=type(spec.budget)()).json()


def width(spec: RunSpec) -> int:
    """Samples that a strategy draws of the prompt itself, where its `n` says so."""
    return int(getattr(build(spec.strategy), "n", 0) or 0)


def left(database: Database, ids: Sequence[str]) -> list[str]:
    """The runs that have something to be done and are not called off, in their order."""
    attempt, run = schema.attempt.c, schema.run.c
    open_ = attempt.run_id == run.id, run.status != "cancelled", attempt.status.not_in(schema.CLOSED)
    asked = select(attempt.run_id).where(attempt.run_id.in_(ids), *open_).distinct()
    some = set(database.consult(lambda connection: connection.scalars(asked).all()))
    return [each for each in ids if each in some]


def overall(database: Database, ids: Sequence[str]) -> Overall:
    attempt = schema.attempt.c
    asked = select(attempt.status.in_(schema.CLOSED), func.count()).where(attempt.run_id.in_(ids)).group_by(attempt.status)
    rows = database.consult(lambda connection: connection.execute(asked).all())
    return Overall(sum(n for _, n in rows), sum(n for closed, n in rows if closed))


def wait_for_others(database: Database, ids: Sequence[str], say: Sayer, said: set[str]) -> list[str]:
    """The runs of which something is to be had; waits a moment where others have all that is left, and says so once."""
    free = []
    for run_id in ids:
        some, held = standing(database, run_id, open_shards(database, run_id), STALE)
        if some:
            free.append(run_id)
        elif held and run_id not in said:
            said.add(run_id)
            owners = ", ".join(sorted({readable(each.owner) for each in held}))
            say(f"waiting for {len(held)} shards of run {run_id} that other processes have ({owners})")
    if ids and not free:
        time.sleep(work.PAUSE)
    return free


def stretch(
    database: Database,
    ids: Sequence[str],
    showing: Showing,
    share: bool = False,
    seconds: float = work.SECONDS,
    least: float = LEAST,
    say: Sayer = unsaid,
) -> Stretch:
    """Works on the runs in their order: on one for `seconds` at most, on the next where less than `least` have passed."""
    began, worked, problems = time.monotonic(), [], 0
    for run_id in ids:
        run = find_run(database, run_id)
        worked.append(run_id)
        with _closed(database, run_id), showing(run.name or str(run.spec.strategy), run_id) as watch:  # type: ignore[attr-defined]
            join_once(database, run.spec, say)
            progress = work.started(database, run_id)
            before = progress.done
            try:
                while progress.done < progress.total and (room := seconds - (time.monotonic() - began)) > 0:
                    free, _ = standing(database, run_id, open_shards(database, run_id), STALE)
                    if not free:
                        break
                    work.work_extent(database, run.spec, free, watch, progress, seconds=room, share=share)
            except Cancelled as off:  # the others are not
                say(str(off))
            problems += progress.done - before
        if time.monotonic() - began >= least:
            break
    return Stretch(tuple(worked), problems, time.monotonic() - began)


@contextmanager
def _closed(database: Database, run_id: str) -> Iterator[None]:
    """Ends the run if it is done, or if the block is broken off; while something is left for a next task it stays running."""
    with work.broken_off(database, run_id):
        yield
    if not left(database, [run_id]):
        close_run(database, run_id)


@contextmanager
def closing_all(database: Database, ids: Sequence[str]) -> Iterator[None]:
    """Runs that are broken off before a task came to them are not left as running."""
    try:
        yield
    except StoreError:
        raise
    except BaseException:
        for run_id in ids:
            with suppress(StoreError):
                close_run(database, run_id, patience=1.0)
        raise


_joined: set[tuple[str, str]] = set()


def join_once(database: Database, spec: RunSpec, say: Sayer) -> None:
    """Records this process with the run, once."""
    if (database.shown, spec.id) not in _joined:
        work.join(database, spec, say)
        _joined.add((database.shown, spec.id))


__all__ = [
    "LEAST",
    "Overall",
    "Stretch",
    "biggest_first",
    "closing_all",
    "left",
    "overall",
    "stretch",
    "wait_for_others",
    "width",
]
