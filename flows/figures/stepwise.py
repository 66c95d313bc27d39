"""Solutions as a verifier reads them, step by step, against exact labels of their steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.figures.models import paired_auc
from pipelines.models import load_generator
from pipelines.problems import FAMILIES
from pipelines.problems.instance import Split
from pipelines.train.measures import auc
from pipelines.train.rollouts import ANSWER
from pipelines.train.samples import Solution, problems, sampled
from search.select import Entry, Selector
from search.types import SEPARATOR, Finish, Question, Step, Trace, Verifier
from store.stats import interval, resampled_means
from verifiers.extract import extractor_for

FAMILY = ("word", "countdown")


@dataclass(frozen=True, slots=True)
class Judged:
    """Solutions of held-out problems as one verifier reads them."""

    solutions: Sequence[Solution]
    values: Sequence[tuple[float, ...]]  # of each solution's steps
    labels: Sequence[Sequence[bool]]  # exact

    def first_wrong(self) -> list[int | None]:
        return [row.index(False) if False in row else None for row in map(list, self.labels)]

    def of(self, family: str) -> Judged:
        kept = [i for i, s in enumerate(self.solutions) if s.instance.family == family]
        return Judged([self.solutions[i] for i in kept], [self.values[i] for i in kept], [self.labels[i] for i in kept])


def pool(generator: str, split: Split, count: int, each: int, seed: int) -> list[Solution]:
    """`count` problems a family, `each` solutions of every one."""
    asked = problems(dict.fromkeys(FAMILY, 0.5), count * len(FAMILY), seed, split)
    return sampled(load_generator(generator), asked, each, seed)


def traced(solution: Solution) -> Trace:
    """A solution as a verifier sees it: its texts, without the generator's own statistics."""
    none, ids = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32)
    ends = [SEPARATOR] * (len(solution.steps) - 1) + [""]
    steps = [
        Step(ids, text + end, none, none, none, Finish.STEP if end else Finish.END)
        for text, end in zip(solution.steps, ends, strict=True)
    ]
    return Trace(Question(solution.instance.key, solution.instance.question, ()), tuple(steps))


def judged(verifier: Verifier, solutions: Sequence[Solution]) -> Judged:
    readings = verifier.score([traced(s) for s in solutions])
    labels = [FAMILIES[s.instance.family].label(s.instance, s.steps) for s in solutions]
    for solution, reading in zip(solutions, readings, strict=True):
        if len(reading.parts) != len(solution.steps):
            raise ValueError(f"{len(reading.parts)} values for {len(solution.steps)} steps: {reading.reason or 'misread'}")
    return Judged(solutions, [tuple(r.parts) for r in readings], labels)


def aucs(found: Judged) -> tuple[float, float]:
    """(within one problem at one place, pooled)."""
    groups: dict[tuple[str, int], tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    for solution, values, labels in zip(found.solutions, found.values, found.labels, strict=True):
        for at, label in enumerate(labels):
            groups[solution.instance.key, at][0].append(min(values[: at + 1]))
            groups[solution.instance.key, at][1].append(int(label))
            if not label:
                break
    scores = [s for g in groups.values() for s in g[0]]
    return paired_auc(list(groups.values())), auc(scores, [y for g in groups.values() for y in g[1]])


def gain(found: Judged) -> tuple[float, float, float]:
    """Accuracy of the model's best less that of the majority, of each problem's solutions, with its 95% interval."""
    groups: dict[str, list[tuple[Solution, tuple[float, ...]]]] = defaultdict(list)
    for solution, values in zip(found.solutions, found.values, strict=True):
        groups[solution.instance.key].append((solution, values))
    differences = []
    for rows in groups.values():
        instance = rows[0][0].instance
        extract = extractor_for({"family": instance.family})
        entries = [
            Entry(str(i), extract(s.steps[-1]).key if ANSWER.search(s.steps[-1]) else None, s.tokens, parts=v, value=min(v))
            for i, (s, v) in enumerate(rows)
        ]
        chosen = [Selector(name)(entries).answer for name in ("best", "majority")]
        best, most = (a is not None and FAMILIES[instance.family].check(instance.answer, a) for a in chosen)
        differences.append(float(best) - float(most))
    low, high = interval(resampled_means(np.array(differences)[:, None], 2000)[:, 0])
    return float(np.mean(differences)), low, high


__all__ = ["FAMILY", "Judged", "aucs", "gain", "judged", "pool", "traced"]
