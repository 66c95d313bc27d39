"""Who owns cache memory: a tree of segments over a pool of pages.

A segment holds the positions that one piece of text added to a sequence, on pages of its own; what lies before belongs to its
ancestors, and is never copied. Reference counts say who still needs it: a child, a running row, the engine's own keeping.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

PAGE = 8  # positions of a page: few, since a segment's last page is half empty on average


class NoRoom(Exception):
    """The pool has no page left."""


@dataclass(slots=True, eq=False)
class Segment:
    """Positions [begin, end) of a sequence; the first stands at the beginning of the first page."""

    parent: Segment | None
    begin: int
    end: int
    pages: list[int] = field(default_factory=list)
    refs: int = 1


class Pool:
    """The pages and their tree."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))  # a heap: low pages first, so that memory which was never needed is never touched

    @property
    def free_pages(self) -> int:
        return len(self._free)

    @property
    def used_pages(self) -> int:
        return self.capacity - len(self._free)

    def alloc(self) -> Segment:
        """The empty beginning of a sequence."""
        return Segment(None, 0, 0)

    def fork(self, parent: Segment, at: int | None = None) -> Segment:
        """An empty child at the parent's end, or at an earlier edge of one of its pages. O(1): nothing is copied."""
        at = parent.end if at is None else at
        assert at == parent.end or (parent.begin <= at < parent.end and (at - parent.begin) % PAGE == 0)
        parent.refs += 1
        return Segment(parent, at, at)

    def need(self, segment: Segment, count: int) -> int:
        """Pages that `count` more positions take."""
        return pages_of(segment.end - segment.begin + count) - len(segment.pages)

    def append(self, segment: Segment, count: int) -> list[int]:
        """Makes room for `count` more positions and counts them in; the new pages. Raises NoRoom and changes nothing."""
        need = self.need(segment, count)
        if need > len(self._free):
            raise NoRoom
        fresh = [heapq.heappop(self._free) for _ in range(need)]
        segment.pages += fresh
        segment.end += count
        return fresh

    def shorten(self, segment: Segment, end: int) -> None:
        """Takes back the last positions of a segment without children: room that was made ahead."""
        assert segment.begin <= end <= segment.end
        segment.end = end
        while len(segment.pages) > pages_of(end - segment.begin):
            heapq.heappush(self._free, segment.pages.pop())

    def free(self, segment: Segment) -> None:
        """Gives one reference back; where it was the last, the pages, and one reference to the parent."""
        node: Segment | None = segment
        while node is not None:
            node.refs -= 1
            if node.refs:
                return
            for page in node.pages:
                heapq.heappush(self._free, page)
            node.pages = []
            node = node.parent

    def view(self, segment: Segment) -> tuple[list[int], list[int]]:
        """The pages of the whole sequence up to the segment's end, and the position at which each begins."""
        pages: list[int] = []
        starts: list[int] = []
        node: Segment | None = segment
        end = segment.end
        while node is not None:
            count = pages_of(end - node.begin)
            pages = node.pages[:count] + pages
            starts = [node.begin + PAGE * i for i in range(count)] + starts
            end, node = node.begin, node.parent
        return pages, starts


def pages_of(positions: int) -> int:
    """Pages that so many positions take."""
    return -(-positions // PAGE)
