"""Selectors that add up votes, run over many subsets of one pool at once. search.estimate says what it is for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .confidence import position
from .select import SELECTORS, Entry, Selector, trust

FEW = 1000  # subsets that are all taken, whatever number of random ones is asked for
AT_ONCE = 1 << 17  # places of subsets that are weighed together: a call costs more than so few of them
Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]  # [subsets, N]


def exact(n: int, k: int, resamples: int) -> bool:
    """Whether all subsets of k of n are taken."""
    return math.comb(n, k) <= max(FEW, resamples)


def subsets(n: int, k: int, resamples: int, seed: int) -> Masks:
    """All subsets of k of n where they are few, else that many random ones, of the seed."""
    if exact(n, k, resamples):
        return _all(n, k)
    # of one seed, the first k of a random order: a smaller subset lies within a larger one
    masks: Masks = _orders(n, resamples, seed) < k
    return masks


@lru_cache(maxsize=16)
def _all(n: int, k: int) -> Masks:
    masks = np.zeros((math.comb(n, k), n), dtype=bool)
    masks[np.arange(len(masks))[:, None], list(combinations(range(n), k))] = True
    masks.setflags(write=False)
    return masks


@lru_cache(maxsize=4)
def _orders(n: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """[resamples, n] each candidate's place in a random order."""
    rng = np.random.default_rng(seed)
    places: NDArray[np.int64] = rng.permuted(np.tile(np.arange(n), (resamples, 1)), axis=1)
    return places


class Votes:
    """One pool under one selector. Candidates are in the order in which ties are decided; codes, right: as in estimate.Pool."""

    def __init__(
        self, entries: Sequence[Entry], codes: NDArray[np.int64], right: NDArray[np.bool_], selector: Selector
    ) -> None:
        self.entries, self.codes, self.right, self.selector = entries, codes, right, selector
        self.of = (codes[:, None] == np.arange(len(right))).astype(np.float64)  # [N, answers]
        self.weigh = WEIGHERS.get(selector.name, _one_by_one)(self)

    def counted(self, sizes: Sequence[Masks]) -> list[tuple[float, float, float]]:
        """Of each size, shares of its subsets: right with ties split evenly, right with ties by the rule, without a choice."""
        if not (self.right.size and sizes):
            return [(0.0, 0.0, 1.0)] * len(sizes)
        if len(sizes) > 1 and sum(each.size for each in sizes) > AT_ONCE:
            return [found for each in sizes for found in self.counted([each])]
        masks = np.concatenate(sizes)
        weights = self.weigh(masks & (self.codes >= 0))
        counts = ~np.isnan(weights)
        tied = self._tied(np.where(counts, weights, 0.0), counts)
        chosen = counts.any(axis=1)
        expected = np.where(chosen, tied @ self.right.astype(np.float64) / np.maximum(tied.sum(axis=1), 1), 0.0)
        # candidates are in the order that decides ties: the first one who voted for one of the tied answers
        winner = self.codes[(counts & tied[:, self.codes]).argmax(axis=1)]
        ends = np.cumsum([len(each) for each in sizes])[:-1]
        found = (np.split(each, ends) for each in (expected, chosen & self.right[winner], chosen))
        return [(float(a.mean()), float(b.mean()), float(1 - c.mean())) for a, b, c in zip(*found, strict=True)]

    def _tied(self, weights: Floats, counts: Masks) -> Masks:
        """[subsets, answers] the answers whose sums are the highest, equal as Selector has them equal (math.fsum)."""
        totals = np.where(counts @ self.of > 0, weights @ self.of, -np.inf)
        top = totals.max(axis=1, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # -inf of a subset without votes
            near: Masks = totals >= top - 1e-9 * np.maximum(np.abs(top), 1e-300)
        near &= np.isfinite(totals)
        if not (weights == np.rint(weights)).all():  # sums of whole numbers are exact
            for row in np.flatnonzero(near.sum(axis=1) > 1):
                sums = {a: math.fsum(weights[row, self.codes == a].tolist()) for a in np.flatnonzero(near[row])}
                best = max(sums.values())
                near[row] = False
                near[row, [a for a, total in sums.items() if total == best]] = True
        return near


# How each rule weighs every subset: masks [subsets, N] of its answered candidates -> weights [subsets, N], NaN = no vote.
Weigh = Callable[[Masks], Floats]


def _fixed(votes: Votes) -> Weigh:
    """A candidate's weight is its own, whatever else is in the subset."""
    found = SELECTORS[votes.selector.name].weigh(votes.selector, votes.entries)
    weights = np.array([np.nan if w is None else w for w in found], dtype=np.float64)
    return lambda masks: np.where(masks, weights, np.nan)


def _borda(votes: Votes) -> Weigh:
    """(answered - rank + 1) ** power; the rank by self-certainty, of equal ones by the order of ties."""
    n = len(votes.entries)
    falling = np.lexsort((np.arange(n), -np.array([entry.certainty for entry in votes.entries])))
    powers = np.array([float(i) ** votes.selector.power for i in range(n + 1)])

    def weigh(masks: Masks) -> Floats:
        ranked = masks[:, falling]
        places = ranked.sum(axis=1, keepdims=True) - np.cumsum(ranked, axis=1) + 1
        out = np.empty(masks.shape)
        out[:, falling] = np.where(ranked, powers[np.where(ranked, places, 0)], np.nan)
        return out

    return weigh


def _deepconf(votes: Votes) -> Weigh:
    """The confidence of those that reach the threshold of their subset, as search.confidence.threshold has it."""
    found = [trust(votes.selector, entry) for entry in votes.entries]
    trusts = np.array([np.nan if value is None else value for value in found], dtype=np.float64)
    rising = np.argsort(trusts, kind="stable")
    keep = votes.selector.keep
    # places[n]: where in n values, from 0, the threshold lies
    places = np.array([0.0] + [position(n, keep) for n in range(1, len(found) + 1)])

    def weigh(masks: Masks) -> Floats:
        known = (masks & ~np.isnan(trusts))[:, rising]
        many = known.sum(axis=1)
        rank = np.cumsum(known, axis=1) - 1
        below = np.floor(places[many]).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(many - 1, 0))
        values = np.where(np.isnan(trusts), 0.0, trusts)[rising]
        low, high = (((known & (rank == at[:, None])) * values).sum(axis=1) for at in (below, above))
        least = low + (high - low) * (places[many] - below)
        out = np.empty(masks.shape)
        out[:, rising] = np.where(known & (values >= least[:, None]), values, np.nan)
        return out

    return weigh


def _one_by_one(votes: Votes) -> Weigh:
    """Any other rule, subset by subset: a new selector is estimated before it is made fast."""
    rule = SELECTORS[votes.selector.name]

    def weigh(masks: Masks) -> Floats:
        out = np.full(masks.shape, np.nan)
        for row, mask in enumerate(masks):
            own = np.flatnonzero(mask)
            found = rule.weigh(votes.selector, [votes.entries[int(i)] for i in own])
            out[row, own] = [np.nan if w is None else w for w in found]
        return out

    return weigh


WEIGHERS: Mapping[str, Callable[[Votes], Weigh]] = {
    "majority": _fixed,
    "weighted": _fixed,
    "borda": _borda,
    "deepconf": _deepconf,
}

__all__ = ["FEW", "Votes", "exact", "subsets"]
