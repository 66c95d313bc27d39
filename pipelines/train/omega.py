"""OmegaPRM's search for the first wrong step (arXiv 2406.06592): where MC, the share of right completions, falls to 0.

Along a wrong solution the first beginning with MC = 0 is found by halving, O(log steps) estimates where Math-Shepherd takes
one a step. It assumes that MC once 0 stays 0, and with few completions a 0 may be chance. The beginnings that were estimated
are kept as states with their completions; the wrong completion to search next is the one with the highest Q + U.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

from pipelines.train.rollouts import Drawn, Steps, ended

ALPHA, BETA, LONGEST, C_PUCT = 0.5, 0.9, 500, 0.125  # the authors'


def quality(mc: float, length: int) -> float:
    """Q: high where a wrong completion is of a good beginning, and short. MC .5 and 250 tokens give .6708."""
    return float(ALPHA ** (1 - mc) * BETA ** (length / LONGEST))


def bonus(visits: int, total: int) -> float:
    """U: high for states seldom searched; `visits` of this one, `total` of all."""
    return C_PUCT * math.sqrt(total) / (1 + visits)


@dataclass(slots=True)
class State:
    """A beginning of a solution with its completions."""

    steps: Steps
    drawn: Drawn
    visits: int = 0
    searched: set[int] = field(default_factory=set)  # completions, by index


Found = tuple[Steps, int | None]  # a wrong solution, and the index of its first step with MC = 0
Halving = Generator[int, Drawn, int]


def first_zero(count: int) -> Halving:
    """Asks for the completions after the first n steps, n yielded, of a solution of `count` steps that ends wrong; returns the
    index from 0 of the first step after which none is right. The last step is known to be such, and is not asked for."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        drawn = yield middle
        low, high = (middle, high) if drawn.any else (low, middle)
    return high - 1


@dataclass(slots=True)
class Tree:
    """The states of one problem. The root's completions are the solutions that are to be labelled."""

    root: Drawn
    grown: bool = False  # search completions of later states too, not the root's alone
    states: dict[Steps, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states[()] = State((), self.root)

    def select(self) -> tuple[State, int] | None:
        """The state and wrong completion with the highest Q + U, earlier ones first among equals; None where all are searched.

        States of MC 0 or 1 have nothing to tell. The root is searched all the same when its completions are what is to be
        labelled: all of them may be wrong.
        """
        total = sum(state.visits for state in self.states.values())
        best: tuple[float, State, int] | None = None
        for state in self.states.values():
            if state.steps and not (self.grown and 0 < state.drawn.mc < 1):
                continue
            for i in range(len(state.drawn.right)):
                if state.drawn.right[i] or i in state.searched or not state.drawn.steps[i]:
                    continue
                value = quality(state.drawn.mc, state.drawn.tokens[i]) + bonus(state.visits, total)
                if best is None or value > best[0]:
                    best = value, state, i
        return None if best is None else best[1:]

    def search(self, searches: int) -> Generator[Steps, Drawn, list[Found]]:
        """Up to `searches` searches, asking for the completions of a beginning by its steps, each beginning once."""
        found: list[Found] = []
        while len(found) < searches and (chosen := self.select()) is not None:
            state, i = chosen
            state.visits += 1
            state.searched.add(i)
            whole = state.steps + state.drawn.steps[i]
            found.append((whole, (yield from self._along(whole))))
        return found

    def _along(self, whole: Steps) -> Generator[Steps, Drawn, int]:
        halving = first_zero(len(whole))
        try:
            asked = next(halving)
            while True:
                steps = whole[:asked]
                if steps not in self.states:
                    self.states[steps] = State(steps, _nothing() if ended(steps) else (yield steps))
                asked = halving.send(self.states[steps].drawn)
        except StopIteration as stop:
            return int(stop.value)


def _nothing() -> Drawn:
    """A beginning that already gives an answer, and goes on to another: nothing is to be drawn from it."""
    return Drawn(((),), (False,), (0,))


def labels(whole: Steps, first: int) -> tuple[float | None, ...]:
    """1 before the first step with MC = 0, 0 there, none after."""
    return tuple(1.0 if i < first else 0.0 if i == first else None for i in range(len(whole)))


__all__ = ["Tree", "bonus", "first_zero", "labels", "quality"]
