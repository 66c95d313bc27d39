"""Problem sets drawn from the synthetic families: distinct, of one split, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from search.checks import one_of, positive
from search.types import Problem

from . import FAMILIES
from .instance import Split, instances

STALE = 5000  # draws in a row that bring nothing new: then the levels asked for are exhausted


def synthetic(
    family: str, split: str = "test", count: int = 100, seed: int = 0, levels: Sequence[int] | None = None
) -> list[Problem]:
    """`count` distinct problems of a family's split, levels in turn; a smaller count is the beginning of the same list.

    ValueError for an unknown family, split or level, a count below 1, or more than there are.
    """
    one_of("family", family, FAMILIES)
    one_of("split", split, get_args(Split))
    positive(count=count)
    chosen = tuple(levels) if levels is not None else FAMILIES[family].levels
    _known_levels(family, chosen)
    problems: list[Problem] = []
    seen: set[str] = set()
    stale = 0
    for instance in instances(FAMILIES[family], _split(split), seed, chosen):
        if instance.key in seen:
            stale += 1
            if stale > STALE:
                raise ValueError(f"count {count} is too many: {family} {split} gave {len(problems)} distinct problems")
            continue
        stale = 0
        seen.add(instance.key)
        name = f"{family}-{split}-{seed}-{len(problems)}"
        meta = {"family": family, "level": instance.level}
        problems.append(Problem(name, instance.question, instance.answer, f"synthetic/{family}", meta))
        if len(problems) == count:
            break
    return problems


def _split(name: str) -> Split:
    found: dict[str, Split] = {split: split for split in get_args(Split)}
    return found[name]


def _known_levels(family: str, levels: Sequence[int]) -> None:
    known = FAMILIES[family].levels
    if not levels:
        raise ValueError(f"levels of {family} must not be empty ({known[0]} to {known[-1]})")
    for level in levels:
        if level not in known:
            raise ValueError(f"unknown level {level} of {family} ({known[0]} to {known[-1]})")


__all__ = ["synthetic"]
