"""A*-decoding (arXiv 2505.13672): best-first search over steps with f = g + h and h = 1 - r, r the verifier's value.

The paper says that g gathers only the increases of h, and no more; its body is not public. Along a path let D be the
sum of the drops of r, U the sum of its rises, h0 the root's h. Three costs, the choice stored with the run:

    consistent  edge = max(0, h - h')   f = h0 + D       the smallest cost for which h is consistent: f never falls
    rises       edge = max(0, h' - h)   f = h0 + 2D - U  the literal reading; h is not consistent, f may fall
    greedy      edge = 0                f = 1 - r        best-first search, the ablation

Under `consistent` ties (every step that does not lose) go to the higher r, then the deeper path.
The frontier is global and keeps siblings; a goal is tested when popped; a cut step is no goal, nor is a solution without
an answer; a state is expanded once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from search.checks import one_of, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, State, Until, lineage, order

Cost = Literal["consistent", "rises", "greedy"]
COSTS: tuple[Cost, ...] = ("consistent", "rises", "greedy")
Key = tuple[float, float, int, tuple[int, ...]]


def f_value(cost: Cost, rewards: list[float]) -> float:
    """f of a path from its rewards in [0, 1], the root's first; lower = expanded earlier."""
    h0, last = 1 - rewards[0], rewards[-1]
    drops = sum(max(0.0, a - b) for a, b in pairwise(rewards))
    rises = sum(max(0.0, b - a) for a, b in pairwise(rewards))
    if cost == "consistent":
        return h0 + drops
    if cost == "rises":
        return h0 + 2 * drops - rises
    return 1 - last


@dataclass(frozen=True)
class AStar:
    """k next steps for the state popped, until a goal is popped or `expansions` are spent.

    Cost: one verifier pass for each new step; usually far fewer tokens than best-of-N, one after another.
    """

    k: int = 4
    cost: Cost = "consistent"
    expansions: int = 64
    goals: int = 1  # solutions popped before choosing among them
    root: float = 0.5  # r of the empty solution
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        positive(k=self.k, expansions=self.expansions, goals=self.goals)
        one_of("cost", self.cost, COSTS)
        if not 0 <= self.root <= 1:
            raise ValueError(f"root must be between 0 and 1, not {self.root}")

    def search(self, tree: Tree) -> Ask[Choice]:
        frontier: list[tuple[Key, Path]] = []
        goals: list[Candidate] = []
        state, popped = ROOT, None
        for _ in range(self.expansions):
            children = yield from tree.extend([state], n=self.k, until=Until.STEP)
            fresh = tree.distinct(c for c in children if c.open or c.finished)
            yield from tree.verify(fresh)
            self._push(tree, frontier, fresh)
            popped = self._pop(tree, frontier, goals)
            if popped is None or tree.spent or tree.unjudged:
                break
            state = popped
        left = [tree.candidates[path] for _, path in frontier]
        unexpanded = [tree.candidates[popped]] if popped else []
        tree.mark((c for c in [*left, *unexpanded] if c.open), State.PRUNED, "left in the frontier")
        return self.select(entries(tree, goals or [c for c in left if c.finished]))

    def _push(self, tree: Tree, frontier: list[tuple[Key, Path]], children: list[Candidate]) -> None:
        for child in children:
            score = tree.scores[child.path]
            if score.value is None:
                tree.mark([child], State.PRUNED, score.reason)
                continue
            rewards = [self.root, *(tree.scores[p].value or 0.0 for p in lineage(child.path))]
            f = f_value(self.cost, rewards)
            heapq.heappush(frontier, ((f, -score.value, -child.depth, order(child.path)), child.path))

    def _pop(self, tree: Tree, frontier: list[tuple[Key, Path]], goals: list[Candidate]) -> Path | None:
        """The next state to expand; goals met on the way are collected."""
        while frontier and len(goals) < self.goals:
            _, path = heapq.heappop(frontier)
            candidate = tree.candidates[path]
            if not candidate.finished:
                return path
            if tree.answer(path).key is None:
                tree.mark([candidate], State.PRUNED, "no answer")
            else:
                goals.append(candidate)
        return None
