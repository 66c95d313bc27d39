"""FETCH's state merging (arXiv 2502.11183) around any tree strategy: steps that say the same share one place.

The wrapped strategy runs on a view of the tree (search.merging) and knows nothing of it. At distance 0, or with how=text, it
is the wrapped strategy itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from search.checks import one_of
from search.merging import HOWS, LINKAGES, SCORED, How, Linkage, Merging, Scored
from search.tree import Tree
from search.types import Ask, Choice

from .beam import Beam

if TYPE_CHECKING:
    from . import Strategy


@dataclass(frozen=True)
class Fetch:
    """The strategy `of`, with merged states. Cost: its own, and with how=embedding one embedding for each new step that has
    a sibling; with score=one a verifier pass less for each that is merged."""

    # those that ask the tree what is to be merged
    wraps: ClassVar = ("astar", "beam", "best-first", "dvts", "mcts", "pg-td", "rebase", "rstar")

    of: str = "beam"
    how: How = "embedding"
    distance: float = 0.15  # cosine distance below which steps say the same; 0 merges none
    linkage: Linkage = "average"
    score: Scored = "all"  # members judged; with all, the best of them stands for its cluster
    inner: Strategy = field(default_factory=Beam)  # the strategy itself; from words: with all the parameters that are not above

    def __post_init__(self) -> None:
        one_of("strategy that merges", self.of, self.wraps)
        one_of("how", self.how, HOWS)
        one_of("linkage", self.linkage, LINKAGES)
        one_of("score", self.score, SCORED)
        if not (math.isfinite(self.distance) and 0 <= self.distance <= 2):
            raise ValueError(f"distance must be between 0 and 2, not {self.distance}")

    @property
    def needs_encoder(self) -> bool:
        return self.how == "embedding" and self.distance > 0

    def search(self, tree: Tree) -> Ask[Choice]:
        view = Merging.over(tree, how=self.how, distance=self.distance, linkage=self.linkage, scored=self.score)
        choice = yield from self.inner.search(view)
        view.close()
        return choice
