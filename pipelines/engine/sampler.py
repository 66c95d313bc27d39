"""Drawing tokens: one hashed uniform a row and position, inverse CDF, and the statistics of the drawn token in the same pass.

The noise of a token is a function of (row seed, token index) only, and what is computed for a row is computed in an order that
no other row changes: a text never depends on its neighbours in the batch, not in one bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # neighbouring tokens whose weights are summed in float32; the blocks' sums are summed in float64
LONE = 2048  # a vocabulary of at most this is one block
CHUNK = 1 << 19  # scores worked on at a time on a CPU: few enough for its caches, and for its allocator to keep the memory
WIDTHS = (64, 1024)  # how many of the most probable tokens are put in order before all of them are


def _signed(value: int) -> int:
    """A 64-bit constant as the int64 that torch holds."""
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _MIX1, _MIX2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Any, bits: int) -> Any:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _hashed(seeds: Any, counters: Any) -> Any:
    """52 bits a row, int64, of a torch or a numpy array, by the SplitMix64 finaliser (Steele, Lea, Flood 2014)."""
    x = seeds + (counters + 1) * _GOLDEN
    for _ in range(2):  # twice: neighbouring counters of neighbouring seeds must not resemble each other
        x = (x ^ _shift(x, 30)) * _MIX1
        x = (x ^ _shift(x, 27)) * _MIX2
        x = x ^ _shift(x, 31)
        x = x + _GOLDEN
    return _shift(x, 12)


def uniforms(seeds: Tensor, counters: Tensor) -> Tensor:
    """One uniform in (0, 1) a row, float64 [rows], from int64 seeds and counters: centred so that 0 and 1 never occur, which
    leaves room for 52 bits."""
    if seeds.device.type == "cpu":  # numpy takes a third of torch's time for so few numbers
        bits = torch.from_numpy(_hashed(seeds.numpy(), counters.numpy()))
    else:
        bits = _hashed(seeds, counters)
    return (bits.double() + 0.5) * 2.0**-52


@dataclass(slots=True)
class Settings:
    """Per-row sampling settings, each [rows]; None = off in every row."""

    temperature: Tensor  # float32; 0 = greedy
    top_k: Tensor  # int64; 0 = off
    top_p: Tensor  # float32; 1 = off
    min_p: Tensor  # float32; 0 = off
    penalty: Tensor | None = None  # float32, of tokens seen before; 1 = off
    tau: Tensor | None = None  # float32, the surprise Mirostat aims at, bits; 0 = off
    eta: Tensor | None = None  # float32, Mirostat's learning rate
    confidence: Tensor | None = None  # int64, the k of DeepConf's token confidence; 0 = off

    def rows(self, keep: slice | Tensor) -> Settings:
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        kept: dict[str, Any] = {name: value[keep] for name, value in every if value is not None}
        return Settings(**kept)


@dataclass(slots=True)
class State:
    """What a row carries from token to token. `draw` updates it in place for the tokens it draws."""

    mu: Tensor  # [rows] float32, the most surprise Mirostat allows, bits; 2 tau before the first token
    seen: Tensor | None = None  # [rows, vocabulary] bool: in prompt or continuation; None where no row has a penalty

    def rows(self, keep: slice) -> State:
        """Views: what `draw` changes in them, it changes here."""
        return State(self.mu[keep], None if self.seen is None else self.seen[keep])


@dataclass(frozen=True, slots=True)
class Drawn:
    """The tokens drawn and their statistics, each [rows]. All but `drawn` are of the model's own distribution: before penalty,
    temperature and truncation."""

    tokens: Tensor  # int64
    logprobs: Tensor  # float32, ln p, nats, <= 0
    certainties: Tensor  # float32, KL(uniform || p), nats, >= 0
    entropies: Tensor  # float32, nats, >= 0
    drawn: Tensor  # float32, ln of the probability with which the token was drawn, nats, <= 0; 0 where greedy
    confidences: Tensor | None = None  # float32, mean -ln p of the k likeliest tokens, nats, >= 0; 0 in rows without k


def part_of(drawn: Drawn, keep: Tensor) -> Drawn:
    """Some of the rows."""
    columns = ((field.name, getattr(drawn, field.name)) for field in fields(Drawn))
    kept: dict[str, Any] = {name: column[keep.to(column.device)] for name, column in columns if column is not None}
    return Drawn(**kept)


def draw(
    logits: Tensor,
    settings: Settings,
    seeds: Tensor,
    counters: Tensor,
    state: State | None = None,
    confidence: int = 0,
    fixed: Tensor | None = None,
) -> Drawn:
    """Draws one token a row from float32 logits [rows, vocabulary]. What a row gets is a function of its own logits, settings,
    seed, counter and state.

    The model's distribution is shaped in this order: penalty, temperature, then either Mirostat or min-p, top-k and top-p.
    `state` may be None where no row has a penalty or Mirostat. `confidence` is the largest of settings.confidence, which the
    caller knows without a look at the device; 0 where no row asks. `fixed`, int64 [rows], is the token of rows that are not to
    draw one, and -1 in the others.
    """
    rows, size = logits.shape
    noise = uniforms(seeds, counters).to(logits.device)
    step = max(1, CHUNK // size) if logits.device.type == "cpu" else rows
    if step >= rows:
        return _draw(logits, settings, noise, state, confidence, fixed)
    parts = []
    for start in range(0, rows, step):
        keep = slice(start, start + step)
        mine = None if state is None else state.rows(keep)
        own = None if fixed is None else fixed[keep]
        parts.append(_draw(logits[keep], settings.rows(keep), noise[keep], mine, confidence, own))
    columns = ((field.name, [getattr(part, field.name) for part in parts]) for field in fields(Drawn))
    whole: dict[str, Any] = {name: torch.cat(column) for name, column in columns if column[0] is not None}
    return Drawn(**whole)


def _draw(
    logits: Tensor, settings: Settings, noise: Tensor, state: State | None, confidence: int, fixed: Tensor | None
) -> Drawn:
    raw = _Spread.of(logits)
    normal, size = raw.total.log(), raw.size
    # KL(uniform || p) = -ln V - mean ln p. All sums are of scores relative to the best one: nothing large cancels
    certainties = normal - _whole(_sums(raw.scores, size)) / size - math.log(size)
    entropies = normal - _whole(_sums(raw.scores * raw.weights, size)) / raw.total
    confidences = _confidences(logits, normal, settings.confidence, confidence) if confidence else None

    greedy = settings.temperature <= 0
    shaped = _shaped(raw, logits, settings, greedy, state)
    tokens, mass = _choose(shaped, settings, greedy, noise, state)
    tokens = tokens.clamp_max(size - 1)  # past the vocabulary only where the logits are NaN
    if fixed is not None:
        tokens = torch.where(fixed >= 0, fixed, tokens)
    own = chosen = raw.score(tokens)
    if shaped is not raw:
        chosen = shaped.score(tokens)
    if state is not None:
        _remember(state, settings, greedy, tokens, (shaped.total.log() - chosen) / math.log(2))
    odds = (chosen - mass.log()).float()
    return Drawn(
        tokens,
        (own - normal).float(),
        certainties.clamp_min(0).float(),
        entropies.clamp_min(0).float(),
        odds if fixed is None else torch.where(fixed >= 0, 0.0, odds),  # what is given is drawn for certain
        confidences,
    )


def _confidences(logits: Tensor, normal: Tensor, wanted: Tensor | None, most: int) -> Tensor:
    """DeepConf's token confidence (arXiv 2508.15260), nats: -1/k of the sum of the k largest ln p. `normal` is ln of the sum of
    exp(logit - largest logit)."""
    assert wanted is not None
    largest = logits.topk(min(most, logits.shape[1]), dim=-1).values.double()
    k = wanted.clamp(1, largest.shape[1])  # a vocabulary may be smaller than k
    sums = (largest - largest[:, :1]).cumsum(dim=-1).gather(1, k[:, None] - 1).squeeze(1)
    return torch.where(wanted > 0, normal - sums / k, 0.0).float()


def _remember(state: State, settings: Settings, greedy: Tensor, tokens: Tensor, surprise: Tensor) -> None:
    """Brings the state up to the tokens drawn. Their surprise, bits, is of the distribution before truncation, as in Mirostat's
    paper (arXiv 2007.14966): it is the text's surprise that is to be tau. llama.cpp takes it after truncation."""
    if settings.tau is not None and settings.eta is not None:
        change = settings.eta * (surprise - settings.tau)
        state.mu -= torch.where((settings.tau > 0) & ~greedy, change, 0.0).float()
    if state.seen is not None:
        state.seen.scatter_(1, tokens[:, None], True)


