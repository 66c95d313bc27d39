"""Last finish: run N solutions to their ends, vote among the m longest: the control of first-finish (arXiv 2512.02008).

Where it beats first-finish, longer solutions of a problem are the better ones, and stopping early costs accuracy. Unlike
first-finish it saves nothing: which are the longest is known only when all have ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Until, order


@dataclass(frozen=True)
class LastFinish:
    """The last m of n to end, by majority; of equal lengths the earlier path first. Cost: n solutions."""

    n: int = 8
    m: int = 1

    def __post_init__(self) -> None:
        positive(n=self.n, m=self.m)
        if self.m > self.n:
            raise ValueError(f"m must be at most n, not m={self.m} with n={self.n}")

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=self.n, until=Until.END)
        ended = sorted((c for c in answers if c.finished), key=lambda c: (-len(c.step), order(c.path)))
        return Selector("majority")(entries(tree, ended[: self.m]))
