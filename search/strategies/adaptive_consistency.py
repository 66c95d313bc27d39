"""Adaptive consistency: sample until the leading answer is all but sure to stay ahead, then take it (arXiv 2305.11860)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from search.checks import positive
from search.rules import Halt, Rules
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Step, Until

from .stopping import in_portions, reader, top_two


def lead(most: int, second: int) -> float:
    """P(x > 1/2) where x ~ Beta(most + 1, second + 1): how sure it is that the first of two answers is the more frequent one
    in the long run. In closed form P(Binomial(most + second + 1, 1/2) <= most), in [0.5, 1)."""
    tosses = most + second + 1
    return sum(comb(tosses, heads) for heads in range(most + 1)) / (1 << tosses)


@dataclass(frozen=True)
class AdaptiveConsistency:
    """Majority of at most n, stopped when `lead` of the two most frequent answers reaches the threshold.

    `batch` are sampled side by side before the rule is asked again; what is sampled beyond need is charged and votes. With
    `parallel` all n start together and the rest stops when the rule is met: fewer steps in sequence for more tokens.
    Cost: from 4 solutions (unanimous, threshold 0.95) to n; sequential tokens of one solution a batch.
    """

    n: int = 40
    threshold: float = 0.95
    batch: int = 1
    parallel: bool = False

    def __post_init__(self) -> None:
        positive(n=self.n, batch=self.batch)
        if not 0.5 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0.5 and at most 1 (never), not {self.threshold}")
        if self.parallel and self.batch > 1:
            raise ValueError(f"with parallel all n start at once; leave out batch={self.batch}")

    def search(self, tree: Tree) -> Ask[Choice]:
        if not self.parallel:
            answers = yield from in_portions(tree, self.n, self.batch, self.sure)
            return Selector("majority")(entries(tree, answers))
        read = reader(tree)

        def decide(ended: Sequence[Step]) -> bool:
            return self.sure(read(ended))

        rules = Rules(halt=Halt(f"lead of {self.threshold}", decide))
        together = yield from tree.extend([ROOT], n=self.n, until=Until.END, rules=rules)
        return Selector("majority")(entries(tree, together))

    def sure(self, answers: Sequence[str | None]) -> bool:
        return self.threshold < 1 and lead(*top_two(answers)) >= self.threshold
