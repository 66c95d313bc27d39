"""Drawing tokens: one hashed uniform a row and position, inverse CDF, and the statistics of the drawn token in the same pass.

The noise of a token is a function of (row seed, token index) only, so a text never depends on its neighbours in the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """A 64-bit constant as the int64 that torch holds."""
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _MIX1, _MIX2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniforms(seeds: Tensor, counters: Tensor) -> Tensor:
    """One uniform in (0, 1) a row, float64 [rows], from int64 seeds and counters by the SplitMix64 finaliser
    (Steele, Lea, Flood 2014): 53 bits, centred so that 0 and 1 never occur."""
    x = seeds + (counters + 1) * _GOLDEN
    for _ in range(2):  # twice: neighbouring counters of neighbouring seeds must not resemble each other
        x = (x ^ _shift(x, 30)) * _MIX1
        x = (x ^ _shift(x, 27)) * _MIX2
        x = x ^ _shift(x, 31)
        x = x + _GOLDEN
    return (_shift(x, 11).double() + 0.5) * 2.0**-53


@dataclass(slots=True)
class Settings:
    """Per-row sampling settings, each [rows]: temperature (0 = greedy), top-k (0 = off), top-p (1 = off), min-p (0 = off)."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor

    def rows(self, keep: slice) -> Settings:
        return Settings(self.temperature[keep], self.top_k[keep], self.top_p[keep], self.min_p[keep])


@dataclass(frozen=True, slots=True)
class Drawn:
    """The tokens drawn and what the untempered distribution says of them, each [rows]."""

    tokens: Tensor  # int64
    logprobs: Tensor  # float32, ln p, nats
    certainties: Tensor  # float32, KL(uniform || p), nats, >= 0
    entropies: Tensor  # float32, nats, >= 0


def draw(logits: Tensor, settings: Settings, seeds: Tensor, counters: Tensor) -> Drawn:
    """Draws one token a row from float32 logits [rows, vocabulary]."""
    normal = torch.logsumexp(logits, dim=-1)
    probabilities = torch.exp(logits - normal[:, None])
    tokens = _choose(logits, probabilities, settings, seeds, counters)
    logprobs = logits.gather(1, tokens[:, None]).squeeze(1) - normal
    # KL(uniform || p) = -ln V - mean ln p = lse - mean logit - ln V: no second pass over the vocabulary
    certainties = normal - logits.mean(dim=-1) - math.log(logits.shape[-1])
    entropies = normal - (probabilities * logits).sum(dim=-1)
    return Drawn(tokens, logprobs, certainties.clamp_min(0), entropies.clamp_min(0))


def _choose(logits: Tensor, probabilities: Tensor, settings: Settings, seeds: Tensor, counters: Tensor) -> Tensor:
    greedy = settings.temperature <= 0
    best = logits.argmax(dim=-1)
    if bool(greedy.all()):
        return best
    if bool(((settings.temperature == 1) | greedy).all()):
        weights = probabilities
    else:
        scaled = logits / torch.where(greedy, 1.0, settings.temperature)[:, None]
        weights = torch.softmax(scaled, dim=-1)
    weights = _filtered(weights, settings)
    # float64: with a long tail, float32 sums would round the last tokens away
    cumulative = weights.double().cumsum(dim=-1)
    target = uniforms(seeds, counters)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    drawn = drawn.clamp_max(logits.shape[-1] - 1)
    return torch.where(greedy, best, drawn)


def _filtered(weights: Tensor, settings: Settings) -> Tensor:
    """Weights with the tokens outside top-k, top-p and min-p set to 0; the most probable token always stays.

    In this order: min-p on the tempered distribution, top-k, then top-p on the mass these two have left."""
    if bool((settings.min_p > 0).any()):
        floor = settings.min_p[:, None] * weights.amax(dim=-1, keepdim=True)
        weights = torch.where(weights >= floor, weights, 0.0)
    limited = bool((settings.top_k > 0).any())
    nucleus = bool((settings.top_p < 1).any())
    if not limited and not nucleus:
        return weights
    ordered, index = weights.sort(dim=-1, descending=True, stable=True)
    if limited:
        ranks = torch.arange(weights.shape[-1], device=weights.device)
        allowed = torch.where(settings.top_k > 0, settings.top_k, weights.shape[-1])
        ordered = torch.where(ranks < allowed[:, None], ordered, 0.0)
    if nucleus:
        before = ordered.double().cumsum(dim=-1) - ordered.double()
        bound = settings.top_p.double() * ordered.double().sum(dim=-1)
        keep = (before < bound[:, None]) | (settings.top_p >= 1)[:, None]
        ordered = torch.where(keep, ordered, 0.0)
    return torch.zeros_like(weights).scatter(1, index, ordered)
