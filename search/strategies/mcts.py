"""Monte Carlo tree search over steps as AlphaZero's (arXiv 1712.01815), a process reward model in place of its value network.

A simulation goes down from the root by

    Q + P c(N) sqrt(N) / (n + 1)        c(N) = ln((N + base + 1) / base) + init

to a candidate without children, gives it `k` next steps, and backs up what the candidate itself is worth: the value of its
own step. N are the parent's visits, n the child's, Q the mean of what was backed up through the child, or its own value while
there is nothing (it was judged when it was made, so it need not be taken for lost as in AlphaZero). P is the generator's:
exp of the mean ln p of the step, over the sum of its siblings'. Constants and prior are those of OpenR's tree search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search.checks import one_of, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, Until, parent_of

from .growing import judged
from .mcts_stats import PRIORS, Prior, Statistics, Stats, answering, leave, puct, solutions

Final = Literal["select", "visits"]
FINALS: tuple[Final, ...] = ("select", "visits")


@dataclass(frozen=True)
class MCTS:
    """`simulations` of them, each with k next steps for one candidate, `leaves` at a time.

    A finished solution has no children; it backs up its value again whenever a simulation ends there. Cost: at most k steps
    and k passes a simulation; what comes in one round of `leaves` is generated together.
    """

    k: int = 4
    simulations: int = 32
    leaves: int = 1  # simulations a round; those on their way count as visits that lost
    depth: int = 40
    prior: Prior = "logprob"
    base: float = 19652.0  # visits at which the weight of the prior begins to grow
    init: float = 1.25  # weight of the prior before that
    final: Final = "select"  # among all solutions found, or the end of the most visited line
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        positive(k=self.k, simulations=self.simulations, leaves=self.leaves, depth=self.depth)
        one_of("prior", self.prior, PRIORS)
        one_of("final", self.final, FINALS)
        if not (math.isfinite(self.base) and self.base > 0):
            raise ValueError(f"base must be above 0, not {self.base}")
        if not (math.isfinite(self.init) and self.init >= 0):
            raise ValueError(f"init must be at least 0, not {self.init}")

    def search(self, tree: Tree) -> Ask[Choice]:
        seen = Statistics(tree, self.depth)
        done = 0
        while done < self.simulations and not (seen.explored or tree.spent or tree.unjudged):
            leaves = self._leaves(seen, min(self.leaves, self.simulations - done))
            yield from self._expand(tree, seen, [leaf for leaf in leaves if seen.grows(leaf)])
            for leaf in leaves:
                seen.hold(leaf, -1)
                dead = seen.of[leaf].children == []
                seen.back_up(leaf, 0.0 if dead else seen.of[leaf].value)
            done += len(leaves)
        pool = yield from self._pool(tree, seen)
        leave(tree)
        return self.select(entries(tree, pool))

    def _leaves(self, seen: Statistics, most: int) -> list[Path]:
        """The next leaves, each the best while those before are taken for lost; fewer where one comes up again."""
        leaves: list[Path] = []
        while len(leaves) < most and (leaf := seen.leaf(self._merit)) not in leaves:
            seen.hold(leaf, 1)
            leaves.append(leaf)
        return leaves

    def _merit(self, parent: Stats, child: Stats) -> float:
        return puct(child.mean, child.prior, parent.tries, child.tries, self.base, self.init)

    def _expand(self, tree: Tree, seen: Statistics, leaves: list[Path]) -> Ask[None]:
        children = yield from tree.extend(leaves, n=self.k, until=Until.STEP)
        kept = yield from judged(tree, answering(tree, children))
        for leaf in leaves:
            seen.add(leaf, [c for c in kept if tree.head(parent_of(c.path)) == leaf], self.prior)

    def _pool(self, tree: Tree, seen: Statistics) -> Ask[list[Candidate]]:
        """The solutions to choose among. Where there is none yet, k ends are written to the most visited line."""
        found, line = solutions(tree), seen.line()
        if line != ROOT and tree.candidates[line].finished:
            return found if self.final == "select" else [tree.candidates[line]]
        if (found and self.final == "select") or tree.spent or tree.unjudged:
            return found
        ends = yield from tree.extend([line], n=self.k, until=Until.END)
        written = yield from judged(tree, answering(tree, ends))
        return written or found


__all__ = ["FINALS", "MCTS", "Final"]
