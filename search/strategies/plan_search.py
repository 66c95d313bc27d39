"""PlanSearch: search over ideas in plain language, not over solutions (arXiv 2409.03733).

The model lists observations about the problem; each subset of at most `size` of them is turned into a plan, and each plan into
a solution. Samples of one prompt are mostly one idea in other words; subsets of observations are not. Each text is a candidate:
a plan is the child of the list of observations (or of those derived from its subset), a solution of its plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TypeVar

from search.checks import at_least_zero, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path

from .asking import ANSWER, asked, filled, lines_of

T = TypeVar("T")

OBSERVE = """Here is a problem.

{problem}

{known}Write {count} observations that could help to solve it: short, true, not obvious, each unlike the others. One a line, \
beginning with "- ". Do not solve the problem."""

DERIVE = """Here is a problem.

{problem}

{known}Write {count} new observations that follow from these. One a line, beginning with "- ". Do not solve the problem."""

PLAN = """Here is a problem.

{problem}

{known}Describe in a few sentences a plan to solve it that uses what is said here. Do not carry it out."""

MEND = """Here is a problem.

{problem}

A plan to solve it:
{plan}

Suppose that this plan is wrong. Say what is wrong with it, and describe a mended plan. Do not carry it out."""

SOLVE = """{problem}

Solve this by the following plan:
{plan}

{answer}"""


def subsets(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """All subsets of at most that size, smallest first, the empty one among them: 1 + 10 + 45 = 56 of ten by twos."""
    return list(chain.from_iterable(combinations(items, k) for k in range(min(size, len(items)) + 1)))


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly from the first on; all for 0."""
    return list(items) if not most or most >= len(items) else [items[i * len(items) // most] for i in range(most)]


def known(observations: Sequence[str]) -> str:
    return "What is known of it:\n" + "".join(f"- {each}\n" for each in observations) + "\n" if observations else ""


@dataclass(frozen=True)
class PlanSearch:
    """observations -> subsets -> plans -> solutions, and a selector over the solutions.

    combinations: subsets that are gone on with, taken evenly from all; 0: all, as published.
    layers: with 2, new observations are derived from each subset, and its plan is told those too.
    criticise: each plan is supposed to be wrong and mended, and the mended one solved as well: twice the solutions.

    Cost: about 2 answers a combination and one for the observations; 1 more with the second layer, 2 more with criticism. One
    after another: a request answers one question.
    """

    observations: int = 10
    size: int = 2
    combinations: int = 16
    layers: int = 1
    criticise: bool = False
    answer: str = ANSWER  # how the last prompt asks for the answer
    select: Selector = Selector("majority")

    def __post_init__(self) -> None:
        positive(observations=self.observations, size=self.size)
        at_least_zero(combinations=self.combinations)
        if self.layers not in (1, 2):
            raise ValueError(f"layers must be 1 or 2, not {self.layers}")

    def search(self, tree: Tree) -> Ask[Choice]:
        solutions: list[Candidate] = []
        at, found = yield from self._observed(tree)
        for those in spread(subsets(found, self.size), self.combinations) if at else ():
            # depth first: what the budget ends has whole solutions, and not plans alone
            solutions += yield from self._solved(tree, at, those)
            if tree.spent:
                break
        if self.select.needs_verifier:
            yield from tree.verify(c for c in solutions if c.finished)
        return self.select(entries(tree, solutions))

    def _observed(self, tree: Tree) -> Ask[tuple[Path, list[str]]]:
        """The observations, and the list that the last are from. It is asked for more, each list below the one before, until
        there are enough or a list has nothing new."""
        at, found = ROOT, list[str]()
        while len(found) < self.observations:
            prompt = self._prompt(tree, OBSERVE, found, count=self.observations - len(found))
            listed = yield from asked(tree, at, prompt, "list")
            if listed is None:
                break
            at, before = listed.path, len(found)
            found = list(dict.fromkeys([*found, *lines_of(listed)]))[: self.observations]
            if len(found) == before:
                break
        return at, found

    def _solved(self, tree: Tree, at: Path, those: Sequence[str]) -> Ask[list[Candidate]]:
        """The solutions of one subset of the observations; fewer where the budget ends."""
        if self.layers == 2 and those:
            derived = yield from asked(tree, at, self._prompt(tree, DERIVE, those, count=self.observations), "list")
            if derived is None:
                return []
            at, those = derived.path, list(dict.fromkeys([*those, *lines_of(derived)[: self.observations]]))
        solutions: list[Candidate] = []
        plan = yield from asked(tree, at, self._prompt(tree, PLAN, those), "plan")
        for number in range(1 + self.criticise):
            if plan is not None and number:
                text = tree.text(plan.path)
                plan = yield from asked(tree, plan.path, filled(MEND, problem=tree.question.text, plan=text), "plan")
            if plan is not None:
                text = tree.text(plan.path).strip()
                prompt = filled(SOLVE, problem=tree.question.text, plan=text, answer=self.answer)
                solution = yield from asked(tree, plan.path, prompt)
                solutions += [solution] if solution is not None else []
        return solutions

    def _prompt(self, tree: Tree, template: str, observations: Sequence[str], count: int = 0) -> str:
        return filled(template, problem=tree.question.text, known=known(observations), count=str(count))
