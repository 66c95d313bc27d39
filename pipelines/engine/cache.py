"""Key/value memory: the running rows' slots, and the finished steps' segments from which later rows are built.

A segment belongs to one candidate of one search and holds the keys and values that its step added, so a child copies its
ancestors' segments into its slot instead of computing them again, and a search that ends gives everything back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from search.types import Path

Key = tuple[int, Path]
GRAIN = 64  # slots grow by this many positions


class Slots:
    """Keys and values of the running rows: [layers, 2, slots, kv heads, positions, head size]."""

    def __init__(self, layers: int, heads: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.zeros(layers, 2, 16, heads, GRAIN, size, dtype=dtype, device=device)

    def reserve(self, slots: int, positions: int) -> None:
        """Grows to at least this many slots and positions; contents stay."""
        old = self.data.shape
        if slots <= old[2] and positions <= old[4]:
            return
        slots = old[2] if slots <= old[2] else max(slots, 2 * old[2])
        positions = max(old[4], -(-positions // GRAIN) * GRAIN)
        grown = self.data.new_zeros(old[0], 2, slots, old[3], positions, old[5])
        grown[:, :, : old[2], :, : old[4]] = self.data
        self.data = grown

    def move(self, source: int, target: int, length: int) -> None:
        self.data[:, :, target, :, :length] = self.data[:, :, source, :, :length]

    def read(self, slot: int, begin: int, end: int) -> Tensor:
        """A copy of a row's keys and values over [begin, end): [layers, 2, kv heads, end - begin, head size]."""
        return self.data[:, :, slot, :, begin:end].clone()

    def write(self, slot: int, begin: int, segment: Tensor) -> None:
        self.data[:, :, slot, :, begin : begin + segment.shape[3]] = segment


class Segments:
    """Segments of finished steps by (search, path), the least recently used dropped by `trim`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: OrderedDict[Key, tuple[int, Tensor]] = OrderedDict()  # key -> (first position, keys and values)
        self.bytes = 0

    def put(self, key: Key, begin: int, segment: Tensor) -> None:
        self._drop(key)
        self.held[key] = (begin, segment)
        self.bytes += segment.nbytes

    def trim(self) -> None:
        """Drops the least recently used until the rest is within capacity."""
        while self.bytes > self.capacity:
            self._drop(next(iter(self.held)))

    def chain(self, search: int, paths: Sequence[Path]) -> list[tuple[int, Tensor]] | None:
        """The segments of these paths, which must cover the positions from 0 without a gap; None where one is gone.

        A segment that begins at 0 covers all before it: what was recomputed is held so.
        """
        found: list[tuple[int, Tensor]] = []
        for path in reversed(paths):
            entry = self.held.get((search, path))
            if entry is None:
                return None
            self.held.move_to_end((search, path))
            found.append(entry)
            if entry[0] == 0:
                return found[::-1]
        return None

    def forget(self, search: int) -> None:
        for key in [key for key in self.held if key[0] == search]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        entry = self.held.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1].nbytes
