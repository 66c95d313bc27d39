"""What the simulations of a Monte Carlo tree search know of each candidate, and the three rules that choose by it.

One simulation goes down from the root by a rule to a leaf, learns what the leaf is worth, and gives that to every candidate
on the way back up. A subtree in which nothing is left to learn is *explored*, and is left alone while there are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from search.tree import Tree
from search.types import ROOT, Candidate, Path, State, depth_of, lineage, parent_of

Prior = Literal["logprob", "value", "uniform"]
PRIORS: tuple[Prior, ...] = ("logprob", "value", "uniform")


@dataclass(slots=True)
class Stats:
    """Of one candidate (or of ROOT). Values are in [0, 1], higher = better."""

    prior: float = 1.0  # P, its share among its siblings
    value: float = 0.0  # what it was found to be worth when it was made: stands in for the mean until it is visited
    visits: int = 0  # n, simulations that came through it
    total: float = 0.0  # sum of what they backed up
    best: float = 0.0  # the most that one of them backed up; 0 before the first
    pending: int = 0  # simulations on their way through it, counted as lost (virtual loss)
    explored: bool = False  # nothing below is left to learn
    children: list[Path] | None = None  # in the order of their paths; None: not drawn yet; none at all: a dead end

    @property
    def tries(self) -> int:
        return self.visits + self.pending

    @property
    def mean(self) -> float:
        return self.total / self.tries if self.tries else self.value


Merit = Callable[[Stats, Stats], float]  # of a parent and one child; the highest is gone down to


def puct(q: float, prior: float, parent_visits: int, visits: int, base: float, init: float) -> float:
    """Q + P c(N) sqrt(N) / (n + 1) with c(N) = ln((N + base + 1) / base) + init (AlphaZero, arXiv 1712.01815)."""
    c = math.log((parent_visits + base + 1) / base) + init
    return q + prior * c * math.sqrt(parent_visits) / (visits + 1)


def uct(q: float, parent_visits: int, visits: int, c: float) -> float:
    """q + c sqrt(ln N / n); what was never visited comes first (rStar-Math, arXiv 2501.04519)."""
    return q + c * math.sqrt(math.log(max(parent_visits, 1)) / visits) if visits else math.inf


def p_ucb(q: float, prior: float, parent_visits: int, visits: int, base: float, c: float) -> float:
    """q + (ln((N + base + 1) / base) + c) P sqrt(ln N) / (1 + n), q the highest return (PG-TD, arXiv 2303.05510)."""
    weight = math.log((parent_visits + base + 1) / base) + c
    return q + weight * prior * math.sqrt(math.log(max(parent_visits, 1))) / (1 + visits)


def priors(kind: Prior, tree: Tree, siblings: Sequence[Candidate]) -> list[float]:
    """P of each sibling, their sum 1: exp of the mean ln p of the step's tokens, or of its value (nats and [0, 1]), over the
    sum of all; or equal shares."""
    if kind == "logprob":
        logs = [c.step.logprob / max(len(c.step), 1) for c in siblings]
    elif kind == "value":
        logs = [tree.value(c.path) or 0.0 for c in siblings]
    else:
        logs = [0.0] * len(siblings)
    top = max(logs, default=0.0)
    weights = [math.exp(each - top) for each in logs]
    whole = math.fsum(weights)
    return [weight / whole for weight in weights]


@dataclass(slots=True)
class Statistics:
    """The Stats of one search, by path. Candidates at `depth` are not gone on from."""

    tree: Tree
    depth: int
    of: dict[Path, Stats] = field(default_factory=lambda: {ROOT: Stats()})

    @property
    def explored(self) -> bool:
        return self.of[ROOT].explored

    def grows(self, path: Path) -> bool:
        """Whether a candidate may be given children."""
        return not path or (self.tree.candidates[path].open and depth_of(path) < self.depth)

    def leaf(self, merit: Merit) -> Path:
        """From the root down to a candidate without children, each time to the child of the highest merit."""
        path = ROOT
        while self.of[path].children:
            path = self.pick(path, merit)
        return path

    def pick(self, path: Path, merit: Merit) -> Path:
        """The child of the highest merit, the first of equal ones. Explored subtrees only where there is nothing else; a
        finished child is no subtree, and may be picked again."""
        children, parent = self.of[path].children or [], self.of[path]
        some = [c for c in children if not self.of[c].explored or self.tree.candidates[c].finished]
        return max(some or children, key=lambda child: merit(parent, self.of[child]))

    def add(self, parent: Path, children: Iterable[Candidate], prior: Prior = "uniform") -> None:
        """Gives a candidate its children; none makes it a dead end."""
        siblings = list(children)
        self.of[parent].children = [c.path for c in siblings]
        for child, share in zip(siblings, priors(prior, self.tree, siblings), strict=True):
            self.of[child.path] = Stats(share, self.tree.value(child.path) or 0.0)

    def hold(self, path: Path, simulations: int) -> None:
        """Adds to (or takes from) what is pending on the way to a path."""
        for each in (ROOT, *map(self.tree.head, lineage(path))):
            self.of[each].pending += simulations

    def back_up(self, path: Path, value: float) -> None:
        """A simulation ended at a path and found it to be worth this: a visit for it and for all above."""
        for each in (*map(self.tree.head, reversed(lineage(path))), ROOT):
            stats = self.of[each]
            stats.visits += 1
            stats.total += value
            stats.best = max(stats.best, value)
            below = stats.children
            ended = not self.grows(each) if below is None else all(self.of[c].explored for c in below)
            stats.explored = stats.explored or ended

    def line(self) -> Path:
        """From the root along the most visited children (of equal ones the higher mean, then the first), past dead ends."""
        path = ROOT
        while hopeful := [c for c in self.of[path].children or [] if self.of[c].children != []]:
            path = max(hopeful, key=lambda child: (self.of[child].visits, self.of[child].mean))
        return path


def answering(tree: Tree, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that go on, or end with an answer. A solution without one is pruned before it costs a pass."""
    kept = []
    for candidate in candidates:
        if candidate.finished and tree.answer(candidate.path).key is None:
            tree.mark([candidate], State.PRUNED, "no answer")
        elif candidate.open or candidate.finished:
            kept.append(candidate)
    return kept


def solutions(tree: Tree) -> list[Candidate]:
    """All that finished and were not dropped, in the order in which they were made."""
    return [c for path, c in tree.candidates.items() if c.finished and tree.states[path][0] is State.FINISHED]


def leave(tree: Tree) -> None:
    """The search is over: what could have gone on and never did is pruned."""
    parents = {parent_of(path) for path in tree.candidates}
    left = [c for path, c in tree.candidates.items() if tree.states[path][0] is State.LIVE and path not in parents]
    tree.mark(left, State.PRUNED, "left unexpanded")


__all__ = [
    "PRIORS",
    "Prior",
    "Statistics",
    "Stats",
    "answering",
    "leave",
    "p_ucb",
    "priors",
    "puct",
    "solutions",
    "uct",
]
