"""The draw of rows that are sampled with a temperature alone, on a CPU: what `sampler.draw` does, in one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipelines.engine import kernels
from pipelines.engine.lanes import WIDTH
from pipelines.engine.sampler import Drawn


def quick_draw(logits: Tensor, temperatures: NDArray[np.float32], noise: NDArray[np.float64]) -> Drawn:
    """One token a row from float32 logits [rows, vocabulary], temperatures [rows] and uniforms [rows]."""
    rows, size = logits.shape
    flat, stride = _readable(logits)
    tokens, statistics = np.empty(rows, dtype=np.int64), np.empty((4, rows), dtype=np.float32)
    kernels.choose(flat, stride, size, temperatures, noise, tokens, statistics)
    return Drawn(torch.from_numpy(tokens), *torch.from_numpy(statistics))


def _readable(logits: Tensor) -> tuple[NDArray[np.float32], int]:
    """The logits as one flat array whose rows can be read in sixteens to their ends, and the distance of its rows."""
    rows, size = logits.shape
    width, stride = -(-size // WIDTH) * WIDTH, logits.stride(0)
    if width > stride or logits.stride(1) != 1:
        logits, stride = F.pad(logits, (0, width - size)), width
    flat: NDArray[Any] = logits.as_strided(((rows - 1) * stride + width,), (1,)).numpy()
    return flat, stride
