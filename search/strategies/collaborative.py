"""Best-of-N whose texts and programs vote together: each solution has a vote for the answer it writes, and one for the answer
that the program in it computes (arXiv 2410.05318 checks text and program jointly; the vote is ours).

It needs a verifier that runs the programs: `--verifier program`. With another the texts vote alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from search.checks import positive
from search.collaborate import ballots, elected
from search.select import entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Until


@dataclass(frozen=True)
class Collaborative:
    """N independent samples, each verified; `text` and `program` are the weights of the two kinds of votes, 0 = it has none.
    Cost: N solutions, and a verification each."""

    texts_vote: ClassVar[bool] = True  # what has no value, or no program, has its vote all the same

    n: int = 16
    text: float = 1.0
    program: float = 1.0

    def __post_init__(self) -> None:
        positive(n=self.n)
        for name, weight in (("text", self.text), ("program", self.program)):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name} must be a weight of 0 or more, not {weight}")
        if not self.text and not self.program:
            raise ValueError("text and program are both 0: nobody would vote")

    def search(self, tree: Tree) -> Ask[Choice]:
        drawn = yield from tree.extend([ROOT], n=self.n, until=Until.END)
        yield from tree.verify([each for each in drawn if each.finished])
        pool = entries(tree, drawn)
        scores = [tree.scores.get(entry.path) for entry in pool]
        choice = elected(pool, ballots(pool, scores, tree.extract, self.text, self.program))
        if choice.path is not None and choice.answer is not None and tree.answer(choice.path).key != choice.answer:
            tree.take(choice.path, choice.answer)  # what only programs gave is the answer of the one that is chosen for it
        return choice
