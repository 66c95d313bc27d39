"""A tree of token sequences whose keys and values are in memory: what is scored once is the beginning of what comes later.

A node is a piece of a sequence: up to the end of a prompt, or up to the next position that is read. Two sequences share a node
where they are equal up to its end. When memory runs short, the least recently used nodes without children go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.pages import Pool, Segment, pages_of
from pipelines.scoring import Laid


@dataclass(slots=True, eq=False)
class Node:
    """A piece of a sequence: its tokens, where they stand, and what the model said at its last one."""

    parent: Node | None
    ids: tuple[int, ...]
    segment: Segment
    value: NDArray[np.float32] | None = None  # [K], once it is computed
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)

    @property
    def begin(self) -> int:
        return self.segment.begin


def pieces_of(laid: Laid) -> list[tuple[int, ...]]:
    """The tokens of a sequence up to its last mark, cut behind the shared prompt and behind every mark."""
    ends = [mark + 1 for mark in laid.marks]
    if 0 < laid.shared < ends[0]:
        ends = [laid.shared, *ends]
    return [laid.ids[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


class Prefixes:
    """The tree over a pool of pages."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._first: dict[tuple[int, ...], Node] = {}
        self._used: OrderedDict[int, Node] = OrderedDict()  # by id; what was used last stands last, parents behind children
        self._held: set[int] = set()  # ids of what must stay

    def __len__(self) -> int:
        return len(self._used)

    def path(self, pieces: Sequence[tuple[int, ...]]) -> tuple[list[Node], list[Node]]:
        """The nodes of a sequence, which stay until `release`, and those of them that are new and have no keys and values yet.
        MemoryError where there is no room even without all that may go; no node is new then."""
        nodes, new = list[Node](), list[Node]()
        try:
            for piece in pieces:
                parent = nodes[-1] if nodes else None
                known = (self._first if parent is None else parent.children).get(piece)
                if known is None:
                    known = self._added(parent, piece)
                    new.append(known)
                nodes.append(known)
                self._held.add(id(known))
        except MemoryError:
            self.drop(new)
            raise
        for node in reversed(nodes):
            self._used.move_to_end(id(node))
        return nodes, new

    def release(self) -> None:
        """Whatever has no children may go again."""
        self._held.clear()

    def drop(self, nodes: Iterable[Node]) -> None:
        """Takes nodes out that have no children but those among them."""
        for node in sorted(nodes, key=lambda node: -node.begin):
            del (self._first if node.parent is None else node.parent.children)[node.ids]
            del self._used[id(node)]
            self._held.discard(id(node))
            self.pool.free(node.segment)

    def _added(self, parent: Node | None, ids: tuple[int, ...]) -> Node:
        need = pages_of(len(ids))
        if need > self.pool.free_pages and not self._evict(need):
            raise MemoryError("the memory for keys and values is too small; raise cache_mb")
        segment = self.pool.alloc() if parent is None else self.pool.fork(parent.segment)
        self.pool.append(segment, len(ids))
        node = Node(parent, ids, segment)
        (self._first if parent is None else parent.children)[ids] = node
        self._used[id(node)] = node
        return node

    def _evict(self, need: int) -> bool:
        """Drops what was not used for longest until so many pages are free, and some more, since finding them takes a look at
        all."""
        spare = need + self.pool.capacity // 64
        while need > self.pool.free_pages:
            old = [node for key, node in self._used.items() if not node.children and key not in self._held]
            for node in old:
                self.drop([node])
                if spare <= self.pool.free_pages:
                    break
            if not old:
                return False
        return True


__all__ = ["Node", "Prefixes", "pieces_of"]
