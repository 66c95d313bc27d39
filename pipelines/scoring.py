"""What a model says at chosen positions of token sequences: the door through which reward models are read.

A *head* turns hidden states into what is read there: the two labels of a token classifier, one value, or the logits of a few
words of a language model. It knows nothing of questions or steps; `verifiers` lays those out and says what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.scarce import OutOfMemory, halved

SCORERS = ("auto", "paged", "whole")  # how sequences may be read
Head = Callable[[Any], Any]  # hidden states [positions, width] -> outputs [positions, K], torch tensors


@dataclass(frozen=True, slots=True)
class Laid:
    """A token sequence, and the positions whose outputs are wanted, ascending.

    Sequences that begin alike are computed once up to where they part, if they part at a mark or after the first `shared`
    tokens: those that all sequences of one question begin with."""

    ids: tuple[int, ...]
    marks: tuple[int, ...]
    shared: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What was read, and what it cost."""

    values: NDArray[np.float32]  # [marks, K], as the head gives them: no squashing
    tokens: int  # that were computed
    flops: float
    cached: int = 0  # tokens whose computation was there from an earlier sequence


class Scorer(Protocol):
    """Reads sequences in a batch. What comes out for one does not depend on what else is in the batch, but for its cost."""

    context: int  # tokens a sequence may have

    def outputs(self, laid: Sequence[Laid]) -> list[Output | OutOfMemory]:
        """One output a sequence, in order; for one that alone needs more memory than there is, the error. Sequences must be
        within the context."""


@dataclass(slots=True)
class WholeScorer:
    """Computes every sequence from its first token, padded batches of like length: for any causal model."""

    base: Any  # the model without its head: input_ids [rows, length] -> last_hidden_state
    head: Head
    context: int
    batch_tokens: int = 8192  # padded tokens of one forward pass

    def outputs(self, laid: Sequence[Laid]) -> list[Output | OutOfMemory]:
        found: list[Output | OutOfMemory | None] = [None] * len(laid)
        parameters = sum(p.numel() for p in self.base.parameters())
        for batch in self._batches([len(each.ids) for each in laid]):
            for i, values in zip(batch, halved([laid[i] for i in batch], self._forward), strict=True):
                tokens = len(laid[i].ids)
                found[i] = values if isinstance(values, OutOfMemory) else Output(values, tokens, 2.0 * parameters * tokens)
        return [each for each in found if each is not None]

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Sequences of like length together."""
        held: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if held and lengths[i] * (len(held) + 1) > self.batch_tokens:
                yield held
                held = []
            held.append(i)
        if held:
            yield held

    def _forward(self, laid: Sequence[Laid]) -> list[NDArray[np.float32]]:
        import torch

        batch = torch.zeros(len(laid), max(len(each.ids) for each in laid), dtype=torch.long)
        for i, each in enumerate(laid):
            batch[i, : len(each.ids)] = torch.tensor(each.ids)
        rows = torch.tensor([i for i, each in enumerate(laid) for _ in each.marks])
        columns = torch.tensor([mark for each in laid for mark in each.marks])
        device = next(self.base.parameters()).device
        with torch.inference_mode():
            # right-padded and causal: what follows a sequence cannot reach it, so no attention mask is needed
            hidden = self.base(input_ids=batch.to(device), use_cache=False).last_hidden_state
            values = self.head(hidden[rows, columns]).float().cpu().numpy()
        ends = np.cumsum([len(each.marks) for each in laid])[:-1]
        return [np.asarray(part) for part in np.split(values, ends)]


__all__ = ["SCORERS", "Head", "Laid", "Output", "Scorer", "WholeScorer"]
