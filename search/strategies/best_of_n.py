"""Best-of-N: sample N whole solutions, then choose. With select=majority: self-consistency (arXiv 2203.11171)."""

from __future__ import annotations

from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Until


@dataclass(frozen=True)
class BestOfN:
    """N independent samples and a selector. Cost: N solutions; one verifier pass each if the selector needs scores."""

    n: int = 16
    select: Selector = Selector("majority")

    def __post_init__(self) -> None:
        positive(n=self.n)

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=self.n, until=Until.END)
        finished = [c for c in answers if c.finished]
        if self.select.needs_verifier:
            yield from tree.verify(finished)
        return self.select(entries(tree, answers))
