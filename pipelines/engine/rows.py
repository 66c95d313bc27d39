"""The running rows' state as arrays, one place ("slot") a row, kept until the row ends.

A step gathers what it needs of the rows that run, in their order; so rows enter and leave without anything being moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine import momentum
from pipelines.engine.memory import Places
from pipelines.engine.pages import PAGE, pages_of
from pipelines.engine.quick import quick_draw
from pipelines.engine.sampler import Drawn, Settings, State, draw, uniforms
from search.types import Sampling

FIRST = 64  # slots, tokens and blocks to begin with
LOGPROB, CERTAINTY, ENTROPY, DRAWN, CONFIDENCE = range(5)  # the rows' statistics


ARRAYS = (
    *("tables", "starts", "tokens", "statistics", "next", "ends", "room", "origins", "firsts", "counts", "limits", "seeds"),
    *("inked", "edge", "mu", "temperatures", "plain", "momentum"),
)


class Rows:
    """Slots and their arrays; all grow by doubling."""

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.vocabulary, self.device = vocabulary, device
        self.free: list[int] = []
        self.slots = 0
        self.tables: NDArray[np.int32] = np.zeros((0, FIRST), dtype=np.int32)  # pages of the row's sequence
        self.starts: NDArray[np.int32] = np.zeros((0, FIRST), dtype=np.int32)  # where each begins; 0 after the last
        self.tokens: NDArray[np.int32] = np.zeros((0, FIRST), dtype=np.int32)  # drawn so far
        self.statistics: NDArray[np.float32] = np.zeros((0, 5, FIRST), dtype=np.float32)
        self.next: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # the token fed next
        self.ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # positions in memory
        self.room: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # positions that the row's pages hold
        self.origins: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # where the row's own segment begins
        self.firsts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # which of the pages is its own segment's first
        self.counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # tokens drawn
        self.limits: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.seeds: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.inked: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # whether anything but white space was written
        self.edge: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # whether the last token ends in a newline
        self.samplings: list[Sampling] = []
        self.temperatures: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.plain: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # whether the temperature is all there is
        self.mu: NDArray[np.float32] = np.zeros(0, dtype=np.float32)  # Mirostat's bound, bits
        self.momentum: NDArray[np.float64] = np.zeros(0, dtype=np.float64)  # alpha
        self.seen: dict[int, Tensor] = {}  # slot -> [vocabulary], for rows with a repetition penalty
        self.given: dict[int, NDArray[np.int64]] = {}  # slot -> the tokens that it begins with, where there are any
        self._gathered: tuple[tuple[int, ...], Settings, int] | None = None
        self._carried: tuple[NDArray[np.int64], State] | None = None  # what rows carry on, drawn and not appended

    # ------------------------------------------------------------------------------------------------- entering, leaving

    def take(self) -> int:
        """A slot of one's own."""
        if not self.free:
            more = max(self.slots, FIRST)
            for name in ARRAYS:
                old: NDArray[Any] = getattr(self, name)
                setattr(self, name, np.concatenate((old, np.zeros((more, *old.shape[1:]), dtype=old.dtype))))
            self.samplings += [Sampling()] * more
            self.free = list(range(self.slots + more - 1, self.slots - 1, -1))
            self.slots += more
        return self.free.pop()

    def begin(
        self, slot: int, seed: int, limit: int, sampling: Sampling, prefix: tuple[int, ...], given: tuple[int, ...] = ()
    ) -> None:
        """A row that has drawn nothing yet. It begins with the tokens `given`."""
        self.next[slot], self.counts[slot], self.limits[slot], self.seeds[slot] = prefix[-1], 0, limit, seed
        self.inked[slot] = self.edge[slot] = False
        self.samplings[slot], self.temperatures[slot] = sampling, sampling.temperature
        self.plain[slot] = sampling == Sampling(temperature=sampling.temperature)
        self.mu[slot] = 2 * sampling.mirostat_tau
        self.momentum[slot] = sampling.momentum
        if given:
            self.given[slot] = np.array(given, dtype=np.int64)
        if sampling.repetition_penalty != 1:
            seen = torch.zeros(self.vocabulary, dtype=torch.bool)
            seen[[t for t in prefix if t < self.vocabulary]] = True
            self.seen[slot] = seen.to(self.device)

    def leave(self, slot: int) -> None:
        self.seen.pop(slot, None)
        self.given.pop(slot, None)
        self._gathered = None
        self.free.append(slot)

    def place(self, slot: int, pages: list[int], starts: list[int], end: int) -> None:
        """A row at the beginning of its own segment: the pages before it, which hold `end` positions."""
        self._widen("tables", len(pages) + 2)
        self._widen("starts", len(pages) + 2)
        self.tables[slot, : len(pages)] = pages
        self.starts[slot, : len(pages)] = starts
        self.starts[slot, len(pages) :] = 0
        self.ends[slot] = self.room[slot] = self.origins[slot] = end
        self.firsts[slot] = len(pages)

    def extend(self, slot: int, pages: list[int], room: int) -> None:
        """More pages for the row's own segment, which then holds `room` positions of the sequence."""
        origin, first = int(self.origins[slot]), int(self.firsts[slot])
        last = first + pages_of(room - origin)
        self._widen("tables", last + 2)
        self._widen("starts", last + 2)
        begin = last - len(pages)
        self.tables[slot, begin:last] = pages
        self.starts[slot, begin:last] = origin + PAGE * np.arange(begin - first, last - first)
        self.room[slot] = room

    def shorten(self, slot: int, room: int) -> None:
        """The row's own segment lost its last pages, and holds the sequence's positions up to `room`."""
        last = int(self.firsts[slot]) + pages_of(room - int(self.origins[slot]))
        self.starts[slot, last:] = 0
        self.room[slot] = room

    def places(self, slots: NDArray[np.int64], positions: NDArray[np.int64]) -> Places:
        """Where tokens at these positions of these rows' own segments stand."""
        blocks = self.firsts[slots] + (positions - self.origins[slots]) // PAGE
        return Places(positions, slots, blocks, self.tables, self.starts)

    def _widen(self, name: str, size: int) -> None:
        old: NDArray[Any] = getattr(self, name)
        if size > old.shape[-1]:
            wider = np.zeros((*old.shape[:-1], max(size, 2 * old.shape[-1])), dtype=old.dtype)
            wider[..., : old.shape[-1]] = old
            setattr(self, name, wider)

    # ---------------------------------------------------------------------------------------------------------- drawing

    def draw(self, slots: NDArray[np.int64], logits: Tensor) -> Drawn:
        """One token for each of these rows from logits [rows, vocabulary]. What a row's settings are decides alone how. Until
        `append` the rows are as they were, so that a draw that fails can be made again."""
        self._carried = None
        fixed = self._fixed(slots, logits)
        quick = self.plain[slots] & (logits.device.type == "cpu") & (True if fixed is None else fixed < 0)
        if quick.all():
            return self._quick(slots, logits)
        if not quick.any():
            return self._shaped(slots, logits, fixed)
        order, parts = [], []
        for wanted in (quick, ~quick):
            index = np.flatnonzero(wanted)
            order.append(index)
            own = slots[index], logits[torch.from_numpy(index)]
            kept = None if fixed is None else fixed[index]
            parts.append(self._quick(*own) if wanted is quick else self._shaped(*own, kept))
        return joined(parts, torch.from_numpy(np.argsort(np.concatenate(order))))

    def _quick(self, slots: NDArray[np.int64], logits: Tensor) -> Drawn:
        noise = uniforms(torch.from_numpy(self.seeds[slots]), torch.from_numpy(self.counts[slots])).numpy()
        return quick_draw(logits, self.temperatures[slots], noise)

    def _fixed(self, slots: NDArray[np.int64], logits: Tensor) -> NDArray[np.int64] | None:
        """The next token of each row where it is given, or follows from the logits by a rule of its own; else -1. None where
        no row has such a token."""
        if not self.given and not self.momentum[slots].any():
            return None
        fixed: NDArray[np.int64] = np.full(len(slots), -1, dtype=np.int64)
        for i, slot in enumerate(slots.tolist()):
            given, count = self.given.get(slot), int(self.counts[slot])
            if given is not None and count < len(given):
                fixed[i] = given[count]
            elif self.momentum[slot]:
                fixed[i] = momentum.taken(logits[i], self.tokens[slot, :count], float(self.momentum[slot]))
        return fixed

    def _shaped(self, slots: NDArray[np.int64], logits: Tensor, fixed: NDArray[np.int64] | None) -> Drawn:
        seeds, counts = (torch.from_numpy(a[slots]).to(self.device) for a in (self.seeds, self.counts))
        state, (settings, confidence) = self._state(slots), self._settings(slots)
        wanted = None if fixed is None or (fixed < 0).all() else torch.from_numpy(fixed).to(self.device)
        drawn = draw(logits, settings, seeds, counts, state, confidence, wanted)
        self._carried = None if state is None else (slots, state)
        return drawn

    def _settings(self, slots: NDArray[np.int64]) -> tuple[Settings, int]:
        """The sampling settings of these slots, and the most that one of them wants of DeepConf's k; kept while they are the
        same."""
        key = tuple(slots.tolist())
        if self._gathered is None or self._gathered[0] != key:
            samplings = [self.samplings[slot] for slot in key]
            self._gathered = key, _settings(samplings, self.device), max(s.confidence for s in samplings)
        return self._gathered[1:]

    def _state(self, slots: NDArray[np.int64]) -> State | None:
        """What these rows carry from token to token; None where none of them carries anything."""
        if not self.seen and not self.mu[slots].any():
            return None
        seen = None
        if self.seen:
            none = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.device)
            seen = torch.stack([self.seen.get(int(slot), none) for slot in slots])
        return State(torch.from_numpy(self.mu[slots]).to(self.device), seen)

    def _keep(self, slots: NDArray[np.int64], state: State) -> None:
        self.mu[slots] = state.mu.cpu().numpy()
        if state.seen is not None:
            for row, slot in enumerate(slots.tolist()):
                if slot in self.seen:
                    self.seen[slot] = state.seen[row]

    def append(self, slots: NDArray[np.int64], drawn: Drawn) -> NDArray[np.int64]:
        """Writes the token drawn for each of these rows and moves on by one position; the tokens."""
        counts = self.counts[slots]
        most = int(counts.max()) + 1
        self._widen("tokens", most)
        self._widen("statistics", most)
        columns = [drawn.logprobs, drawn.certainties, drawn.entropies, drawn.drawn]
        if drawn.confidences is not None:
            columns.append(drawn.confidences)
        tokens = drawn.tokens.cpu().numpy()
        if self._carried is not None:
            self._keep(*self._carried)
            self._carried = None
        self.tokens[slots, counts] = tokens
        for i, values in enumerate(columns):
            self.statistics[slots, i, counts] = values.cpu().numpy()
        self.next[slots] = tokens
        self.counts[slots] += 1
        self.ends[slots] += 1
        return tokens


def _settings(samplings: Sequence[Sampling], device: torch.device) -> Settings:
    def column(name: str, kind: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor([getattr(sampling, name) for sampling in samplings], dtype=kind, device=device)

    def optional(name: str, off: float, kind: torch.dtype = torch.float32) -> Tensor | None:
        return None if all(getattr(sampling, name) == off for sampling in samplings) else column(name, kind)

    return Settings(
        column("temperature"),
        column("top_k", torch.long),
        column("top_p"),
        column("min_p"),
        penalty=optional("repetition_penalty", 1.0),
        tau=optional("mirostat_tau", 0.0),
        eta=column("mirostat_eta"),
        confidence=optional("confidence", 0, torch.long),
    )


def joined(parts: Sequence[Drawn], order: Tensor) -> Drawn:
    """Rows that were drawn in parts, in their order."""
    columns: dict[str, Any] = {}
    for field in fields(Drawn):
        values = [getattr(part, field.name) for part in parts]
        if any(value is not None for value in values):
            zeros = (torch.zeros(len(part.tokens)) for part in parts)
            columns[field.name] = torch.cat([z if v is None else v for v, z in zip(values, zeros, strict=True)])[order]
    return Drawn(**columns)
