"""Reading sequences on the core's paged memory: of a sequence whose beginning was read before only the rest is computed.

What comes out is a function of the sequence alone: in float32 on a CPU to the bit, whatever is in memory and whatever else is
in the batch; elsewhere up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.engine import forward
from pipelines.engine.batch import Batch
from pipelines.engine.build import CannotServe, memory_for, paged_way
from pipelines.engine.forward import Forward
from pipelines.engine.layercast import arithmetic
from pipelines.engine.memory import Places
from pipelines.engine.pages import Pool
from pipelines.engine.prefixes import Node, Prefixes, pieces_of
from pipelines.engine.scarce import OutOfMemory, out_of_memory, released, said
from pipelines.scoring import Head, Laid, Output, Scorer, WholeScorer

BLOCK = 16  # positions that the head sees at once: always as many, so that none of them depends on how many there are


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A sequence of a batch: its nodes, and what of them it brought in and pays for."""

    nodes: list[Node]  # one that ends at each mark, and before them one for the shared beginning, where that is told
    new: list[Node]
    marks: int


@dataclass(slots=True)
class PrefixScorer:
    """A causal model without its head over paged memory."""

    forward: Forward
    head: Head
    pool: Pool
    context: int
    parameters: int
    device: torch.device
    dtype: torch.dtype  # what the head computes with
    prefixes: Prefixes = field(init=False)

    def __post_init__(self) -> None:
        self.prefixes = Prefixes(self.pool)

    @property
    def what(self) -> str:
        return self.forward.what

    def outputs(self, laid: Sequence[Laid]) -> list[Output | OutOfMemory]:
        found: list[Output | OutOfMemory] = []
        while len(found) < len(laid):
            found += self._batch(laid[len(found) :])
        return found

    def _batch(self, laid: Sequence[Laid]) -> list[Output | OutOfMemory]:
        """The outputs of the first of these, as many as there is memory for: one at least."""
        reads, short = self._placed(laid)
        try:
            if reads:
                self._compute(reads)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            short = said(error)
        else:
            return [self._output(read) for read in reads] if reads else [OutOfMemory(short)]
        finally:
            self.prefixes.release()
            self.prefixes.drop(node for read in reads for node in read.new if node.value is None)
        # beyond the except clause: the error holds the frames in which it was raised, and they hold the memory
        released()
        return [OutOfMemory(short)] if len(reads) == 1 else self._batch(laid[: len(reads) // 2])

    def _placed(self, laid: Sequence[Laid]) -> tuple[list[_Read], str]:
        """Room for as many of the sequences as there is, and why there is none for the next."""
        reads = list[_Read]()
        for each in laid:
            try:
                reads.append(_Read(*self.prefixes.path(pieces_of(each)), len(each.marks)))
            except MemoryError as error:
                return reads, str(error)
        return reads, ""

    def _compute(self, reads: Sequence[_Read]) -> None:
        for chains in levels([read.new for read in reads if read.new]):
            values = self._values(chains)
            for node, value in zip((node for chain in chains for node in chain), values, strict=True):
                node.value = value

    @torch.inference_mode()
    def _values(self, chains: Sequence[Sequence[Node]]) -> NDArray[np.float32]:
        """What the head says at the last token of each node, [nodes, K]: one pass over chains that share no new node."""
        views = [self.pool.view(chain[-1].segment) for chain in chains]
        shape = len(chains), max(len(pages) for pages, _ in views) + 2
        tables, starts = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        positions, rows, blocks = [], [], []
        for row, (chain, (pages, begins)) in enumerate(zip(chains, views, strict=True)):
            tables[row, : len(pages)], starts[row, : len(pages)] = pages, begins
            at = np.arange(chain[0].begin, chain[-1].segment.end)
            positions.append(at)
            rows.append(np.full(len(at), row))
            blocks.append(np.searchsorted(begins, at, side="right") - 1)
        places = Places(np.concatenate(positions), np.concatenate(rows), np.concatenate(blocks), tables, starts)
        ids = np.array([token for chain in chains for node in chain for token in node.ids], dtype=np.int64)
        wanted = np.cumsum([len(node.ids) for chain in chains for node in chain]) - 1
        return self._headed(self.forward(Batch(ids, places, wanted)))

    def _headed(self, hidden: torch.Tensor) -> NDArray[np.float32]:
        short = -len(hidden) % BLOCK
        blocks = torch.nn.functional.pad(hidden, (0, 0, 0, short)).to(self.device, self.dtype).view(-1, BLOCK, hidden.shape[1])
        values = torch.cat([self.head(block) for block in blocks])[: len(hidden)]
        return values.float().cpu().numpy()

    def _output(self, read: _Read) -> Output:
        computed = sum(len(node.ids) for node in read.new)
        values = np.stack([node.value for node in read.nodes[-read.marks :] if node.value is not None])
        cached = sum(len(node.ids) for node in read.nodes) - computed
        return Output(values, computed, 2.0 * self.parameters * computed, cached)


def levels(chains: Sequence[list[Node]]) -> Iterator[list[list[Node]]]:
    """Chains of new nodes, each from its first to its last, in the order in which they may be computed: those of one level side
    by side, each level above the node that it continues."""
    level = dict[int, int]()  # of each new node, by id
    ordered: list[list[list[Node]]] = []
    for chain in chains:  # whoever brought in a node stands before those that continue it
        above = chain[0].parent
        depth = 0 if above is None else level.get(id(above), -1) + 1
        level |= {id(node): depth for node in chain}
        ordered += [[]] * (depth + 1 - len(ordered))
        ordered[depth] = [*ordered[depth], chain]
    yield from ordered


def scorer(base: Any, head: Head, context: int, *, cache_mb: int = 0, threads: int = 0, path: str = "auto") -> Scorer:
    """How a causal model without its head is read: over paged memory where that agrees with the module's own attention, else
    every sequence whole. Raises CannotServe where `path` is "paged" and that cannot be, or the memory is too small."""
    forward.register()
    whole = WholeScorer(base, head, context)
    why = forward.refusal(base.config)
    if path != "whole" and not why:
        memory = memory_for(base, context, cache_mb)
        way = paged_way(base, memory, "auto", context, threads or torch.get_num_threads(), base.config.vocab_size)
        if not isinstance(way, str):
            parameters = sum(p.numel() for p in base.parameters())
            device, dtype = next(base.parameters()).device, arithmetic(base)
            return PrefixScorer(way, head, Pool(memory.capacity), context, parameters, device, dtype)
        why = way
    if path == "paged":
        raise CannotServe(f"{why}; use path=whole")
    return whole


__all__ = ["PrefixScorer", "levels", "scorer"]
