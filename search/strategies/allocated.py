"""Allocated: majority with a number of samples for each problem, planned before the run from a cheaper one.

`ponderosa allocate` makes the plan (search/allocation.py). It is part of the strategy's parameters, so that the run's spec says
all that was done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Until


@lru_cache(maxsize=8)
def planned(plan: str) -> Mapping[str, int]:
    """How many samples each problem is to have: {id: n}."""
    if not plan:
        return {}
    try:
        sizes = {str(problem): int(n) for n, problems in json.loads(plan).items() for problem in problems}
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f'a plan is JSON of the form {{"4": ["problem", ...], "16": [...]}}, not {plan[:60]}') from None
    positive(**{"n of the plan": min(sizes.values(), default=1)})
    return sizes


@dataclass(frozen=True)
class Allocated:
    """Best-of-n with an n of each problem's own. `plan` is JSON, {n: [problem ids]}; a problem that is not in it gets `n`.

    Cost: n solutions each, side by side; one verifier pass a solution where the selector reads scores.
    """

    n: int = 8
    plan: str = ""
    select: Selector = Selector("majority")

    def __post_init__(self) -> None:
        positive(n=self.n)
        planned(self.plan)

    def search(self, tree: Tree) -> Ask[Choice]:
        n = planned(self.plan).get(tree.question.id, self.n)
        answers = yield from tree.extend([ROOT], n=n, until=Until.END)
        if self.select.needs_verifier:
            yield from tree.verify(c for c in answers if c.finished)
        return self.select(entries(tree, answers))
