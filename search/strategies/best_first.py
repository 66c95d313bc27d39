"""Best-first search over steps: the state with the highest value is expanded, wherever it is; stop when the best is a
solution (the BFS of FETCH, arXiv 2502.11183). It is A* without a cost of the way, f = 1 - r: the ablation of `astar`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from search.select import Selector
from search.tree import Tree
from search.types import Ask, Choice

from .astar import AStar


@dataclass(frozen=True)
class BestFirst:
    """k next steps for the best state, until the best is a solution or `expansions` are spent.

    Cost: one verifier pass for each new step; tokens one after another.
    """

    k: int = 4
    expansions: int = 64
    goals: int = 1  # solutions that were the best before choosing among them
    lookahead: int = 0  # greedy steps after which an open state is scored
    frontier: int = 0  # open states kept, the worst are pruned; 0: all
    pops: int = 1  # states expanded at once
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        self._astar()

    def search(self, tree: Tree) -> Ask[Choice]:
        return (yield from self._astar().search(tree))

    def _astar(self) -> AStar:
        return AStar(cost="greedy", **{each.name: getattr(self, each.name) for each in fields(self)})
