"""What the strategies that stop once the answers agree have in common: reading the answers, and sampling in portions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Step, Until


def reader(tree: Tree) -> Callable[[Sequence[Step]], list[str | None]]:
    """The answers of whole solutions that have ended, for a rule that is asked again with each that ends."""
    known: dict[str, str | None] = {}

    def read(steps: Sequence[Step]) -> list[str | None]:
        for step in steps:
            if step.text not in known:
                known[step.text] = tree.extract(step.text).key
        return [known[step.text] for step in steps]

    return read


def top_two(answers: Iterable[str | None]) -> tuple[int, int]:
    """How many gave the most frequent answer, and the next; what has no answer votes for none."""
    counts = sorted(Counter(answer for answer in answers if answer is not None).values(), reverse=True)
    most, second, *_ = (*counts, 0, 0)
    return most, second


def in_portions(tree: Tree, n: int, size: int, enough: Callable[[Sequence[str | None]], bool]) -> Ask[list[Candidate]]:
    """Whole solutions, `size` at a time and n at most, until their answers (all so far, in order) are enough or the budget
    is spent. The last portion may be smaller."""
    sampled: list[Candidate] = []
    while len(sampled) < n:
        fresh = yield from tree.extend([ROOT], n=min(size, n - len(sampled)), until=Until.END)
        sampled += fresh
        if not fresh or enough([tree.answer(c.path).key for c in sampled]):
            break
    return sampled


__all__ = ["in_portions", "reader", "top_two"]
