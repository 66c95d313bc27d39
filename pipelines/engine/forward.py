"""The model's forward passes over our own key/value memory.

The Hugging Face module is used as it is: an attention function registered through transformers' interface takes the keys and
values of the new tokens, keeps them in our memory and attends over it. So any causal language model with full attention
runs, and its own `generate` and plain forward pass remain the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.engine.cache import Slots

NAME = "ponderosa"


class Memory(Protocol):
    """What one forward pass does with the new keys and values of a layer."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """query [rows, heads, new, size], key and value [rows, kv heads, new, size] -> [rows, new, heads, size]."""


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    memory: Memory = kwargs["memory"]
    return memory.attend(int(module.layer_idx), query, key, value, kwargs.get("scaling")), None  # type: ignore[arg-type]


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Causality is the memory's business."""


def register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def refusal(config: Any) -> str | None:
    """Why a model cannot run on this core, or None: only full attention in every layer is supported."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"it has {', '.join(sorted(kinds - {'full_attention'}))} layers"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it uses sliding-window attention"
    return None


@dataclass(slots=True)
class Fresh:
    """Whole prefixes, right-padded, nothing before them: keys and values are kept for the caller to take."""

    kept: dict[int, tuple[Tensor, Tensor]]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        self.kept[layer] = (key, value)
        groups = query.shape[1] // key.shape[1]
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=groups > 1)
        return out.transpose(1, 2)


@dataclass(slots=True)
class Decode:
    """One new token a row. Rows are slots 0 to rows-1, so the memory is attended in place, without a gather."""

    slots: Slots
    positions: Tensor  # [rows] of the new tokens
    mask: Tensor  # [rows, 1, 1, positions], True where a row may look

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        rows, heads, _, size = query.shape
        reach = self.mask.shape[-1]
        index = torch.arange(rows, device=query.device)
        keys, values = self.slots.data[layer, 0], self.slots.data[layer, 1]
        keys[index, :, self.positions] = key[:, :, 0]
        values[index, :, self.positions] = value[:, :, 0]
        # the query heads of one key/value head stand as queries of one attention: nothing is repeated
        grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
        out = F.scaled_dot_product_attention(
            grouped, keys[:rows, :, :reach], values[:rows, :, :reach], attn_mask=self.mask, scale=scale
        )
        return out.reshape(rows, 1, heads, size)
