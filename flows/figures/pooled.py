"""Pools of whole solutions of a family's held-out problems, drawn without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows import work
from flows.parts import part, spec
from pipelines.problems import FAMILIES
from pipelines.problems.load import load_problems
from search.drive import Outcome
from search.estimate import Pool
from search.select import Entry, entries
from search.types import Problem, RunSpec, Trace


@dataclass(frozen=True, eq=False)
class Drawn:
    """A family's problems with their pools of solutions."""

    family: str
    problems: Sequence[Problem]
    outcomes: Sequence[Outcome]  # in the order of the problems

    @classmethod
    def of(cls, family: str, count: int, samples: int, generator: str) -> Drawn:
        problems = load_problems(part(f"{family}:split=test,count={count},seed=1"))
        words = spec(
            f"{family}:split=test,count={count},seed=1", f"best-of-n:n={samples},select=majority", "equation", generator
        )
        return cls(family, problems, solved(problems, words))

    def right(self, problem: Problem, answer: str) -> bool:
        return FAMILIES[self.family].check(problem.answer, answer)

    def entries(self, of: int) -> list[list[Entry]]:
        """The first `of` solutions of each problem."""
        return [entries(o.search.tree, list(o.search.tree.candidates.values())[:of]) for o in self.outcomes]

    def traces(self, of: int) -> list[Trace]:
        """The same, as a verifier sees them, one problem after another."""
        trees = [outcome.search.tree for outcome in self.outcomes]
        return [Trace(tree.question, (c.step,)) for tree in trees for c in list(tree.candidates.values())[:of]]

    def pools(self, of: Sequence[Sequence[Entry]]) -> list[Pool]:
        return [Pool.of(own, lambda a, p=p: self.right(p, a)) for p, own in zip(self.problems, of, strict=True)]  # type: ignore[misc]

    @property
    def tokens(self) -> float:
        """Mean tokens of a solution."""
        return float(np.mean([len(c.step) for o in self.outcomes for c in o.search.tree.candidates.values()]))


def solved(problems: Sequence[Problem], words: RunSpec) -> list[Outcome]:
    found = {outcome.search.key: outcome for outcome in work.solve(list(enumerate(problems)), words)}
    return [found[key] for key in range(len(problems))]
