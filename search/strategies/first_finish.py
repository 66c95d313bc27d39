"""First finish: start N solutions, stop all when the first m have ended, vote among those.

m = 1 is First Finish Search (arXiv 2505.18149) counted in tokens, m > 1 short-m@k (arXiv 2505.17813). It pays where
wrong solutions are longer than right ones on the same problem. "First" is fewest tokens, then the smaller path; a
solution cut by the token limit has not finished. The tokens of the rows that were stopped are charged.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Until, order


@dataclass(frozen=True)
class FirstFinish:
    """The first m of n, by majority. Cost: the sum over rows of min(own length, length of the m-th to end)."""

    n: int = 8
    m: int = 1

    def __post_init__(self) -> None:
        positive(n=self.n, m=self.m)
        if self.m > self.n:
            raise ValueError(f"m must be at most n, not m={self.m} with n={self.n}")

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=self.n, until=Until.END, first=self.m)
        ended = sorted((c for c in answers if c.finished), key=lambda c: (len(c.step), order(c.path)))
        return Selector("majority")(entries(tree, ended[: self.m]))
