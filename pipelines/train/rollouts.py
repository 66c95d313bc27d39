"""Completions of beginnings of solutions, and what Math-Shepherd (arXiv 2312.08935) reads from them.

A step's worth is estimated by going on from it N times and counting the completions that reach the reference answer. The
completions of a beginning are a function of the problem and its text, never of who asks: what was drawn once is given again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.models import TextModel
from pipelines.problems import FAMILIES, Instance
from search.types import SEPARATOR, Extend, Extension, Row, Sampling, Until, child_of, seed_of

ANSWER = re.compile(r"\\boxed\{([^{}]*)\}")
LIMIT = 384  # tokens of one completion
Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Completions of one beginning, each its steps, whether it reaches the reference answer, and its tokens."""

    steps: tuple[Steps, ...]
    right: tuple[bool, ...]
    tokens: tuple[int, ...]

    @property
    def mc(self) -> float:
        """The share that is right: the Monte-Carlo estimate of the beginning's worth."""
        return sum(self.right) / len(self.right)

    @property
    def any(self) -> bool:
        return any(self.right)


class Source(Protocol):
    """Where completions come from."""

    def draw(self, wanted: Sequence[tuple[Instance, Steps]]) -> list[Drawn]:
        """The completions of each beginning, in order."""


@dataclass(slots=True)
class Rollouts:
    """Completions drawn by a generator, `each` a beginning, batched on its engine."""

    model: TextModel
    each: int = 8
    seed: int = 0
    known: dict[tuple[str, Steps], Drawn] = field(default_factory=dict)

    def draw(self, wanted: Sequence[tuple[Instance, Steps]]) -> list[Drawn]:
        new = {(i.key, steps): (i, steps) for i, steps in wanted if (i.key, steps) not in self.known}
        asked = list(new.values())
        engine = self.model.engine
        for key, (instance, steps) in enumerate(asked):
            prefix = self._prefix(instance, steps)
            name = f"{instance.key}|{SEPARATOR.join(steps)}"
            rows = tuple(Row(p, seed_of(self.seed, name, p), prefix, LIMIT) for p in _paths(self.each))
            engine.submit(key, Extend(rows, Until.END, Sampling()))
        while engine.busy:
            for key, reply in engine.advance():
                if isinstance(reply, Exception):
                    raise reply
                engine.forget(key)
                instance, steps = asked[key]
                self.known[instance.key, steps] = _graded(instance, reply)
        return [self.known[i.key, steps] for i, steps in wanted]

    def _prefix(self, instance: Instance, steps: Steps) -> tuple[int, ...]:
        end = self.model.plainly(SEPARATOR)
        return sum(((*self.model.plainly(step), *end) for step in steps), self.model.encode(instance.question))


def _paths(count: int) -> list[str]:
    return [child_of("", i) for i in range(count)]


def _graded(instance: Instance, reply: Extension) -> Drawn:
    steps = tuple(pieces(step.text) for step in reply.steps)
    return Drawn(steps, tuple(right(instance, each) for each in steps), tuple(len(step) for step in reply.steps))


def pieces(text: str) -> Steps:
    """The steps of a text without their separators."""
    return tuple(step for step in text.split(SEPARATOR) if step)


def right(instance: Instance, steps: Sequence[str]) -> bool:
    """Whether a solution ends with the reference answer: that of its last step, if it gives one."""
    found = ANSWER.findall(steps[-1]) if steps else []
    return bool(found) and FAMILIES[instance.family].check(instance.answer, found[-1])


def ended(steps: Sequence[str]) -> bool:
    """Whether the last step gives an answer: nothing can be drawn from there."""
    return bool(steps) and bool(ANSWER.search(steps[-1]))


def shepherd(drawn: Sequence[Drawn], outcome: bool, soft: bool) -> tuple[float, ...]:
    """Labels of a solution's steps from the completions of all its beginnings but the whole; the last label is the outcome.

    Hard: 1 where any completion is right; soft: the share. Completions 1, 0, 0, 0, 0, 0, 0, 0 give 1 and .125.
    """
    return (*(each.mc if soft else float(each.any) for each in drawn), float(outcome))


__all__ = ["Drawn", "Rollouts", "Source", "Steps", "ended", "pieces", "right", "shepherd"]
