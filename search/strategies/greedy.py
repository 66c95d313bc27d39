"""Greedy decoding: the most probable token each time, once."""

from __future__ import annotations

from dataclasses import dataclass

from search.select import Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Choice, Until


@dataclass(frozen=True)
class Greedy:
    """One solution at temperature 0, whatever the run's sampling says."""

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], until=Until.END, sampling=GREEDY)
        return Selector("majority")(entries(tree, answers))
