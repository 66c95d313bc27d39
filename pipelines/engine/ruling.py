"""The rules of a request (search.rules) as the engine follows them, on the state of its rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine.rows import CERTAINTY, CONFIDENCE, ENTROPY, Rows
from pipelines.engine.sampler import uniforms
from search.rules import Ahead, Pause, Unsure

_SPREAD = 0x632BE59BD9B4E019  # an odd number of 63 bits: parts the noise of a row's tokens ahead from that of its drawn ones


def pauses(rule: Pause, rows: Rows, slot: int, begun: int, entropy: float) -> bool:
    """Whether a row stops before the token whose distribution has this entropy, nats; `begun`: tokens it was made to begin
    with."""
    count = int(rows.counts[slot])
    if count < begun + rule.least:
        return False
    before = rows.statistics[slot, ENTROPY, max(count - rule.window + 1, 0) : count]
    mean = (float(before.sum(dtype=np.float64)) + entropy) / (len(before) + 1)
    return mean <= rule.above if rule.falling else mean >= rule.above


def foretold(rule: Pause, logits: Tensor, entropy: float, seed: int, count: int) -> Ahead:
    """What a row with these logits [vocabulary] says of its next token, its `count`-th."""
    size = logits.shape[0]
    peek = min(rule.peek, size)
    logprobs = torch.log_softmax(logits.double(), dim=-1).cpu()
    keys = logprobs + _gumbels(seed, count, size) if rule.gumbel else logprobs
    # stable, so that equal ones come in the order of the vocabulary on every machine
    order = torch.argsort(keys, descending=True, stable=True)[:peek]
    found: tuple[NDArray[np.float32], ...] = tuple(x[order].float().numpy() for x in (logprobs, keys))
    return Ahead(float(np.float32(entropy)), order.to(torch.int32).numpy(), *found)


def _gumbels(seed: int, count: int, size: int) -> Tensor:
    """Gumbel(0) noise for each token of the vocabulary, float64: a function of the row's seed and the token's index alone."""
    start = torch.tensor([seed ^ (_SPREAD * (count + 1) & (1 << 63) - 1)], dtype=torch.int64)
    return -torch.log(-torch.log(uniforms(start.expand(size), torch.arange(size))))


def unsure(rule: Unsure, rows: Rows, slot: int) -> bool:
    """Whether the mean confidence of a row's last tokens is too low for it to go on."""
    count = int(rows.counts[slot])
    if count < rule.window:
        return False
    which = CONFIDENCE if rows.samplings[slot].confidence else CERTAINTY
    return float(rows.statistics[slot, which, count - rule.window : count].mean(dtype=np.float64)) < rule.below


__all__ = ["foretold", "pauses", "unsure"]
