"""The model's forward pass over our own key/value memory: tokens of many sequences in, logits of the wanted ones out.

ModuleForward uses the Hugging Face module as it is: an attention function registered through transformers' interface gives the
keys and values of the new tokens to our memory and attends over it. So any causal language model with full attention runs, and
its own `generate` and plain forward pass remain the oracle. FusedForward (fused.py) is the fast path of some families on a
CPU. PlainForward is for models that neither serves: it keeps nothing and computes every token of a sequence again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine.batch import MOST_ROWS, Batch
from pipelines.engine.layercast import CastLinear, arithmetic
from pipelines.engine.memory import Ints, Memory, Places
from pipelines.engine.pages import PAGE, pages_of
from pipelines.engine.threads import SideBySide

NAME = "ponderosa"
AGREES = 2e-3  # largest difference of log-probabilities between two ways of computing the same in float32
AGREES_16 = 0.02  # largest Kullback-Leibler divergence in 16 bits, nats


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
    ropes = getattr(config, "rope_parameters", None) or {}  # of a model with full attention: one for all layers
    context = getattr(config, "max_position_embeddings", 0)
    if ropes.get("rope_type") in ("dynamic", "longrope") and ropes.get("original_max_position_embeddings", context) < context:
        return "its rotary embedding changes with the length"
    return None


class ModuleForward(SideBySide):
    """The Hugging Face module over paged memory."""

    def __init__(self, model: Any, memory: Memory, threads: int = 1) -> None:
        self.model, self.memory = model, memory
        self.device = next(model.parameters()).device
        super().__init__(threads if self.device.type == "cpu" else 1)
        self.least = _least_rows(model)
        self.what = f"the Hugging Face module over paged memory, {type(memory).__name__}"

    def _piece(self, batch: Batch) -> Tensor:
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
        places = {"input_ids": self._tensor(ids)[None], "position_ids": self._tensor(positions)[None]}
        return self._said(places, self._tensor(wanted), attend)[: len(batch.wanted)].float()

    def _said(self, places: dict[str, Tensor], wanted: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """Of the whole module, not of its head alone: some families scale or cap their logits after it."""
        out = self.model(**places, use_cache=False, logits_to_keep=wanted, attend=attend)
        logits: Tensor = out.logits[0]
        return logits

    def _tensor(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self.device)


class HeadlessForward(ModuleForward):
    """A module without a head: the wanted tokens' hidden states, as its last norm leaves them."""

    def _said(self, places: dict[str, Tensor], wanted: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        hidden: Tensor = self.model(**places, use_cache=False, attend=attend).last_hidden_state[0, wanted]
        return hidden


class PlainForward:
    """Every sequence computed whole for each of its tokens, with the module's own attention: slow, and right for any causal
    model."""

    def __init__(self, model: Any, why: str) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.what = f"the plain path ({why}): every sequence is computed again for each token"

    def whole(self, sequences: Sequence[NDArray[np.int64]]) -> Tensor:
        """Logits float32 [sequences, vocabulary] after the last token of each. Only sequences of one length share a pass: what
        stands beside them, padding too, may change some models' positions."""
        found: dict[int, Tensor] = {}
        for length in sorted({len(s) for s in sequences}):
            index = [i for i, s in enumerate(sequences) if len(s) == length]
            ids = torch.from_numpy(np.stack([sequences[i] for i in index])).to(self.device)
            logits = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
            found |= dict(zip(index, logits, strict=True))
        return torch.stack([found[i] for i in range(len(sequences))])


def sample(vocabulary: int, context: int) -> Tensor:
    """Two sequences [2, tokens] on which two ways of computing are compared."""
    return torch.randint(vocabulary, (2, min(24, context)), generator=torch.Generator().manual_seed(0))


def paged(ways: Forward, ids: Tensor) -> Tensor:
    """Logits [2, tokens, vocabulary] by a way over free memory: the rows side by side, one of them in two passes, on pages that
    lie in no order."""
    count, cut = ids.shape[1], ids.shape[1] // 2
    pages = pages_of(count)
    tables = np.full((2, pages + 2), 0, dtype=np.int32)
    tables[0, :pages], tables[1, :pages] = np.arange(2 * pages)[::2], np.arange(2 * pages)[::-2]
    starts = np.zeros((2, pages + 2), dtype=np.int32)
    starts[:, :pages] = PAGE * np.arange(pages)
    passes = []
    for spans in (((0, 0, cut),), ((0, cut, count), (1, 0, count))):
        at = np.concatenate([np.arange(begin, end) for _, begin, end in spans])
        rows = np.concatenate([np.full(end - begin, row) for row, begin, end in spans])
        batch = Batch(ids.numpy()[rows, at], Places(at, rows, at // PAGE, tables, starts), np.arange(len(at)))
        passes.append(ways(batch))
    return torch.cat(passes).view(2, count, -1)


def agree(ours: Tensor, theirs: Tensor, exact: bool) -> bool:
    """Whether logits [..., vocabulary] are the same but for rounding."""
    ours, theirs = (torch.log_softmax(x.float(), dim=-1).cpu() for x in (ours, theirs))
    if exact:
        return bool((ours - theirs).abs().max() < AGREES)
    return bool((theirs.exp() * (theirs - ours)).sum(dim=-1).max() < AGREES_16)


def _least_rows(model: Any) -> int:
    """The smallest batch from which on a row's products no longer depend on how many rows there are; smaller ones are padded.

    Measured on the spot, since it is a matter of the processor and its library; 1 away from float32 on a CPU, where it is not
    promised."""
    one = next(model.parameters())
    if one.device.type != "cpu" or arithmetic(model) != torch.float32:
        return 1
    linear = {tuple(m.weight.shape): m for m in model.modules() if isinstance(m, torch.nn.Linear | CastLinear)}
    with torch.inference_mode():
        return max((least_rows(int(m.in_features), m) for m in linear.values()), default=16)


def least_rows(width: int, product: Callable[[Tensor], Tensor]) -> int:
    """The smallest m such that products of m to MOST_ROWS rows give each row the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    x = torch.randn(MOST_ROWS, width, generator=torch.Generator().manual_seed(0))
    whole = product(x)
    odd = (rows for rows in (127, 112, 96, 64, 48, *range(33, 0, -1)) if not torch.equal(product(x[:rows]), whole[:rows]))
    least = next(odd, 0) + 1
    torch.set_num_threads(before)
    return least
