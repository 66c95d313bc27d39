"""Keys and values in pages, and attention over them: one interface, two layouts.

HostMemory is for float32 arithmetic on a CPU: kernels read the pages in place. DeviceMemory is plain torch for any device and
dtype: it gathers pages, attends a prefix that many rows share once for all of them, and merges the parts by their log-sum-exp.
Tests hold both to the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine import kernels
from pipelines.engine.pages import PAGE

assert PAGE == kernels.PAGE
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a cache must hold: layers, key/value heads, and the size of a head."""

    layers: int
    heads: int
    size: int

    def page_bytes(self, itemsize: int) -> int:
        return 2 * self.layers * self.heads * self.size * PAGE * itemsize


@dataclass(frozen=True, slots=True)
class Places:
    """Where the new tokens of a forward pass stand: token i at positions[i] of the sequence whose pages are tables[rows[i]], on
    the page blocks[i] of these."""

    positions: Ints  # [tokens]
    rows: Ints  # [tokens]
    blocks: Ints  # [tokens]
    tables: NDArray[np.int32]  # [rows, blocks]
    starts: NDArray[np.int32]  # [rows, blocks or more]: the position at which each page begins; 0 after the last

    @property
    def pages(self) -> NDArray[np.int32]:
        return self.tables[self.rows, self.blocks]

    @property
    def offsets(self) -> Ints:
        """Within the page."""
        return self.positions - self.starts[self.rows, self.blocks]


