"""The model's forward pass over our own key/value memory: tokens of many sequences in, logits of the wanted ones out.

ModuleForward uses the Hugging Face module as it is: an attention function registered through transformers' interface gives the
keys and values of the new tokens to our memory and attends over it. So any causal language model with full attention runs, and
its own `generate` and plain forward pass remain the oracle. FusedForward (fused.py) is the fast path of some families on a
CPU. PlainForward is for models that neither serves: it keeps nothing and computes every token of a sequence again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine.layercast import CastLinear
from pipelines.engine.memory import Ints, Memory, Places

NAME = "ponderosa"


@dataclass(frozen=True, slots=True)
class Batch:
    """One pass: new tokens with their places, all of a row's side by side and in order."""

    ids: Ints  # [tokens]
    places: Places
    wanted: Ints  # indices of the tokens whose logits are wanted, ascending


class Forward(Protocol):
    """Runs batches. `what` says in a few words how, for people."""

    what: str

    def __call__(self, batch: Batch) -> Tensor:
        """Logits float32 [wanted, vocabulary]."""


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query [1, heads, tokens, size], key and value [1, kv heads, tokens, size] -> [1, tokens, heads, size]."""
    attend: Callable[..., Tensor] = kwargs["attend"]
    scale = kwargs.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(int(module.layer_idx), q, k, v, scale)[None], None  # type: ignore[arg-type]


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Causality is the memory's business."""


def register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def refusal(config: Any) -> str | None:
    """Why a model's attention cannot run over paged memory, or None: only full attention in every layer is supported."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"it has {', '.join(sorted(kinds - {'full_attention'})).replace('_', ' ')} layers"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it uses sliding-window attention"
    if getattr(config, "num_attention_heads", None) is None:
        return "it has no attention heads"
    return None


class ModuleForward:
    """The Hugging Face module over paged memory."""

    def __init__(self, model: Any, memory: Memory) -> None:
        self.model, self.memory = model, memory
        self.device = next(model.parameters()).device
        self.least = _least_rows(model)
        self.what = f"the Hugging Face module over paged memory, {type(memory).__name__}"

    def __call__(self, batch: Batch) -> Tensor:
        count = len(batch.ids)
        padded = max(count, self.least)
        ids, positions = np.zeros(padded, dtype=np.int64), np.zeros(padded, dtype=np.int64)
        ids[:count], positions[:count] = batch.ids, batch.places.positions
        plan = self.memory.plan(batch.places)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            out = self.memory.attend(layer, query[:count], key[:count], value[:count], plan, scale)
            return torch.nn.functional.pad(out, (0, 0, 0, 0, 0, padded - count))

        wanted = np.zeros(max(len(batch.wanted), min(self.least, padded)), dtype=np.int64)
        wanted[: len(batch.wanted)] = batch.wanted
        # the whole module, not its head alone: some families scale or cap their logits after it
        out = self.model(
            input_ids=self._tensor(ids)[None],
            position_ids=self._tensor(positions)[None],
            use_cache=False,
            logits_to_keep=self._tensor(wanted),
            attend=attend,
        )
        logits: Tensor = out.logits[0, : len(batch.wanted)].float()
        return logits

    def _tensor(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self.device)


class PlainForward:
    """Every sequence computed whole for each of its tokens, with the module's own attention: slow, and right for any causal
    model."""

    def __init__(self, model: Any, why: str) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.what = f"the plain path ({why}): every sequence is computed again for each token"

    def whole(self, sequences: Sequence[NDArray[np.int64]]) -> Tensor:
        """Logits float32 [sequences, vocabulary] after the last token of each."""
        longest = max(map(len, sequences))
        ids = np.zeros((len(sequences), longest), dtype=np.int64)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        # right-padded and causal: what follows a sequence cannot reach it
        hidden = self.model(input_ids=torch.from_numpy(ids).to(self.device), use_cache=False).logits
        last = torch.tensor([len(s) - 1 for s in sequences], device=self.device)
        logits: Tensor = hidden[torch.arange(len(sequences), device=self.device), last].float()
        return logits


def _least_rows(model: Any) -> int:
    """The smallest batch from which on a row's products no longer depend on how many rows there are; smaller ones are padded.

    Measured on the spot, since it is a matter of the processor and its library; 1 away from float32 on a CPU, where it is not
    promised."""
    one = next(model.parameters())
    if one.device.type != "cpu" or model.config.dtype != torch.float32:
        return 1
    linear = {tuple(m.weight.shape): m for m in model.modules() if isinstance(m, torch.nn.Linear | CastLinear)}
    with torch.inference_mode():
        return max((least_rows(m.in_features, m) for m in linear.values()), default=2)


def least_rows(width: int, product: Callable[[Tensor], Tensor], most: int = 32) -> int:
    """The smallest m such that the product of m, m + 1, ... rows gives each row the bits it gets among `most` rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(most, width, generator=generator)
    whole = product(x)
    for rows in range(most - 1, 0, -1):
        if not torch.equal(product(x[:rows]), whole[:rows]):
            return rows + 1
    return 1
