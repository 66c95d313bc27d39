"""What stays in memory beyond the running rows: finished steps for their children, and prompts for those who share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.pages import PAGE, Pool, Segment
from search.types import ROOT, Path, lineage

MANY_PROMPTS = 10_000  # entries of the index after which dead ones are cleared


class Kept:
    """Segments by search and path. When memory runs short, the least recently used go first."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._held: OrderedDict[tuple[int, Path], Segment] = OrderedDict()
        self._known: dict[int, set[Path]] = {}  # what each search has had in memory: computing it again is said in the ledger
        self._parted: set[int] = set()  # searches in which a candidate need not continue the one above it
        self._prompts: dict[int, Segment] = {}  # prompts' whole pages by the hash of all tokens up to their end

    def __len__(self) -> int:
        return len(self._held)

    def get(self, search: int, path: Path) -> Segment | None:
        segment = self._held.get((search, path))
        if segment is not None:
            self._held.move_to_end((search, path))
        return segment

    def put(self, search: int, path: Path, segment: Segment) -> None:
        """Takes over the caller's reference."""
        self.drop(search, (path,))
        self._held[search, path] = segment
        self._known.setdefault(search, set()).add(path)

    def drop(self, search: int, paths: Iterable[Path]) -> None:
        for path in paths:
            segment = self._held.pop((search, path), None)
            if segment is not None:
                self.pool.free(segment)

    def part(self, search: int) -> None:
        """This search asks questions of its own: what stands above a path is not always the beginning of its text."""
        self._parted.add(search)

    def forget(self, search: int) -> None:
        self._parted.discard(search)
        self.drop(search, self._known.pop(search, ()))

    def known(self, search: int, path: Path) -> bool:
        """Whether this was in memory before."""
        return path in self._known.get(search, ())

    def evict(self, need: int) -> bool:
        """Drops segments until so many pages are free; one with children in use would give nothing back, and stays."""
        spare = need + self.pool.capacity // 64  # some more at a time, since finding them takes a look at all
        while need > self.pool.free_pages:
            found = [key for key, segment in self._held.items() if segment.refs == 1]
            if not found:
                return False
            for search, path in found:
                self.drop(search, (path,))
                if spare <= self.pool.free_pages:
                    break
        return True

    def begun(self, search: int, path: Path, tokens: NDArray[np.int64]) -> Segment:
        """A new segment for these tokens, the sequence up to a path's end: from the longest part of it that is in memory on."""
        above = [ROOT, *lineage(path)[:-1]] if path and search not in self._parted else []
        for ancestor in reversed(above):
            held = self.get(search, ancestor)
            if held is not None:
                return self.pool.fork(held)
        return self._prompt(tokens)

    def _prompt(self, tokens: NDArray[np.int64]) -> Segment:
        """The child of a prompt's segment that begins with the same whole pages, if there is one."""
        found, at = None, 0
        for end, key in _hashes(tokens):
            other = self._prompts.get(key)
            if other is None or other.refs == 0 or other.end < end:
                break
            found, at = other, end
        while found is not None and found.begin > at:  # it shares these pages itself
            found = found.parent
        return self.pool.alloc() if found is None else self.pool.fork(found, at)

    def publish(self, tokens: NDArray[np.int64], segment: Segment) -> None:
        """Lets other searches' prompts that begin alike share this one's whole pages, as long as it lives."""
        if len(self._prompts) > MANY_PROMPTS:
            self._prompts = {key: other for key, other in self._prompts.items() if other.refs}
        for _, key in _hashes(tokens):
            other = self._prompts.get(key)
            if other is None or other.refs == 0:
                self._prompts[key] = segment


def _hashes(tokens: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(end, 64-bit hash of all tokens up to it) for each whole page."""
    found, chained = [], 0
    for end in range(PAGE, len(tokens) + 1, PAGE):
        chained = hash((chained, tokens[end - PAGE : end].tobytes()))
        found.append((end, chained))
    return found