# -------------------------------------------------------------------------------------------------- the distribution


@dataclass(frozen=True, slots=True)
class _Spread:
    """A distribution a row, not normalised, in blocks of tokens; the last block is filled up with scores and weights of 0.

    A row is summed block by block because torch splits a lone long row among its threads, and then sums in another order."""

    size: int  # of the vocabulary
    scores: Tensor  # [rows, filled up] less the best one, divided by the temperature: nats, <= 0
    weights: Tensor  # [rows, filled up] exp(scores), or 0 where truncated: the best token's is 1
    masses: Tensor  # [rows, blocks] float64, the sums of the weights
    total: Tensor  # [rows] float64, >= 1

    @classmethod
    def of(cls, scores: Tensor, temperature: Tensor | None = None) -> _Spread:
        rows, size = scores.shape
        relative = scores.new_empty(rows, -(-size // _block(size)) * _block(size))
        torch.sub(scores, scores.amax(dim=-1, keepdim=True), out=relative[:, :size])
        if temperature is not None:
            relative /= temperature[:, None]
        weights = relative.exp()
        if size < relative.shape[1]:
            relative[:, size:] = weights[:, size:] = 0
        masses = _sums(weights, size)
        return cls(size, relative, weights, masses, _whole(masses))

    def above(self, floor: Tensor) -> _Spread:
        """Without the tokens whose weight is below `floor`, float32 [rows]; the best one stays."""
        # the comparison is written as float32 at once: several times as fast as through a mask
        kept = torch.ge(self.weights, floor.clamp_max(1)[:, None], out=torch.empty_like(self.weights)).mul_(self.weights)
        masses = _sums(kept, self.size)
        return replace(self, weights=kept, masses=masses, total=_whole(masses))

    def score(self, tokens: Tensor) -> Tensor:
        return self.scores.gather(1, tokens[:, None]).squeeze(1)


def _block(size: int) -> int:
    """Tokens in a block, for a vocabulary of this size."""
    return size if size <= LONE else BLOCK


def _sums(values: Tensor, size: int) -> Tensor:
    """The sum of each block, float64 [rows, blocks]."""
    return values.view(len(values), -1, _block(size)).sum(dim=-1).double()


def _whole(sums: Tensor) -> Tensor:
    """The sums of whole rows, [rows], from those of their blocks."""
    return sums.squeeze(1) if sums.shape[1] == 1 else sums.sum(dim=-1)


def _shaped(raw: _Spread, logits: Tensor, settings: Settings, greedy: Tensor, state: State | None) -> _Spread:
    """The distribution after penalty and temperature; rows that have neither get the same numbers again."""
    penalised = settings.penalty is not None and bool((settings.penalty != 1).any())
    if not penalised and not bool(((settings.temperature != 1) & ~greedy).any()):
        return raw
    scores = _penalised(logits, settings.penalty, state) if penalised else logits
    return _Spread.of(scores, torch.where(greedy, 1.0, settings.temperature))


def _penalised(logits: Tensor, penalty: Tensor | None, state: State | None) -> Tensor:
    """Logits of seen tokens divided by the penalty where positive, multiplied where negative (CTRL, arXiv 1909.05858, as
    Hugging Face has it)."""
    assert penalty is not None
    assert state is not None
    assert state.seen is not None
    row, token = (state.seen & (penalty != 1)[:, None]).nonzero(as_tuple=True)
    hit, by = logits[row, token], penalty[row]
    scores = logits.clone()
    scores[row, token] = torch.where(hit > 0, hit / by, hit * by)
    return scores


# ------------------------------------------------------------------------------------------------------- the lottery


def _choose(spread: _Spread, settings: Settings, greedy: Tensor, noise: Tensor, state: State | None) -> tuple[Tensor, Tensor]:
    """A token a row, and the weight of the tokens among which it was drawn, float64 [rows]."""
    floor = settings.min_p  # times the best token's weight, which is 1
    if settings.tau is not None and bool((settings.tau > 0).any()):
        assert state is not None
        floor = torch.where(settings.tau > 0, (spread.total * torch.exp2(-state.mu.double())).float(), floor)
    if bool((floor > 0).any()):
        spread = spread.above(floor)
    special = greedy | (settings.top_k > 0) | (settings.top_p < 1)
    if not bool(special.any()):
        return _free(spread, noise), spread.total
    tokens = torch.zeros_like(settings.top_k) if bool(special.all()) else _free(spread, noise)
    mass = spread.total
    rows = (special & ~greedy).nonzero().squeeze(1)
    if len(rows):
        weights = spread.weights if len(rows) == len(greedy) else spread.weights[rows]
        likely, kept = _likely(weights, mass[rows], settings.top_k[rows], settings.top_p[rows], noise[rows])
        tokens, mass = tokens.index_copy(0, rows, likely), mass.index_copy(0, rows, kept)
    if bool(greedy.any()):
        tokens = torch.where(greedy, spread.scores[:, : spread.size].argmax(dim=-1), tokens)
        mass = torch.where(greedy, 1.0, mass)
    return tokens, mass


def _free(spread: _Spread, noise: Tensor) -> Tensor:
    """Tokens by inverse CDF in the order of the vocabulary: first the block, then the token in it.

    In floating point, too, a target stays below the end of its sums: a token of weight 0 is never drawn."""
    if spread.masses.shape[1] == 1:
        return _place(spread.weights.double().cumsum(dim=-1), noise[:, None]).squeeze(1)
    edges = torch.nn.functional.pad(spread.masses.cumsum(dim=-1), (1, 0))
    block = _place(edges, noise[:, None]) - 1
    before, after = edges.gather(1, block), edges.gather(1, block + 1)
    tokens = block * BLOCK + torch.arange(BLOCK, device=block.device)
    within = spread.weights.gather(1, tokens).double().cumsum(dim=-1)
    place = _place(within, (noise[:, None] * edges[:, -1:] - before) / (after - before))
    return tokens.gather(1, place).squeeze(1)


def _place(sums: Tensor, share: Tensor) -> Tensor:
    """Where running sums [rows, n] first exceed `share` [rows, 1] of the whole; the last place if they are NaN."""
    return torch.searchsorted(sums, share * sums[:, -1:], right=True).clamp_max(sums.shape[1] - 1)


def _likely(
    weights: Tensor, total: Tensor, top_k: Tensor, top_p: Tensor, noise: Tensor, widths: tuple[int, ...] = WIDTHS
) -> tuple[Tensor, Tensor]:
    """Tokens drawn after top-k and, on the mass that it leaves, top-p; and the weight of those that stayed, float64.

    Of equally probable tokens the first in the vocabulary stay. Looks at the first of `widths` most probable tokens, and again
    at more in the rows where these do not settle which ones stay: the outcome does not depend on the widths."""
    size = weights.shape[1]
    width = min([*widths[:1], size])
    ordered, tokens = weights.topk(width, dim=-1) if width < size else weights.sort(dim=-1, descending=True)
    sums = ordered.double().cumsum(dim=-1)
    limit = torch.where(top_k > 0, top_k.clamp_max(width), width)
    left = torch.where(top_k > 0, sums.gather(1, limit[:, None] - 1).squeeze(1), total)
    inside = (sums - ordered < (top_p.double() * left)[:, None]) | (top_p >= 1)[:, None]
    stay = torch.minimum(limit, inside.sum(dim=-1)).clamp_min(1)[:, None]
    least, last = ordered.gather(1, stay - 1), ordered[:, -1:]
    settled = ((last == 0) | ((last < least) & (top_k <= width)[:, None])).squeeze(1)

    # back in the order of the vocabulary, in which all draws are made
    if width < size:
        tokens, place = tokens.sort(dim=-1)
        found = ordered.gather(1, place)
    else:
        tokens, found = torch.arange(size, device=weights.device).expand_as(weights), weights
    above, equal = found > least, found == least
    room = stay - above.sum(dim=-1, keepdim=True)
    sums = (found * (above | (equal & (equal.cumsum(dim=-1) <= room)))).double().cumsum(dim=-1)
    out, mass = tokens.gather(1, _place(sums, noise[:, None])).squeeze(1), sums[:, -1]
    again = (~settled).nonzero().squeeze(1)
    if width < size and len(again):
        found, kept = _likely(weights[again], total[again], top_k[again], top_p[again], noise[again], widths[1:])
        out, mass = out.index_copy(0, again, found), mass.index_copy(0, again, kept)
    return out, mass
