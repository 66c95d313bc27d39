"""An engine around a loaded Hugging Face model: which path computes it, and which memory holds its keys and values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipelines.engine import forward, fused
from pipelines.engine.engine import Engine
from pipelines.engine.forward import Forward, HeadlessForward, ModuleForward, PlainForward
from pipelines.engine.layercast import arithmetic
from pipelines.engine.memory import DeviceMemory, HostMemory, Shape
from pipelines.engine.pages import PAGE, Pool, pages_of
from pipelines.engine.vocabulary import Vocabulary

CACHE_MB = 1024
FREE_SHARE = 0.5  # of a GPU's free memory
MUCH = 1 << 17  # positions, where a model names no bound
OWN = "its attention is not transformers' common one"


class CannotServe(ValueError):
    """The path asked for cannot serve the model, or the memory is too small; one line."""


def built(
    model: Any,
    vocabulary: Vocabulary,
    *,
    path: str = "auto",
    rows: int = 256,
    cache_mb: int = 0,
    threads: int = 0,
    draft: int = 0,
    paged: str = "auto",
) -> Engine:
    """The engine of a model. Raises CannotServe.

    path: fused, module, plain, or auto: the fastest that serves the model. paged: host or device, to choose a memory."""
    device = next(model.parameters()).device
    context = getattr(model.config, "max_position_embeddings", None) or MUCH
    parameters = sum(p.numel() for p in model.parameters())
    sizes = {"context": int(context), "parameters": parameters, "max_rows": rows, "draft": draft}
    why = refused = forward.refusal(model.config)
    if path != "plain" and not refused:
        memory = memory_for(model, int(context), cache_mb, paged)
        head = model.get_output_embeddings()
        weight = torch.empty(0) if head is None else head.weight
        runs = paged_way(model, memory, path, int(context), threads or torch.get_num_threads(), vocabulary.size, weight)
        if not isinstance(runs, str):
            return Engine(runs, vocabulary, Pool(memory.capacity), device=device, page_bytes=memory.page_bytes, **sizes)
        why = runs
    if path not in ("auto", "plain"):
        raise CannotServe(f"{why}; use path={'module' if path == 'fused' and why != refused else 'plain'}")
    return Engine(PlainForward(model, why or "asked for"), vocabulary, Pool(0), device=device, **sizes)


def memory_for(model: Any, context: int, cache_mb: int, paged: str = "auto") -> HostMemory | DeviceMemory:
    """Pages for a model's keys and values. Raises CannotServe where they would not hold one context."""
    device, shape = next(model.parameters()).device, _shape(model.config)
    dtype = arithmetic(model)
    on_host = device.type == "cpu" and dtype != torch.float16 and shape.size % 16 == 0
    host = paged == "host" or (paged == "auto" and on_host)
    page_bytes = shape.page_bytes(4 if host else dtype.itemsize)
    capacity, least = _capacity(device, cache_mb) // page_bytes, pages_of(context) + 1
    if capacity < least:
        need = -(-least * page_bytes // (1 << 20))
        have = f"cache_mb {cache_mb} holds {capacity * PAGE} tokens"
        raise CannotServe(f"{have} and the context is {context}; use at least {need}")
    return HostMemory(shape, capacity) if host else DeviceMemory(shape, capacity, dtype, device)


@torch.inference_mode()
def paged_way(
    model: Any,
    memory: HostMemory | DeviceMemory,
    path: str,
    context: int,
    threads: int,
    tokens: int,
    head: Tensor | None = None,
) -> Forward | str:
    """The way asked for over paged memory, or why there is none: of a language model with its `head`, or of a model without
    one. Each way is compared with the model's own attention: some models have an attention that transformers' interface does
    not reach, or that needs more than keys and values. tokens: how many there are in the vocabulary."""
    unfit = fused.refusal(model) or (None if isinstance(memory, HostMemory) else "its memory is another")
    if path == "fused" and unfit:
        return unfit
    ids, exact = forward.sample(tokens, context), arithmetic(model) == torch.float32
    bare, size = head is None, None if head is None else tokens
    said = model(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
    own = said.last_hidden_state if bare else said.logits[..., :size]

    def right(way: Forward) -> bool:
        return forward.agree(forward.paged(way, ids)[..., :size], own, exact)

    if path in ("auto", "fused") and not unfit and isinstance(memory, HostMemory):
        quick = fused.FusedForward(model if bare else model.model, head, memory, context, threads)
        if right(quick):
            return quick
        if path == "fused":
            return "the fused path does not agree with the module"
    before = model.config._attn_implementation
    model.set_attn_implementation(forward.NAME)
    try:
        module = (HeadlessForward if bare else ModuleForward)(model, memory, threads)
        if right(module):
            return module
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        pass  # an attention of another shape, which fails in its own way
    model.set_attn_implementation(before)
    return OWN


def _shape(config: Any) -> Shape:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(config.num_hidden_layers, heads, size)


def _capacity(device: torch.device, cache_mb: int) -> int:
    """Bytes for keys and values."""
    if cache_mb:
        return cache_mb << 20
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * FREE_SHARE)
    return CACHE_MB << 20