class Memory(Protocol):
    """Owns keys and values by page, layer by layer. A plan is what `plan` made of a pass's places."""

    shape: Shape
    capacity: int  # pages
    page_bytes: int

    def plan(self, places: Places) -> Any:
        """Whatever the layers of one pass have in common."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, plan: Any, scale: float) -> Tensor:
        """Keeps the new tokens' keys and values, and attends each token over its sequence up to itself.

        query [tokens, heads, size], key and value [tokens, kv heads, size] -> [tokens, heads, size]."""


class HostMemory:
    """float32 pages for the kernels: keys [layers, pages, heads, size, PAGE], values [layers, pages, heads, PAGE, size]."""

    def __init__(self, shape: Shape, capacity: int) -> None:
        self.shape, self.capacity, self.page_bytes = shape, capacity, shape.page_bytes(4)
        self.keys = _zeros((shape.layers, capacity, shape.heads, shape.size, PAGE))
        self.values = _zeros((shape.layers, capacity, shape.heads, PAGE, shape.size))

    def plan(self, places: Places) -> HostPlan:
        return HostPlan(places, places.pages, places.offsets)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, plan: HostPlan, scale: float) -> Tensor:
        tokens, heads, size = query.shape
        pair = torch.cat((key.reshape(tokens, -1), value.reshape(tokens, -1)), dim=1).float().numpy()
        out = np.empty((tokens, heads * size), dtype=np.float32)
        self.write(layer, pair, 0, plan)
        self.read(layer, query.reshape(tokens, -1).float().contiguous().numpy(), heads, plan, scale, out)
        return torch.from_numpy(out).view(tokens, heads, size).to(query.dtype)

    def write(self, layer: int, kv: Floats, begin: int, plan: HostPlan) -> None:
        """Keeps keys and values that stand in kv [tokens, width] from column `begin` on."""
        kernels.write(kv, begin, self.keys[layer], self.values[layer], plan.pages, plan.offsets)

    def read(self, layer: int, query: Floats, heads: int, plan: HostPlan, scale: float, out: Floats) -> None:
        """Attends queries [tokens, width] of so many heads; out [tokens, heads * size]."""
        at, keys, values = plan.places, self.keys[layer], self.values[layer]
        kernels.attend(query, heads, keys, values, at.tables, at.starts, at.rows, at.positions, scale, out)


def _zeros(shape: tuple[int, ...]) -> Floats:
    """Zeros at the beginning of a cache line, so that no load of sixteen crosses one. They are not written: the system gives
    memory page by page when it is first used."""
    size = math.prod(shape)
    room = np.zeros(size + 16, dtype=np.float32)
    begin = -(room.ctypes.data // 4) % 16
    return room[begin : begin + size].reshape(shape)


@dataclass(frozen=True, slots=True)
class HostPlan:
    places: Places
    pages: NDArray[np.int32]  # [tokens]
    offsets: Ints  # [tokens]


SHARED_ROWS, SHARED_PAGES = 4, 16  # a prefix of 128 positions that 4 rows share is worth a pass of its own


@dataclass(frozen=True, slots=True)
class _Part:
    """Some tokens over some pages: [tokens] indices, their pages [sequences, pages], and what each may see of them.

    One sequence for all tokens (a shared prefix, a chunk of a prompt), or one for each.
    """

    tokens: Tensor
    pages: Tensor
    mask: Tensor | None  # [sequences, tokens of each, positions], True where a token may look; None = everywhere


@dataclass(frozen=True, slots=True)
class _Plan:
    pages: Tensor  # [tokens] of the new tokens
    places: Tensor  # [tokens] within them
    parts: list[_Part]


class DeviceMemory:
    """Pages [layers, pages, PAGE, heads, size] of any dtype on any device."""

    def __init__(self, shape: Shape, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.capacity, self.page_bytes = shape, capacity, shape.page_bytes(dtype.itemsize)
        self.device = device
        self.keys = torch.empty((shape.layers, capacity, PAGE, shape.heads, shape.size), dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)

    def plan(self, places: Places) -> _Plan:
        parts = [self._part(*piece, places) for piece in _pieces(places)]
        return _Plan(self._tensor(places.pages), self._tensor(places.offsets), parts)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, plan: _Plan, scale: float) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[plan.pages, plan.places] = key.to(keys.dtype)
        values[plan.pages, plan.places] = value.to(values.dtype)
        out = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
        mass = torch.full(query.shape[:2], -torch.inf, device=query.device)  # log of the sum of exponentials so far
        for part in plan.parts:
            some, log = _attended(query[part.tokens], keys[part.pages], values[part.pages], part.mask, scale)
            old = mass[part.tokens]
            new = torch.logaddexp(old, log)
            # exact: two softmaxes over parts of the positions are one over all, each weighed by its share of the mass
            merged = out[part.tokens] * torch.exp(old - new)[..., None] + some * torch.exp(log - new)[..., None]
            out[part.tokens], mass[part.tokens] = merged, new
        return out.to(query.dtype)

    def _part(self, tokens: Ints, row: Ints, begin: int, end: int, places: Places) -> _Part:
        """Tokens over pages [begin, end) of the sequences of `row`: one row for all tokens, or a row for each."""
        pages, starts = places.tables[row, begin:end], places.starts[row, begin:end]
        after = places.starts[row, begin + 1 : end + 1]
        cells = starts[:, :, None] + np.arange(PAGE)
        # a page is filled up to where the next begins, and the last one as far as the token looks
        real = cells < np.where(after > starts, after, starts + PAGE)[:, :, None]
        real &= ((starts > 0) | (np.arange(begin, end) == 0))[:, :, None]  # beyond a row's last page its table means nothing
        cells, real = cells.reshape(len(row), -1), real.reshape(len(row), -1)
        reach = real & (cells <= places.positions[tokens][:, None])
        mask = None if reach.all() else self._tensor(reach[None] if len(row) == 1 else reach[:, None])
        return _Part(self._tensor(tokens), self._tensor(pages), mask)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        kind = torch.bool if array.dtype == np.bool_ else torch.long
        return torch.as_tensor(array, dtype=kind).to(self.device)


def _pieces(places: Places) -> list[tuple[Ints, Ints, int, int]]:
    """(tokens, rows, first page, last page + 1) that together give every token its whole sequence once.

    A prefix that SHARED_ROWS rows or more share for SHARED_PAGES pages or more is one piece for all of them, at every level
    of the tree; a row with several tokens (a prompt's chunk, a draft) is one; the rest of the single tokens is one."""
    found: list[tuple[Ints, Ints, int, int]] = []
    several = np.flatnonzero(np.bincount(places.rows)[places.rows] > 1)
    for row in np.unique(places.rows[several]):
        tokens = several[places.rows[several] == row]
        found.append((tokens, np.array([row]), 0, int(places.blocks[tokens].max()) + 1))
    single = np.setdiff1d(np.arange(len(places.rows)), several)
    rest: dict[int, list[int]] = {}  # first page that is not shared -> tokens

    def split(tokens: list[int], begin: int) -> None:
        """Cuts off what these tokens share from `begin` on, then goes on where they part."""
        full = {t: int(places.blocks[t]) for t in tokens}  # pages before the token's own
        end = begin
        while len(tokens) >= SHARED_ROWS:
            pages = {int(places.tables[places.rows[t], end]) if end < full[t] else -1 for t in tokens}
            if len(pages) > 1 or -1 in pages:
                break
            end += 1
        if end - begin >= SHARED_PAGES:
            found.append((np.array(tokens), places.rows[tokens[:1]], begin, end))
            begin = end
        groups: dict[int, list[int]] = {}
        for t in tokens:
            groups.setdefault(int(places.tables[places.rows[t], end]) if end < full[t] else -1 - t, []).append(t)
        for page, group in groups.items():
            if page >= 0 and len(group) >= SHARED_ROWS and len(group) < len(tokens):
                split(group, begin)
            else:
                rest.setdefault(begin, []).extend(group)

    if len(single):
        split(single.tolist(), 0)
    for begin, group in rest.items():
        tokens = np.array(group)
        found.append((tokens, places.rows[tokens], begin, int(places.blocks[tokens].max()) + 1))
    return found


def _attended(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention over gathered pages, and the log of each query's sum of exponentials, in float32.

    query [tokens, heads, size]; keys and values [sequences, pages, PAGE, kv heads, size], one sequence for all tokens or one
    for each; mask [sequences, tokens of each, positions] -> [tokens, heads, size], [tokens, heads]."""
    tokens, heads, size = query.shape
    sequences, shared = keys.shape[0], keys.shape[3]
    each, group = tokens // sequences, heads // shared
    q = query.view(sequences, each, shared, group, size).permute(0, 2, 1, 3, 4).reshape(sequences, shared, each * group, size)
    k = keys.flatten(1, 2).permute(0, 2, 3, 1)
    v = values.flatten(1, 2).permute(0, 2, 1, 3)
    scores = torch.matmul(q, k).float() * scale
    if mask is not None:
        scores = scores.masked_fill(~mask.repeat_interleave(group, dim=1)[:, None], -torch.inf)
        v = torch.where(mask.any(dim=1)[:, None, :, None], v, 0)  # what was never written may be anything, NaN too
    log = torch.logsumexp(scores, dim=-1)
    out = torch.matmul(torch.exp(scores - log[..., None]).to(v.dtype), v).float()
    shape = (sequences, shared, each, group)
    out = out.view(*shape, size).permute(0, 2, 1, 3, 4).reshape(tokens, heads, size)
    return out, log.view(shape).permute(0, 2, 1, 3).reshape(tokens, heads)
