"""The fast path of Llama- and Qwen-shaped models on a CPU in float32: few, large matrix products, and kernels for the rest.

Queries, keys and values come from one product, gate and up from another; the gains of the norms stand in the matrices;
matrices are stored as the product reads them. A step of a layer is four products and four kernels. It is used only where its
logits agree with the Hugging Face module's when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipelines.engine import kernels
from pipelines.engine.forward import Batch, Forward, least_rows
from pipelines.engine.memory import Floats, HostMemory, Places
from pipelines.engine.pages import PAGE, pages_of

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROPES = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone
AGREES = 2e-3  # largest difference of log-probabilities from the module's
MIN_PART = 8  # tokens: smaller parts of a batch are not worth a thread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Tensor  # [hidden, (heads + 2 kv heads) * size]
    bias: Tensor | None
    gains: Floats  # [2, size] of the head norms, or [0, size]
    out: Tensor  # [heads * size, hidden]
    gated: Tensor  # [hidden, 2 * inner]
    down: Tensor  # [inner, hidden]


@dataclass(frozen=True, slots=True)
class _Views(Generic[T]):
    """A pass's activations, [tokens, ...] each."""

    x: T  # the residual stream
    normed: T
    qkv: T
    heads: T
    gated: T
    inner: T


class _Work:
    """One thread's buffers: every product writes into its place."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes, self.rows = sizes, 0
        self._cut: dict[int, tuple[_Views[Tensor], _Views[Floats]]] = {}

    def reserve(self, rows: int) -> None:
        if rows > self.rows:
            self.rows, self._cut = 2 * rows, {}
            self._buffers = [torch.zeros(self.rows, size) for size in self.sizes]

    def cut(self, rows: int) -> tuple[_Views[Tensor], _Views[Floats]]:
        """The first so many rows of each, for torch and for the kernels."""
        if rows not in self._cut:
            tensors = [buffer[:rows] for buffer in self._buffers]
            self._cut[rows] = _Views(*tensors), _Views(*(t.numpy() for t in tensors))
        return self._cut[rows]


def refusal(model: Any) -> str | None:
    """Why a model cannot take the fast path, or None."""
    config, name = model.config, type(model).__name__
    if name not in FAMILIES:
        return f"{name} is not of its families"
    size = _head_size(config)
    if size % 32 or config.hidden_size % 16 or config.intermediate_size % 16:
        return "its sizes are not multiples of 16"
    if config.hidden_act != "silu" or getattr(config, "mlp_bias", False):
        return "its MLP is another"
    if name == "LlamaForCausalLM" and config.attention_bias:
        return "its attention has an output bias"
    if (config.rope_parameters or {}).get("rope_type", "default") not in ROPES:
        return "its rotary embedding changes with the length"
    if next(model.parameters()).dtype != torch.float32 or next(model.parameters()).device.type != "cpu":
        return "it is not float32 on a CPU"
    return None


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class FusedForward:
    """Llama, Mistral, Qwen2 or Qwen3 over HostMemory. `threads` parts of a batch run side by side."""

    def __init__(self, model: Any, memory: HostMemory, context: int, threads: int = 1) -> None:
        config, inner = model.config, model.model
        self.memory, self.threads = memory, threads
        self.heads, self.shared, self.size = config.num_attention_heads, memory.shape.heads, memory.shape.size
        self.eps, self.scale = float(config.rms_norm_eps), float(inner.layers[0].self_attn.scaling)
        self.embedding: Tensor = inner.embed_tokens.weight.detach()
        self.layers = [_layer(block, self.size) for block in inner.layers]
        head = model.lm_head.weight.detach() * inner.norm.weight.detach()
        self.vocabulary = head.shape[0]
        self.head = torch.nn.functional.pad(head, (0, 0, 0, -len(head) % 16)).t().contiguous()  # rows that `choose` can read
        cosine, sine = inner.rotary_emb(torch.zeros(1, 1, 1), torch.arange(context)[None])
        half = self.size // 2
        self.cosine, self.sine = (x[0, :, :half].float().contiguous().numpy() for x in (cosine, sine))
        self.least = self._least()
        hidden, width = config.hidden_size, (self.heads + 2 * self.shared) * self.size
        sizes = (hidden, hidden, width, self.heads * self.size, 2 * config.intermediate_size, config.intermediate_size)
        self.works = [_Work(sizes) for _ in range(threads)]
        self.pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.what = f"the fused path, {threads} {'thread' if threads == 1 else 'threads'}"

    def __call__(self, batch: Batch) -> Tensor:
        before = torch.get_num_threads()
        if before != 1:
            torch.set_num_threads(1)  # a batch's parts run side by side instead: one meeting a pass, not one an operation
        try:
            parts = self._parts(batch)
            others: list[Future[Tensor]] = []
            if self.pool is not None:
                rest = zip(parts[1:], self.works[1:], strict=False)
                others = [self.pool.submit(_alone, self._run, part, work) for part, work in rest]
            logits = [self._run(parts[0], self.works[0]), *(other.result() for other in others)]
        finally:
            if before != 1:
                torch.set_num_threads(before)
        return (logits[0] if len(logits) == 1 else torch.cat(logits))[:, : self.vocabulary]

    def _parts(self, batch: Batch) -> list[Batch]:
        """Up to `threads` parts of like size, cut between rows, since a row's later tokens need its earlier ones' keys."""
        rows, count = batch.places.rows, len(batch.ids)
        parts, begin = [], 0
        for k in range(1, self.threads):
            end = max(count * k // self.threads, begin)
            while 0 < end < count and rows[end] == rows[end - 1]:
                end += 1
            if end - begin >= MIN_PART and count - end >= MIN_PART:
                parts.append(_slice(batch, begin, end))
                begin = end
        return [*parts, _slice(batch, begin, count)] if parts else [batch]

    @torch.inference_mode()
    def _run(self, batch: Batch, work: _Work) -> Tensor:
        """One part on the calling thread: tensors have `least` rows or more, arrays only those that are tokens."""
        count, plan, memory = len(batch.ids), self.memory.plan(batch.places), self.memory
        padded = max(count, self.least)
        work.reserve(padded)
        t, a = work.cut(padded)[0], work.cut(count)[1]
        torch.index_select(self.embedding, 0, torch.from_numpy(batch.ids), out=t.x[:count])
        at = batch.places.positions
        for number, layer in enumerate(self.layers):
            kernels.norm(a.x, a.normed, self.eps)
            if layer.bias is None:
                torch.mm(t.normed, layer.qkv, out=t.qkv)
            else:
                torch.addmm(layer.bias, t.normed, layer.qkv, out=t.qkv)
            kernels.turn(a.qkv, self.heads, self.shared, self.size, at, self.cosine, self.sine, layer.gains, self.eps)
            memory.write(number, a.qkv, self.heads * self.size, plan)
            memory.read(number, a.qkv, self.heads, plan, self.scale, a.heads)
            t.x.addmm_(t.heads, layer.out)
            kernels.norm(a.x, a.normed, self.eps)
            torch.mm(t.normed, layer.gated, out=t.gated)
            kernels.swiglu(a.gated, a.inner)
            t.x.addmm_(t.inner, layer.down)
        wanted = len(batch.wanted)
        last = torch.zeros(max(wanted, self.least), self.embedding.shape[1])
        kernels.norm(a.x[batch.wanted], last[:wanted].numpy(), self.eps)
        return torch.mm(last, self.head)[:wanted]

    def _least(self) -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        one = self.layers[0]
        matrices = (one.qkv, one.out, one.gated, one.down, self.head)
        least = max(least_rows(m.shape[0], lambda x, m=m: torch.mm(x, m)) for m in matrices)  # type: ignore[misc]
        torch.set_num_threads(threads)
        return least


def _slice(batch: Batch, begin: int, end: int) -> Batch:
    at = batch.places
    places = Places(at.positions[begin:end], at.rows[begin:end], at.blocks[begin:end], at.tables, at.starts)
    wanted = batch.wanted[(batch.wanted >= begin) & (batch.wanted < end)] - begin
    return Batch(batch.ids[begin:end], places, wanted)


def _alone(run: Callable[[Batch, _Work], Tensor], batch: Batch, work: _Work) -> Tensor:
    torch.set_num_threads(1)  # of this thread
    return run(batch, work)


def _layer(block: Any, size: int) -> _Layer:
    """A block's weights as the products read them; norm gains and what is concatenated stand in the matrices."""
    attention, mlp = block.self_attn, block.mlp
    before, after = block.input_layernorm.weight, block.post_attention_layernorm.weight
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [p.bias for p in projections]
    norms = [getattr(attention, name).weight for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    gains = torch.stack(norms) if norms else torch.zeros(0, size)
    return _Layer(
        qkv=_matrix(torch.cat([p.weight for p in projections]) * before),
        bias=None if biases[0] is None else torch.cat(biases).detach(),
        gains=gains.detach().numpy(),
        out=_matrix(attention.o_proj.weight),
        gated=_matrix(torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * after),
        down=_matrix(mlp.down_proj.weight),
    )


def _matrix(weight: Tensor) -> Tensor:
    """Stored as the product reads it: small batches are up to three times as fast, and from two rows on a row's bits do not
    depend on how many there are."""
    return weight.detach().t().contiguous()


def agrees(fused: FusedForward, module: Forward, vocabulary: int, context: int) -> bool:
    """Whether both give the same log-probabilities on some tokens. Uses the first pages of the memory, which must be free."""
    count = min(24, context)
    ids = np.random.default_rng(0).integers(0, vocabulary, count)
    tables = np.arange(pages_of(count) + 2, dtype=np.int32)[None]
    starts = np.append(PAGE * np.arange(pages_of(count), dtype=np.int32), np.zeros(2, dtype=np.int32))[None]
    at = np.arange(count)
    batch = Batch(ids, Places(at, np.zeros(count, dtype=np.int64), at // PAGE, tables, starts), at)
    ours, theirs = (torch.log_softmax(forward(batch), dim=-1) for forward in (fused, module))
    return bool((ours - theirs).abs().max() < AGREES)
