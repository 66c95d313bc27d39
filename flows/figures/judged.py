"""Searches without a database: a pool of whole solutions as a verifier reads them, and what a strategy got and spent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flows.figures.measured import COSTS, Point
from flows.figures.models import paired_auc
from search.drive import Outcome
from search.estimate import Pool, best_of
from search.select import Entry, Selector
from search.types import Join, Question, Reading, Trace, Verifier

Right = Callable[[Question, str], bool]
Labels = Callable[[Question, tuple[str, ...]], Sequence[bool]]


@dataclass(frozen=True)
class Judged:
    """A pool of whole solutions, by seed and problem, as one verifier reads them."""

    outcomes: Sequence[Sequence[Outcome]]  # [seeds][problems]
    readings: Sequence[Sequence[Sequence[Reading]]]  # [seeds][problems][samples]
    join: Join

    @classmethod
    def by(cls, outcomes: Sequence[Sequence[Outcome]], judges: Sequence[Verifier], join: Join) -> Judged:
        """One verifier a seed."""
        return cls(outcomes, [[j.score(_traces(o)) for o in row] for j, row in zip(judges, outcomes, strict=True)], join)

    def curve(self, right: Right) -> list[Point]:
        """Best-of-n by the verifier's value for every n up to the pool's size."""
        rows = [[self._row(o, r, right) for o, r in zip(*pair, strict=True)] for pair in self._pairs()]
        means = np.mean(rows, axis=0)  # [problems, samples + 3]
        n = means.shape[1] - len(COSTS)
        return [Point(f"best-of-n {k}", means[:, k - 1], *(means[:, n:] * k / n).T) for k in range(1, n + 1)]

    def _pairs(self) -> Iterator[tuple[Sequence[Outcome], Sequence[Sequence[Reading]]]]:
        return zip(self.outcomes, self.readings, strict=True)

    def _row(self, outcome: Outcome, readings: Sequence[Reading], right: Right) -> list[float]:
        """One problem: the chance of a right choice at each n, and what the whole pool costs."""
        tree, entries = outcome.search.tree, []
        for candidate, reading in zip(tree.candidates.values(), readings, strict=True):
            value = self.join(reading.parts) if reading.parts else None
            key = tree.answer(candidate.path).key
            entries.append(Entry(candidate.path, key, len(candidate.step), parts=reading.parts, value=value))
        pool = Pool.of(entries, lambda answer: right(tree.question, answer))
        weights = pool.weights(Selector("best"))
        spent = [sum(r.passes for r in readings), sum(r.tokens for r in readings)]
        chances = [each.by_rule for each in best_of(weights, pool.hits, range(1, len(pool) + 1))]
        return [*chances, tree.usage.generated_tokens, *spent]

    def auc(self, labelled: Labels) -> float:
        """Of right against wrong steps at the same place of the same problem, up to a solution's first wrong step."""
        groups: dict[tuple[int, int, int], tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
        for s, pair in enumerate(self._pairs()):
            for p, (outcome, readings) in enumerate(zip(*pair, strict=True)):
                for trace, reading in zip(_traces(outcome), readings, strict=True):
                    for at, label in enumerate(labelled(trace.question, tuple(trace.texts))[: len(reading.parts)]):
                        groups[s, p, at][0].append(self.join(reading.parts[: at + 1]))
                        groups[s, p, at][1].append(int(label))
                        if not label:
                            break
        return paired_auc(list(groups.values()))


def _traces(outcome: Outcome) -> list[Trace]:
    tree = outcome.search.tree
    return [Trace(tree.question, (candidate.step,)) for candidate in tree.candidates.values()]


def searched(name: str, outcomes: Sequence[Sequence[Outcome]], right: Right) -> Point:
    """What a strategy got and spent, from its outcomes by seed and problem."""
    rows = []
    for row in outcomes:
        trees = [outcome.search.tree for outcome in row]
        answers = [None if o.choice is None else o.choice.answer for o in row]
        hits = [a is not None and right(tree.question, a) for a, tree in zip(answers, trees, strict=True)]
        spent = [(t.usage.generated_tokens, t.usage.verifier_passes, t.usage.verifier_tokens) for t in trees]
        rows.append([[float(hit), *map(float, costs)] for hit, costs in zip(hits, spent, strict=True)])
    return Point(name, *np.mean(rows, axis=0).T)


__all__ = ["Judged", "Labels", "Right", "searched"]
