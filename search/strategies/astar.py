"""A*-decoding (arXiv 2505.13672): best-first search over steps with f = g + h and h = 1 - r, r the verifier's value.

The paper says that g gathers only the increases of h, and no more; its body is not public. Along a path let D be the
sum of the drops of r, U the sum of its rises, h0 the root's h. Three costs, the choice stored with the run:

    consistent  edge = max(0, h - h')   f = h0 + D       the smallest cost for which h is consistent: f never falls
    rises       edge = max(0, h' - h)   f = h0 + 2D - U  the literal reading; h is not consistent, f may fall
    greedy      edge = 0                f = 1 - r        best-first search, the ablation

Under `consistent` ties (every step that does not lose) go to the higher r, then the deeper path.
The frontier is global and keeps siblings; a goal is tested when popped; a cut step is no goal, nor is a solution without
an answer; of equal texts the first only. A state is expanded once, unless `reopen` keeps it in the frontier at f + reopen for
each time it was taken: its k children are a sample of its successors, and the right one may not have been among them.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from search.checks import at_least_zero, one_of, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, State, Until, depth_of, lineage, order

from .growing import judged

Cost = Literal["consistent", "rises", "greedy"]
COSTS: tuple[Cost, ...] = ("consistent", "rises", "greedy")
Key = tuple[float, float, int, tuple[int, ...]]
Seen = dict[tuple[str, bool], Candidate]  # by the text of the whole path, and whether it is finished


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


def novel(tree: Tree, children: Iterable[Candidate], seen: Seen) -> list[Candidate]:
    """The children whose whole text no earlier state has; the others are merged. Copies of a sibling, token by token, are
    left for the tree to merge as its own rule says."""
    fresh, now = [], list(children)
    batch = {child.path for child in now}
    for child in now:
        if not (child.open or child.finished):
            continue
        first = seen.setdefault((tree.text(child.path), child.finished), child)
        same = first.parent == child.parent and first.step.tokens.tobytes() == child.step.tokens.tobytes()
        copy = same and first.path in batch
        if first is child or copy:
            fresh.append(child)
        else:
            tree.mark([child], State.MERGED, "same text as an earlier state")
    return fresh


@dataclass(frozen=True)
class AStar:
    """k next steps for each state popped, until a goal is popped or `expansions` are spent.

    Cost: one verifier pass for each new step; usually far fewer tokens than best-of-N, one after another.
    """

    k: int = 4
    cost: Cost = "consistent"
    expansions: int = 64
    goals: int = 1  # solutions popped before choosing among them
    root: float = 0.5  # r of the empty solution
    lookahead: int = 0  # greedy steps after which an open state is scored
    frontier: int = 0  # open states kept, the worst are pruned; 0: all
    pops: int = 1  # states expanded at once; fewer where a goal is next: it waits for their children
    reopen: float = 0.0  # f that an expanded state costs more each time it is taken again for k new children; 0: it is closed
    goal_on_pop: bool = True  # False: a solution is a goal once generated, whatever stands before it
    select: Selector = Selector("best")

    later: ClassVar = ("lookahead", "frontier", "pops", "reopen", "goal_on_pop")  # parameters of the second version

    def __post_init__(self) -> None:
        positive(k=self.k, expansions=self.expansions, goals=self.goals, pops=self.pops)
        at_least_zero(lookahead=self.lookahead, frontier=self.frontier)
        if not 0 <= self.reopen < math.inf:
            raise ValueError(f"reopen must be 0 (off) or a finite f above it, not {self.reopen}")
        one_of("cost", self.cost, COSTS)
        if not 0 <= self.root <= 1:
            raise ValueError(f"root must be between 0 and 1, not {self.root}")

    def search(self, tree: Tree) -> Ask[Choice]:
        queue: list[tuple[Key, Path]] = []
        goals: list[Candidate] = []
        seen: Seen = {}
        taken = Counter[Path]()
        left = self.expansions
        states: list[Path] = [ROOT]
        while states:
            left -= len(states)
            children = yield from tree.extend(states, n=self.k, until=Until.STEP)
            taken.update(states)
            self._push(tree, queue, taken, (yield from judged(tree, novel(tree, children, seen), self.lookahead)))
            if self.reopen:
                for path in states:
                    heapq.heappush(queue, (self._key(tree, path, self.reopen * taken[path]), path))
            if not self.goal_on_pop:
                self._take(tree, queue, goals)
            states = self._pop(tree, queue, goals, min(self.pops, left))
            if tree.spent or tree.unjudged:
                break
        rest = [tree.candidates[path] for path in (*states, *(path for _, path in queue)) if path not in taken]
        tree.mark((c for c in rest if c.open), State.PRUNED, "left in the frontier")
        return self.select(entries(tree, goals or [c for c in rest if c.finished]))

    def _push(self, tree: Tree, queue: list[tuple[Key, Path]], taken: Mapping[Path, int], children: list[Candidate]) -> None:
        """Puts judged children into the queue; where that has too many open states, the worst leave it. One that was
        expanded before is closed by that, and not dropped."""
        for child in children:
            heapq.heappush(queue, (self._key(tree, child.path), child.path))
        if not self.frontier:
            return
        worse = {path for _, path in sorted(e for e in queue if _open(tree, e[1]))[self.frontier :]} - {ROOT}
        if worse:
            never = [tree.candidates[path] for _, path in queue if path in worse and path not in taken]
            tree.mark(never, State.PRUNED, "frontier full")
            queue[:] = [each for each in queue if each[1] not in worse]
            heapq.heapify(queue)

    def _key(self, tree: Tree, path: Path, more: float = 0.0) -> Key:
        rewards = [self.root, *(tree.value(p) or 0.0 for p in lineage(path))]
        return f_value(self.cost, rewards) + more, -rewards[-1], -depth_of(path), order(path)

    def _pop(self, tree: Tree, queue: list[tuple[Key, Path]], goals: list[Candidate], most: int) -> list[Path]:
        """The next states to expand, at most `most`, best first; goals met before the first of them are collected. A goal
        behind one stays: what comes of that state may have a lower f."""
        states: list[Path] = []
        while queue and len(goals) < self.goals:
            path = queue[0][1]
            if len(states) == most if _open(tree, path) else states:
                break
            heapq.heappop(queue)
            if _open(tree, path):
                states.append(path)
            else:
                _collect(tree, goals, tree.candidates[path])
        return states

    def _take(self, tree: Tree, queue: list[tuple[Key, Path]], goals: list[Candidate]) -> None:
        """Collects the solutions in the queue, the lowest f first."""
        for each in sorted(e for e in queue if not _open(tree, e[1])):
            if len(goals) < self.goals:
                queue.remove(each)
                _collect(tree, goals, tree.candidates[each[1]])
        heapq.heapify(queue)


def _open(tree: Tree, path: Path) -> bool:
    """Whether a state can be expanded; the others in the queue are solutions."""
    return path == ROOT or tree.candidates[path].open


def _collect(tree: Tree, goals: list[Candidate], candidate: Candidate) -> None:
    """A solution is a goal if it has an answer."""
    if tree.answer(candidate.path).key is None:
        tree.mark([candidate], State.PRUNED, "no answer")
    else:
        goals.append(candidate)
