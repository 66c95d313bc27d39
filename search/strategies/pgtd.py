"""Planning-guided decoding (PG-TD, arXiv 2303.05510) over steps: a tree search that keeps the best return, not the mean.

A simulation goes down by

    q + (ln((N + base + 1) / base) + c) P sqrt(ln N) / (1 + n)        q the highest return seen through the child

to a candidate that was not visited yet, completes it greedily, and backs up the verifier's value of the completed solution.
The candidates passed on the way have `k` next steps: the greedy one and k - 1 that are drawn. The best of all completions is
chosen.

The paper is about tokens of programs, with the share of public tests passed as the return. Here an edge is a step, the return
is the verifier's, and P is exp of the mean ln p of the step over the sum of its siblings'. A completion is made step by step,
and its steps are the greedy children of the candidates it passes: what the paper keeps in a cache of sequences is kept by the
tree, and a candidate on a completion that is known is worth what that is, at no cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Candidate, Choice, Path, State, Until

from .mcts_stats import Statistics, Stats, answering, leave, p_ucb, solutions


@dataclass(slots=True)
class _Completions:
    """What greedy decoding made of the candidates it came through."""

    returns: dict[Path, float] = field(default_factory=dict)  # in [0, 1], higher = better
    step: dict[Path, Candidate] = field(default_factory=dict)  # the greedy child


@dataclass(frozen=True)
class PGTD:
    """Cost: a simulation is at most one solution from where it comes to, k - 1 steps for each candidate passed that had none,
    and one pass. With k = 1, or one simulation, it is greedy decoding."""

    k: int = 3
    simulations: int = 16
    c: float = 4.0  # weight of the prior
    base: float = 10.0  # visits at which it begins to grow
    depth: int = 40
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        positive(k=self.k, simulations=self.simulations, depth=self.depth)
        if not (math.isfinite(self.c) and self.c >= 0):
            raise ValueError(f"c must be at least 0, not {self.c}")
        if not (math.isfinite(self.base) and self.base > 0):
            raise ValueError(f"base must be above 0, not {self.base}")

    def search(self, tree: Tree) -> Ask[Choice]:
        seen, known = Statistics(tree, self.depth), _Completions()
        for _ in range(self.simulations):
            if seen.explored or tree.spent or tree.unjudged:
                break
            path = yield from self._descend(tree, seen, known)
            if path not in known.returns:
                yield from self._complete(tree, known, path)
            seen.back_up(path, known.returns[path])
        leave(tree)
        return self.select(entries(tree, solutions(tree)))

    def _merit(self, parent: Stats, child: Stats) -> float:
        return p_ucb(child.best, child.prior, parent.visits, child.visits, self.base, self.c)

    def _descend(self, tree: Tree, seen: Statistics, known: _Completions) -> Ask[Path]:
        """Down to a candidate that was not visited yet, or cannot be gone on from; those passed get their children."""
        path = ROOT
        while seen.of[path].visits and seen.grows(path):
            if seen.of[path].children is None:
                seen.add(path, (yield from self._children(tree, known, path)), "logprob")
            if not seen.of[path].children:
                break
            path = seen.pick(path, self._merit)
        return path

    def _children(self, tree: Tree, known: _Completions, path: Path) -> Ask[list[Candidate]]:
        """The greedy step first, where it leads somewhere, then those drawn that say something else."""
        step = known.step.get(path)
        greedy = answering(tree, [step]) if step and tree.states[step.path][0] is not State.PRUNED else []
        drawn = (yield from tree.extend([path], n=self.k - 1, until=Until.STEP)) if self.k > 1 else ()
        others = [c for c in tree.distinct([*greedy, *answering(tree, drawn)]) if c not in greedy]
        return [*greedy, *(yield from tree.merged(others))]

    def _complete(self, tree: Tree, known: _Completions, path: Path) -> Ask[None]:
        """Greedy decoding from a path to the end, and the return for all that it came through; 0 where it came to none."""
        passed = [path]
        end = tree.candidates.get(path)
        while end is None or end.open:
            grown = yield from tree.extend([passed[-1]], until=Until.STEP, sampling=GREEDY)
            if not grown:
                break
            end = known.step[passed[-1]] = grown[0]
            passed.append(end.path)
        worth = 0.0
        if end is not None and end.finished and answering(tree, [end]):
            [score] = yield from tree.verify([end])
            worth = score.value or 0.0
            if score.value is None:
                tree.mark([end], State.PRUNED, score.reason)
        known.returns |= dict.fromkeys(passed, worth)


__all__ = ["PGTD"]
