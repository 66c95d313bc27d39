"""What a selector would have got from fewer candidates: unbiased estimates from one pool of N.

A subset of k is drawn from the pool with equal chances. A rule that picks one candidate has a closed form: in the order of
its preference, candidate i (from 0) is first in the subset with chance C(N-1-i, k-1) / C(N, k). A rule that adds up votes has
none, and is run over subsets (search.resample): all of them where they are few, else a number of random ones.

Ties are treated in two ways, side by side. `expected` splits the chance evenly: over the candidates of equal weight where one
candidate is picked (exact: each of a group is as likely as the others to be the one in front), over the answers of equal total
where votes are added up. `by_rule` is what our selectors do: fewer tokens, then the earlier path. A subset that gives no
choice (nobody answers, or nobody who answers has a weight) is wrong, and is counted by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from . import resample
from .select import SELECTORS, Entry, Selector
from .types import order

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A selector at one size of subset: chances in [0, 1]."""

    expected: float  # the choice is right; ties split evenly
    by_rule: float  # the choice is right; ties to fewer tokens, then the earlier path
    abstains: float  # there is no choice


@dataclass(frozen=True, eq=False)
class Pool:
    """The solutions of one problem with their verdicts, in the order in which ties are decided."""

    entries: tuple[Entry, ...]
    codes: NDArray[np.int64]  # [N] which answer; -1 = none
    right: NDArray[np.bool_]  # [answers]

    @classmethod
    def of(cls, entries: Sequence[Entry], right: Callable[[str], bool]) -> Pool:
        """`right` is asked once for each distinct answer."""
        ranked = sorted(entries, key=lambda e: (e.tokens, order(e.path)))
        answers = {answer: i for i, answer in enumerate(dict.fromkeys(e.answer for e in ranked if e.answer is not None))}
        codes = [-1 if e.answer is None else answers[e.answer] for e in ranked]
        return cls(tuple(ranked), np.array(codes, dtype=np.int64), np.array([right(a) for a in answers], dtype=bool))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def hits(self) -> Floats:
        """[N] 1 where the candidate is right, else 0."""
        return np.concatenate([self.right, [False]])[self.codes].astype(np.float64)

    def weights(self, selector: Selector) -> Floats:
        """[N] as the selector weighs the whole pool; NaN where it does not count the candidate."""
        out = np.full(len(self), np.nan)
        answered = np.flatnonzero(self.codes >= 0)
        found = SELECTORS[selector.name].weigh(selector, [self.entries[i] for i in answered])
        out[answered] = [np.nan if w is None else w for w in found]
        return out


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that a subset of k of n holds one of the `right` ones: 1 - C(n - right, k) / C(n, k) (arXiv 2107.03374)."""
    _check(n, k)
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


@lru_cache(maxsize=64)
def first(n: int, k: int) -> Floats:
    """[n] the chance that the i-th of n in an order (from 0) is the first of a random subset of k: C(n-1-i, k-1) / C(n, k)."""
    _check(n, k)
    i = np.arange(n - 1)
    chances = np.cumprod(np.concatenate([[k / n], np.maximum(n - i - k, 0) / (n - 1 - i)]))
    chances.setflags(write=False)
    return chances


def oracle(pool: Pool, k: int) -> Estimate:
    """pass@k: the ceiling of selection."""
    chance = pass_at_k(len(pool), int(pool.hits.sum()), k)
    return Estimate(chance, chance, _lost(len(pool), int((pool.codes < 0).sum()), k))


def random(pool: Pool, k: int) -> Estimate:
    """pass@1 at any k: one of the subset at random, those without an answer too. The floor of selection."""
    _check(len(pool), k)
    chance = float(pool.hits.mean())
    return Estimate(chance, chance, float((pool.codes < 0).mean()))


ENDS: dict[str, Callable[[Pool, int], Estimate]] = {"random": random, "oracle": oracle}


def estimates(pool: Pool, selector: Selector, sizes: Sequence[int], resamples: int = 100, seed: int = 0) -> list[Estimate]:
    """The selector at each size of subset. With one seed, the random subsets of one size lie within those of a larger one, and
    all selectors are given the same."""
    for k in sizes:
        _check(len(pool), k)
    if not SELECTORS[selector.name].summed:
        return best_of(pool.weights(selector), pool.hits, sizes)
    votes = resample.Votes(pool.entries, pool.codes, pool.right, selector)
    return [Estimate(*each) for each in votes.counted([resample.subsets(len(pool), k, resamples, seed) for k in sizes])]


def best_of(weights: Floats, hits: Floats, sizes: Sequence[int]) -> list[Estimate]:
    """At each size of subset, the closed form for a rule that picks the candidate of the highest weight.

    weights, hits: [N] in the order in which ties are decided; NaN = never picked. Example: weights 3, 2, 1 and hits 1, 0, 1 of
    N = 3 at k = 2: (1 * 2 + 0 * 1 + 1 * 0) / 3 = 2/3.
    """
    n, never = len(weights), np.isnan(weights)
    without = int(never.sum())
    ranked = np.lexsort((np.arange(n), -np.where(never, -np.inf, weights), never))[: n - without]
    hit = hits[ranked]
    _, group = np.unique(weights[ranked], return_inverse=True)
    mean = np.bincount(group, hit) / np.maximum(np.bincount(group), 1) if len(ranked) else np.zeros(0)
    shared = mean[group]
    chances = [first(n, k)[: len(ranked)] for k in sizes]
    return [
        Estimate(float(each @ shared), float(each @ hit), _lost(n, without, k)) for k, each in zip(sizes, chances, strict=True)
    ]


def expected_max(values: Sequence[float], k: int) -> float:
    """The mean over all subsets of k of the largest of its values: of the tokens, what best-of-k has in sequence."""
    return float(first(len(values), k) @ np.sort(np.asarray(values, dtype=np.float64))[::-1])


def _lost(n: int, without: int, k: int) -> float:
    """The chance that all of a subset of k are among those `without`."""
    return math.comb(without, k) / math.comb(n, k)


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"a subset of {k} cannot be drawn from a pool of {n}; choose from 1 to {n}")


__all__ = ["ENDS", "Estimate", "Pool", "best_of", "estimates", "expected_max", "first", "oracle", "pass_at_k", "random"]
