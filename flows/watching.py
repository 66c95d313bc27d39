"""How far a run is, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from search.tree import Tree

TURN = 0.5  # seconds between two looks at how far the problems under way are


@dataclass(slots=True)
class Progress:
    """How far a run is. `tokens` are generated tokens."""

    total: int
    done: int = 0
    before: int = 0  # of those done: by an earlier shard or process
    right: int = 0
    failed: int = 0
    tokens: int = 0
    under_way: int = 0  # tokens of problems that are not done
    spent: float = 0.0  # sum over those done here of the share of their budget
    bounded: int = 0  # of those done here: with a budget
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        return (self.tokens + self.under_way) / max(self.seconds, 1e-9)

    @property
    def budget(self) -> float | None:
        """What the problems done here have used of their budget, by the bound that each came nearest to; None without one."""
        return self.spent / self.bounded if self.bounded else None

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before the first problem is done."""
        solved = self.done - self.before
        return self.seconds / solved * (self.total - self.done) if solved else None


Sayer = Callable[[str], None]
Watcher = Callable[[Progress], None]


def nobody(progress: Progress) -> None:
    pass


def nothing() -> None:
    pass


def unsaid(line: str) -> None:
    pass


def turns(
    touch: Callable[[], None], pulse: Callable[[], None], trees: dict[int, Tree], progress: Progress, watch: Watcher
) -> Callable[[], None]:
    """What happens at every turn of the searches; now and then, whoever watches is told how far they are."""
    last = time.monotonic()

    def turn() -> None:
        nonlocal last
        touch()
        pulse()
        if (now := time.monotonic()) - last >= TURN:
            last = now
            progress.under_way = sum(tree.usage.generated_tokens for tree in trees.values())
            watch(progress)

    return turn


def used(tree: Tree) -> float | None:
    """The share of its budget that a search has used, by the bound it came nearest to; None without a budget."""
    bounds, usage = tree.budget, tree.usage
    pairs = (
        (usage.generated_tokens, bounds.tokens),
        (usage.verifier_passes, bounds.passes),
        (usage.candidates, bounds.candidates),
        (usage.flops, bounds.flops),
        (usage.seconds, bounds.seconds),
    )
    return max((spent / bound for spent, bound in pairs if bound is not None), default=None)


__all__ = ["Progress", "Sayer", "Watcher", "nobody", "nothing", "turns", "unsaid", "used"]
