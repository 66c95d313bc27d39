"""REBASE (arXiv 2408.00724): a tree of fixed width in which each open candidate gets children by its share of the reward.

With B_i = B_(i-1) - (solutions finished at depth i) of the width n left, candidate j gets about
B_i exp(r_j / T) / sum_k exp(r_k / T) children. As in the authors' code it is rounded up, best first, on what is left, so that
the sum is B_i exactly and the worst get none; plain rounding, as in the paper's formula, may break the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from search.checks import at_least_zero, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, State, Until

from .beam import ranked
from .growing import judged

ROUNDING = 1e-9  # a share this little above a whole number is that number


def allocation(width: int, rewards: Sequence[float], temperature: float) -> list[int]:
    """How many of `width` children each gets, by the softmax of rewards / temperature. The rewards come best first."""
    if not rewards:
        return []
    weights = [math.exp((reward - rewards[0]) / temperature) for reward in rewards]
    rest = [math.fsum(weights[i:]) for i in range(len(weights))]
    counts, left = [], width
    for weight, among in zip(weights, rest, strict=True):
        counts.append(math.ceil(left * (weight / among) - ROUNDING) if left else 0)
        left -= counts[-1]
    return counts


@dataclass(frozen=True)
class Rebase:
    """n first steps; then each open candidate has children by the softmax of its value, until n solutions have finished.

    Cost: about n solutions; one verifier pass a step of each candidate.
    """

    n: int = 16
    temperature: float = 0.1  # of the rewards: 0.1 in the paper, 0.2 in its repository
    depth: int = 40
    lookahead: int = 0  # greedy steps after which an open candidate is scored
    select: Selector = Selector("weighted")

    def __post_init__(self) -> None:
        positive(n=self.n, depth=self.depth)
        at_least_zero(lookahead=self.lookahead)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be a finite number above 0, not {self.temperature}")

    def search(self, tree: Tree) -> Ask[Choice]:
        done: list[Candidate] = []
        children = yield from tree.extend([ROOT], n=self.n, until=Until.STEP)
        for depth in range(1, self.depth + 1):
            alive = ranked(tree, (yield from judged(tree, children, self.lookahead)))
            done += [c for c in alive if c.finished]
            states = [c for c in alive if c.open]
            counts = allocation(max(self.n - len(done), 0), [tree.value(c.path) or 0.0 for c in states], self.temperature)
            tree.mark((c for c, n in zip(states, counts, strict=True) if not n), State.PRUNED, "no share of the width")
            if not any(counts) or depth == self.depth or tree.spent or tree.unjudged:
                break
            shared = [(c, n) for c, n in zip(states, counts, strict=True) if n]
            children = yield from tree.extend([c for c, _ in shared], n=[n for _, n in shared], until=Until.STEP)
        return self.select(entries(tree, done))
