"""Pools of whole solutions of a family's held-out problems, drawn without a database, and how a judge's verdicts on them agree
with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows import work
from flows.figures.models import paired_auc
from flows.parts import part, spec
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.problems.load import load_problems
from search.drive import Outcome
from search.estimate import Pool
from search.select import Entry, entries
from search.types import Problem, RunSpec, Trace
from verifiers.generative import Checks, Generative


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


def verdicts(drawn: Drawn, checked: Sequence[Checks], of: int) -> dict[str, float]:
    """How often the verdict on a solution is that of its answer: on right and on wrong ones, and the mean of the two. No
    verdict is a no."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    owners = [problem for problem in drawn.problems for _ in range(of)]
    flat = [entry for own in drawn.entries(of) for entry in own]
    for problem, entry, checks in zip(owners, flat, checked, strict=True):
        right = entry.answer is not None and drawn.right(problem, entry.answer)
        hits[right] += [(values is not None and values[0] > 0.5) == right for values in checks.values]
    shares = {right: float(np.mean(each)) for right, each in hits.items()}
    balanced = (shares[True] + shares[False]) / 2
    without = float(np.mean([values is None for checks in checked for values in checks.values]))
    return {"balanced": balanced, "of right": shares[True], "of wrong": shares[False], "without": without}


def stepwise(drawn: Drawn, judge: Generative, of: int) -> float:
    """AUC of verdicts on steps over pairs of a right and a wrong step at one place of one problem, up to the first wrong."""
    known: dict[str, Instance] = {}
    source = instances(FAMILIES[drawn.family], "test", 1)
    wanted = {problem.prompt for problem in drawn.problems}  # the source has some in another order too
    while not wanted <= known.keys():
        instance = next(source)
        known.setdefault(instance.question, instance)
    groups: dict[tuple[int, int], tuple[list[float], list[int]]] = {}
    traces = drawn.traces(of)
    for i, (trace, reading) in enumerate(zip(traces, judge.score(traces), strict=True)):
        labels = FAMILIES[drawn.family].label(known[trace.question.text], trace.texts)
        for place, (label, value) in enumerate(zip(labels, reading.parts, strict=False)):
            values, truths = groups.setdefault((i // of, place), ([], []))
            values.append(value)
            truths.append(int(label))
            if not label:
                break
    return paired_auc(list(groups.values()))
