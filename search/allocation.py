"""How many samples each problem is worth, planned from a cheap pilot and without the reference.

"Compute-optimal" schemes (arXiv 2408.03314, 2502.06703) give problems of one difficulty one share of the compute, but bin
them by the policy's own pass@1, which takes the reference. Here the difficulty is estimated from the pilot, and what samples
are worth is what a majority gains: the chance that the vote of the pilot's n and m more is for the answer that the generator
gives most often in the long run. Where that answer is wrong no vote helps, and no pilot without a verifier can tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .checks import one_of, positive
from .select import Entry

DRAWS = 512  # of the answers' distribution, for each pattern of votes
Floats = NDArray[np.float64]
Pool = Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Group:
    """Problems that get the same number of samples."""

    problems: tuple[str, ...]
    easiest: float  # the highest and the lowest of what they were grouped by
    hardest: float
    cost: float  # of one more sample, mean over the problems: tokens, or 1
    gains: tuple[float, ...]  # [most + 1] the chance that the vote finds the mode after m more samples
    more: int = 0  # samples beside the pilot's


# --------------------------------------------------------------------------------------------------------- difficulty


def agreement(pool: Pool) -> float:
    """The share of the pilot's samples that gave its most frequent answer, in [0, 1]."""
    return max(_votes(pool), default=0) / max(len(pool), 1)


def entropy(pool: Pool) -> float:
    """Minus the entropy of the pilot's answers, nats, <= 0; each sample without an answer is an answer of its own."""
    counts = [*_votes(pool), *[1] * sum(entry.answer is None for entry in pool)]
    return math.fsum(c / len(pool) * math.log(c / len(pool)) for c in counts)


def verifier(pool: Pool) -> float:
    """The mean of the verifier's values, in [0, 1]; 0 where none has one."""
    values = [entry.value for entry in pool if entry.value is not None]
    return math.fsum(values) / max(len(values), 1)


def certainty(pool: Pool) -> float:
    """The mean self-certainty, nats."""
    return math.fsum(entry.certainty for entry in pool) / max(len(pool), 1)


EASE: Mapping[str, Callable[[Pool], float]] = {  # higher = easier
    "agreement": agreement,
    "entropy": entropy,
    "verifier": verifier,
    "certainty": certainty,
}


def _votes(pool: Pool) -> list[int]:
    return sorted(Counter(entry.answer for entry in pool if entry.answer is not None).values(), reverse=True)


# --------------------------------------------------------------------------------------------------------------- gains


def gains(pool: Pool, most: int) -> tuple[float, ...]:
    """[most + 1] the chance that the majority of the pilot's votes and m more finds the mode of the answers' distribution.

    That distribution is drawn from its posterior: Dirichlet, with each answer's votes, 1 for an answer not seen yet and the
    samples without one. Of answers with equal votes each is as likely to win.
    """
    votes = tuple(_votes(pool))
    return _gains(votes, len(pool) - sum(votes), most)


@lru_cache(maxsize=4096)
def _gains(votes: tuple[int, ...], lost: int, most: int) -> tuple[float, ...]:
    rng = np.random.default_rng([lost, most, *votes])  # a function of what is asked
    answers = len(votes) + 1
    shares = rng.dirichlet([*votes, 1, *[lost] * (lost > 0)], size=DRAWS)
    mode = shares[:, :answers].argmax(axis=1)
    drawn = (rng.random((DRAWS, most, 1)) > shares.cumsum(axis=1)[:, None, :-1]).sum(axis=2)
    more = np.cumsum(drawn[:, :, None] == np.arange(answers), axis=1)
    counts = np.concatenate([np.zeros((DRAWS, 1, answers)), more], axis=1) + np.array([*votes, 0])
    tied = (counts == counts.max(axis=2, keepdims=True)) & (counts > 0)
    found = np.take_along_axis(tied, mode[:, None, None], axis=2)[:, :, 0] / np.maximum(tied.sum(axis=2), 1)
    return tuple(found.mean(axis=0).tolist())


def slopes(curve: Sequence[float]) -> list[float]:
    """What each further sample adds under the least concave curve above this one: never rising, never below 0."""
    hull = [(0, curve[0])]
    for x, y in enumerate(np.maximum.accumulate(np.asarray(curve, dtype=np.float64)).tolist()[1:], start=1):
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return [_slope(a, b) for a, b in pairwise(hull) for _ in range(b[0] - a[0])]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


# ---------------------------------------------------------------------------------------------------------- allocation


def grouped(
    pools: Mapping[str, Pool], by: str = "agreement", bins: int = 4, most: int = 64, tokens: bool = False
) -> list[Group]:
    """The problems in at most `bins` groups of about equal size, the easiest first; equal ones stay together.

    most: samples that a problem may have, the pilot's among them. tokens: a sample costs its tokens, instead of 1.
    """
    one_of("estimate of difficulty", by, EASE)
    positive(bins=bins, most=most)
    ease = {problem: EASE[by](pool) for problem, pool in pools.items()}
    edges = np.quantile(list(ease.values()), [i / bins for i in range(1, bins)]) if bins > 1 else np.zeros(0)
    members: dict[int, list[str]] = {}
    for problem in pools:
        members.setdefault(int(np.searchsorted(edges, ease[problem], side="right")), []).append(problem)
    made = []
    for _, problems in sorted(members.items(), reverse=True):
        room = most - max(len(pools[problem]) for problem in problems)
        if room < 0:
            raise ValueError(f"the pilot has {most - room} samples a problem, more than the {most} that one may have")
        curves = np.array([gains(pools[problem], most)[: room + 1] for problem in problems])
        each = [math.fsum(e.tokens for e in pools[p]) / max(len(pools[p]), 1) if tokens else 1.0 for p in problems]
        of = [ease[problem] for problem in problems]
        made.append(Group(tuple(problems), max(of), min(of), float(np.mean(each)), tuple(curves.mean(axis=0).tolist())))
    return made


def allocated(groups: Sequence[Group], budget: float) -> list[Group]:
    """The groups with their further samples: one by one where a unit of cost gains most, while the budget lasts.

    budget: of all further samples of all problems together, in the groups' unit of cost. What is left over is less than one
    more sample for the smallest group that may have one.
    """
    steps = [
        (-gain / group.cost, i, m) for i, group in enumerate(groups) for m, gain in enumerate(slopes(group.gains), start=1)
    ]
    more, left, full = [0] * len(groups), budget, set[int]()
    for _, i, m in sorted(steps):
        price = groups[i].cost * len(groups[i].problems)
        if i in full or price > left + 1e-9:
            full.add(i)  # its next sample comes after this one
            continue
        more[i], left = m, left - price
    return [Group(g.problems, g.easiest, g.hardest, g.cost, g.gains, extra) for g, extra in zip(groups, more, strict=True)]


__all__ = ["EASE", "Group", "allocated", "gains", "grouped", "slopes"]
