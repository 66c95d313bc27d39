"""Monte Carlo tree search with rollouts to the end, after rStar-Math (arXiv 2501.04519) and rStar (arXiv 2408.06195).

A simulation goes down by UCT, q + c sqrt(ln N / n), what was never visited first; a candidate that was visited before is given
`k` next steps, and the first of them is gone to. From there `rollouts` solutions are written to the end; the mean of their
rewards is backed up, and q is the mean of those. In the end the solutions of the highest rewards vote.

The reward of a solution is

    verifier    the verifier's value of it as a whole. rStar-Math rewards +1 and -1 by the reference answer where it makes
                training data; a search may not read that, and its process model stands in, as in their evaluation
    agreement   the share of the solutions found so far that give the same answer, after rStar's mutual consistency, whose
                second model is left out: it needs no verifier

A solution that is cut, or gives no answer, or cannot be judged, is worth 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search.checks import one_of, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, State, Until, order

from .mcts_stats import Statistics, Stats, answering, leave, solutions, uct

Reward = Literal["verifier", "agreement"]
REWARDS: tuple[Reward, ...] = ("verifier", "agreement")


@dataclass(frozen=True)
class RStar:
    """Cost: a simulation is `rollouts` solutions from where it comes to, and k steps where it draws some; one pass a solution
    (with reward=agreement: one for each that votes, and only if the selector reads scores)."""

    k: int = 4
    simulations: int = 16
    rollouts: int = 1  # solutions a simulation
    c: float = 2.0  # weight of exploration
    depth: int = 16
    reward: Reward = "verifier"
    top: int = 8  # solutions that vote, those of the highest rewards
    select: Selector = Selector("weighted")

    def __post_init__(self) -> None:
        positive(k=self.k, simulations=self.simulations, rollouts=self.rollouts, depth=self.depth, top=self.top)
        one_of("reward", self.reward, REWARDS)
        if not (math.isfinite(self.c) and self.c >= 0):
            raise ValueError(f"c must be at least 0, not {self.c}")

    def search(self, tree: Tree) -> Ask[Choice]:
        seen = Statistics(tree, self.depth)
        for _ in range(self.simulations):
            if seen.explored or tree.spent or (self.reward == "verifier" and tree.unjudged):
                break
            leaf = seen.leaf(self._merit)
            if seen.grows(leaf) and (leaf == ROOT or seen.of[leaf].visits):
                leaf = yield from self._expand(tree, seen, leaf)
            worth = yield from self._worth(tree, seen, leaf)
            seen.back_up(leaf, worth)
        leave(tree)
        found = sorted(solutions(tree), key=lambda c: (-self._reward(tree, c), tree.length(c.path), order(c.path)))
        voters = found[: self.top]
        if self.select.needs_verifier:
            yield from tree.verify(voters)
        return self.select(entries(tree, voters))

    def _merit(self, parent: Stats, child: Stats) -> float:
        return uct(child.mean, parent.visits, child.visits, self.c)

    def _expand(self, tree: Tree, seen: Statistics, leaf: Path) -> Ask[Path]:
        """Draws the leaf's next steps, unjudged; the first of them, or the leaf where none is left."""
        children = yield from tree.extend([leaf], n=self.k, until=Until.STEP)
        seen.add(leaf, (yield from tree.merged(answering(tree, children))))
        return next(iter(seen.of[leaf].children or []), leaf)

    def _worth(self, tree: Tree, seen: Statistics, leaf: Path) -> Ask[float]:
        """The mean reward of what a leaf leads to: itself where it is finished, else its rollouts."""
        if seen.of[leaf].children == []:
            return 0.0
        if leaf and tree.candidates[leaf].finished:
            yield from self._judged(tree, [tree.candidates[leaf]])
            return self._reward(tree, tree.candidates[leaf])
        ends = yield from tree.extend([leaf], n=self.rollouts, until=Until.END)
        yield from self._judged(tree, [c for c in answering(tree, ends) if c.finished])
        return math.fsum(self._reward(tree, c) for c in ends) / max(len(ends), 1)

    def _judged(self, tree: Tree, ends: list[Candidate]) -> Ask[None]:
        if self.reward == "verifier":
            for score in (yield from tree.verify(ends)):
                if score.value is None:
                    tree.mark([tree.candidates[score.path]], State.PRUNED, score.reason)

    def _reward(self, tree: Tree, end: Candidate) -> float:
        """In [0, 1], higher = better; 0 for what is no solution."""
        if tree.states[end.path][0] is not State.FINISHED:
            return 0.0
        if self.reward == "verifier":
            return tree.value(end.path) or 0.0
        answers = [tree.answer(c.path).key for c in solutions(tree)]
        return answers.count(tree.answer(end.path).key) / len(answers)


__all__ = ["REWARDS", "RStar", "Reward"]
