"""The fast path of Llama- and Qwen-shaped models on a CPU in float32: few, large matrix products, and kernels for the rest.

Queries, keys and values come from one product, gate and up from another; the gains of the norms stand in the matrices;
matrices are stored as the product reads them. A step of a layer is four products and four kernels. It is used only where its
logits agree with the Hugging Face module's when the model is loaded.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pipelines.engine import kernels
from pipelines.engine.batch import Batch
from pipelines.engine.forward import least_rows
from pipelines.engine.memory import Floats, HostMemory
from pipelines.engine.threads import SideBySide

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
ROPES = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone

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
            buffers = [torch.zeros(2 * rows, size) for size in self.sizes]  # which may fail, and must change nothing then
            self.rows, self._cut, self._buffers = 2 * rows, {}, buffers

    def cut(self, rows: int) -> tuple[_Views[Tensor], _Views[Floats]]:
        """The first so many rows of each, for torch and for the kernels."""
        if rows not in self._cut:
            tensors = [buffer[:rows] for buffer in self._buffers]
            self._cut[rows] = _Views(*tensors), _Views(*(t.numpy() for t in tensors))
        return self._cut[rows]


def refusal(model: Any) -> str | None:
    """Why a language model, or a model without a head, cannot take the fast path, or None."""
    config, name = model.config, type(model).__name__
    family = name.removesuffix("ForCausalLM").removesuffix("Model")
    if family not in FAMILIES or name == family:
        return f"{name} is not of its families"
    size = _head_size(config)
    if size % 32 or config.hidden_size % 16 or config.intermediate_size % 16:
        return "its sizes are not multiples of 16"
    if config.hidden_act != "silu" or getattr(config, "mlp_bias", False):
        return "its MLP is another"
    if family == "Llama" and config.attention_bias:
        return "its attention has an output bias"
    if (config.rope_parameters or {}).get("rope_type", "default") not in ROPES:
        return "its rotary embedding changes with the length"
    if next(model.parameters()).dtype != torch.float32 or next(model.parameters()).device.type != "cpu":
        return "it is not float32 on a CPU"
    return None


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class FusedForward(SideBySide):
    """Llama, Mistral, Qwen2 or Qwen3 over HostMemory: the model without its head, and the matrix of the head."""

    def __init__(self, inner: Any, head: Tensor | None, memory: HostMemory, context: int, threads: int = 1) -> None:
        """head [vocabulary, hidden] gives logits; None gives the hidden states, as the last norm leaves them."""
        config = inner.config
        self.memory = memory
        self.heads, self.shared, self.size = config.num_attention_heads, memory.shape.heads, memory.shape.size
        self.eps, self.scale = float(config.rms_norm_eps), float(inner.layers[0].self_attn.scaling)
        self.embedding: Tensor = inner.embed_tokens.weight.detach()
        self.layers = [_layer(block, self.size) for block in inner.layers]
        self.gain: Tensor = inner.norm.weight.detach()
        self.outputs = len(self.gain)
        self.head: Tensor | None = None
        if head is not None:
            padded = torch.nn.functional.pad(head.detach() * self.gain, (0, 0, 0, -len(head) % 16))
            self.outputs, self.head = len(head), padded.t().contiguous()  # rows that `choose` can read
        cosine, sine = inner.rotary_emb(torch.zeros(1, 1, 1), torch.arange(context)[None])
        half = self.size // 2
        self.cosine, self.sine = (x[0, :, :half].float().contiguous().numpy() for x in (cosine, sine))
        self.least = self._least()
        hidden, width = config.hidden_size, (self.heads + 2 * self.shared) * self.size
        sizes = (hidden, hidden, width, self.heads * self.size, 2 * config.intermediate_size, config.intermediate_size)
        self.sizes, self.local = sizes, threading.local()
        self.what = f"the fused path, {threads} {'thread' if threads == 1 else 'threads'}"
        super().__init__(threads)

    def __call__(self, batch: Batch) -> Tensor:
        return super().__call__(batch)[:, : self.outputs]

    def _work(self) -> _Work:
        """The calling thread's buffers."""
        if not hasattr(self.local, "work"):
            self.local.work = _Work(self.sizes)
        work: _Work = self.local.work
        return work

    def _piece(self, batch: Batch) -> Tensor:
        """At most MOST_ROWS tokens: tensors have `least` rows or more, arrays only those that are tokens."""
        count, plan, memory = len(batch.ids), self.memory.plan(batch.places), self.memory
        padded, work = max(count, self.least), self._work()
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
        return last[:wanted] * self.gain if self.head is None else torch.mm(last, self.head)[:wanted]

    def _least(self) -> int:
        one = self.layers[0]
        matrices = [one.qkv, one.out, one.gated, one.down, *([] if self.head is None else [self.head])]
        return max(least_rows(m.shape[0], lambda x, m=m: torch.mm(x, m)) for m in matrices)  # type: ignore[misc]


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
