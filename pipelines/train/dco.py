"""The loss that is aligned with pass@N: direct coverage optimization (arXiv 2502.07154).

The chance that one of N samples is a given solution of probability p is 1 - (1 - p)^N, and the loss is -ln of it. Its
gradient is that of cross-entropy, -ln p, times F = N (1 - p)^(N - 1) p / (1 - (1 - p)^N): 1 where p is far below 1/N, near 0
once it is above. So what N samples would find anyway is learned no further. N = 1 is cross-entropy. p is the probability of
a whole sequence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = -30.0  # ln p below which p^2 is nothing beside p, in float64
CERTAIN = -1e-12  # the largest ln p that is told from 0


def log1mexp(x: Tensor) -> Tensor:
    """ln(1 - e^x) for x < 0, by the branch that keeps its digits (Maechler 2012)."""
    near = x > -math.log(2)
    return torch.where(near, torch.log(-torch.expm1(torch.where(near, x, -1.0))), torch.log1p(-torch.exp(x.clamp(max=-0.5))))


def dco_loss(logprobs: Tensor, n: int) -> Tensor:
    """[sequences] -ln(1 - (1 - p)^n) from ln p of whole sequences, nats, <= 0; lower = better. In float64 inside.

    Where p is tiny it is -ln p - ln n, whose gradient is cross-entropy's. ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"the number of samples must be at least 1, not {n}; 1 is cross-entropy")
    if n == 1:
        return -logprobs
    wide = logprobs.double().clamp(max=CERTAIN)
    tiny = wide < TINY
    missed = n * log1mexp(wide.clamp(min=TINY))  # ln of the chance that none of n is it
    return torch.where(tiny, -wide - math.log(n), -log1mexp(missed.clamp(max=-1e-300))).to(logprobs.dtype)


def factor(logprobs: Tensor, n: int) -> Tensor:
    """[sequences] F, in [0, 1]: how much of cross-entropy's gradient is left. p = .1 and n = 8 give .6718."""
    wide = logprobs.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(dco_loss(wide, n).sum(), wide)
    return (-gradient).to(logprobs.dtype)


def sequence_logprobs(logits: Tensor, targets: Tensor, rows: Tensor, count: int) -> Tensor:
    """[count] ln p of each sequence: the sum over its tokens. logits [tokens, vocabulary], targets [tokens], rows [tokens]
    which sequence a token is of."""
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return torch.zeros(count, dtype=each.dtype, device=each.device).index_add(0, rows, -each)


__all__ = ["dco_loss", "factor", "log1mexp", "sequence_logprobs"]
