"""Early-stopping self-consistency, ESC: sample in windows and stop at the first that is of one mind (arXiv 2401.10480)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import Ask, Choice

from .stopping import in_portions


@dataclass(frozen=True)
class EarlyStopping:
    """Majority of all that was sampled: windows of `window` solutions until all of one window give one answer, n at most.

    A solution without an answer agrees with nobody. Cost: from `window` solutions to n; sequential tokens of one solution a
    window.
    """

    n: int = 40
    window: int = 5

    def __post_init__(self) -> None:
        positive(n=self.n, window=self.window)

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from in_portions(tree, self.n, self.window, self.unanimous)
        return Selector("majority")(entries(tree, answers))

    def unanimous(self, answers: Sequence[str | None]) -> bool:
        """Whether the newest window is of one mind. The last may be smaller, and then it ends here anyway."""
        newest = answers[-self.window :]
        return newest[0] is not None and len(set(newest)) == 1
