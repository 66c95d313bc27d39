"""An engine around a loaded Hugging Face model: which path computes it, and which memory holds its keys and values."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.engine import forward, fused
from pipelines.engine.engine import Engine
from pipelines.engine.forward import Forward, ModuleForward, PlainForward
from pipelines.engine.memory import DeviceMemory, HostMemory, Shape
from pipelines.engine.pages import PAGE, Pool, pages_of
from pipelines.engine.vocabulary import Vocabulary

CACHE_MB = 1024
FREE_SHARE = 0.5  # of a GPU's free memory


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

    path: fused, module, plain, or auto: the fastest that serves the model. paged: host or device chooses a memory, for
    tests."""
    device = next(model.parameters()).device
    context = int(model.config.max_position_embeddings)
    parameters = sum(p.numel() for p in model.parameters())
    why = forward.refusal(model.config)
    if why and path in ("fused", "module"):
        raise CannotServe(f"{why}; use path=plain")
    if why or path == "plain":
        runs = PlainForward(model, why or "asked for")
        return Engine(runs, vocabulary, Pool(0), context=context, parameters=parameters, device=device, max_rows=rows)
    shape = _shape(model.config)
    computes = torch.float32 if model.config.dtype == torch.float32 else next(model.parameters()).dtype
    host = paged == "host" or (paged == "auto" and device.type == "cpu" and computes != torch.float16 and shape.size % 16 == 0)
    page_bytes = shape.page_bytes(4 if host else computes.itemsize)
    capacity = _capacity(device, cache_mb) // page_bytes
    least = pages_of(context) + 1
    if capacity < least:
        raise CannotServe(
            f"cache_mb {cache_mb} holds {capacity * PAGE} tokens and the context is {context}; use at least "
            f"{-(-least * page_bytes // (1 << 20))}"
        )
    memory = HostMemory(shape, capacity) if host else DeviceMemory(shape, capacity, computes, device)
    model.set_attn_implementation(forward.NAME)
    runs_on: Forward = ModuleForward(model, memory)
    unfit = fused.refusal(model) or (None if isinstance(memory, HostMemory) else "its memory is another")
    if path == "fused" and unfit:
        raise CannotServe(f"{unfit}; use path=module")
    if path in ("auto", "fused") and not unfit and isinstance(memory, HostMemory):
        quick = fused.FusedForward(model, memory, context, threads or torch.get_num_threads())
        if fused.agrees(quick, runs_on, vocabulary.size, context):
            runs_on = quick
        elif path == "fused":
            raise CannotServe("the fused path does not agree with the module; use path=module")
    pool = Pool(capacity)
    sizes = {"context": context, "parameters": parameters, "page_bytes": page_bytes, "max_rows": rows, "draft": draft}
    return Engine(runs_on, vocabulary, pool, device=device, **sizes)


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
