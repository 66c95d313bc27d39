"""Searches by a script: each path has its text and its reward."""

from __future__ import annotations

from collections.abc import Mapping

from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, scripted
from laws import World

from search.strategies import Strategy
from search.tree import Tree
from search.types import Budget, Choice, Path, Trace, lineage


def word(mark: int) -> list[int]:
    return [GOOD + mark, SEPARATOR]


def ends(digit: int) -> list[int]:
    return [DIGIT + digit, END]


def searched(
    strategy: Strategy, texts: Mapping[Path, list[int]], rewards: Mapping[Path, float], budget: Budget = Budget()
) -> tuple[Tree, Choice, list[tuple[Path, ...]]]:
    """A search, and the paths of each request in order."""
    of = {tuple(tuple(texts[p]) for p in lineage(path)): reward for path, reward in rewards.items()}

    def judge(trace: Trace) -> tuple[float, ...]:
        return (of[tuple(tuple(step.tokens.tolist()) for step in trace.steps)],)

    ran = World(lambda **_: FakeGenerator(scripted(texts)), judge=judge, names=("q",), budget=budget).run(strategy)
    [(tree, choice)] = ran.choices()
    return tree, choice, [tuple(row.path for row in request.rows) for _, request in ran.generator.asked]
