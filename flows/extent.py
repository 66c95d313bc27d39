"""What one task takes on of a run: shards, a few at a time, while its time allows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from search.types import Problem, RunSpec
from store.database import Database
from store.extents import share_of
from store.leases import STALE, Held, Lease, claim, standing
from store.runs import Planned, planned, restart, unreplayable
from store.schema import TRIES
from verifiers.code import ready


def claimed(database: Database, run_id: str, shards: Sequence[int], owner: str) -> Lease | Held:
    """The first of the shards that is to be had."""
    found: Lease | Held | None = None
    for shard in shards:
        found = claim(database, run_id, shard, owner)
        if isinstance(found, Lease):
            break
    assert found is not None
    return found


@dataclass
class Extent:
    """What one task has taken on of a run, and takes on while it works. Those of its attempts that failed here, or that two
    workers have died of, run alone at its end, so that they take no other with them; a first death may be the machine's."""

    database: Database
    spec: RunSpec
    lease: Lease
    free: list[int]  # shards that may be to be had
    seconds: float
    going: Callable[[], bool]
    batch: int  # problems that are searched side by side
    least: int  # problems to begin with, however long they take
    due: dict[int, Planned] = field(default_factory=dict)  # by attempt
    ids: dict[int, int] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)  # tries
    tries: dict[int, int] = field(default_factory=dict)
    alone: deque[Planned] = field(default_factory=deque)
    _waiting: deque[Planned] = field(default_factory=deque)
    _old: frozenset[int] = frozenset()  # whose journal cannot be replayed
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._old = frozenset(unreplayable(self.database, self.spec.id))
        self._take([int(self.lease.shard.rpartition("/")[2])])
        if self.free:
            share = share_of(self.database, self.spec, self.seconds, self.batch, self.least)
            size = max(len(self.due), 1)  # of a shard, as it was planned
            self._more(-(-share.problems // size) - 1)

    def batches(self) -> Iterator[Iterable[tuple[int, Problem]]]:
        """Those that are searched side by side, then each of those that run alone."""
        yield self._feed()
        while self.alone:
            attempt = self.alone.popleft()
            yield [(attempt.attempt_id, attempt.problem)]

    def again(self, attempt: Planned) -> bool:
        """Whether an attempt that failed is to be tried again."""
        self.tries[attempt.attempt_id] += 1
        if self.tries[attempt.attempt_id] >= TRIES:
            return False
        self.alone.append(attempt)
        return True

    def _feed(self) -> Iterator[tuple[int, Problem]]:
        """Attempts as there is room for them; from further shards while there is time."""
        while True:
            while self._waiting:
                attempt = self._waiting.popleft()
                yield attempt.attempt_id, attempt.problem
            if time.monotonic() - self._began >= self.seconds or not self.going() or not self._more(1):
                return

    def _more(self, shards: int) -> bool:
        """Takes on that many more shards, or fewer where there are no more; whether it got any."""
        if shards < 1 or not self.free:
            return False
        self.free, _ = standing(self.database, self.spec.id, self.free, STALE)
        got = self.lease.extend(self.free, shards, STALE)
        last = self.free.index(got[-1]) + 1 if got else len(self.free)
        self.free = self.free[last:]
        self._take(got)
        return bool(got)

    def _take(self, shards: Iterable[int]) -> None:
        for shard in shards:
            fresh = {a.attempt_id: a for a in planned(self.database, self.spec.id, shard) if not a.closed}
            ready(a.problem for a in fresh.values())
            restart(self.database, [i for i in fresh if i in self._old], self.lease)
            self.due |= fresh
            self.ids |= {i: i for i in fresh}
            self.before |= {i: a.tries for i, a in fresh.items()}
            self.tries |= {i: a.tries for i, a in fresh.items()}
            self._waiting += [a for a in fresh.values() if a.tries < 2]
            self.alone += [a for a in fresh.values() if a.tries >= 2]


__all__ = ["Extent", "claimed"]
