"""In-context novelty: each solution is asked for with the earlier ones in sight, as one that is different."""

from __future__ import annotations

from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Until

from .asking import ANSWER, filled, numbered

AGAIN = """{problem}

It has been solved in these ways, not all of them right:

{shown}

Solve it in a different way, unlike all of these. {answer}"""


@dataclass(frozen=True)
class ICN:
    """n solutions one after another, the first of the problem alone, each further one shown the `keep` before it.

    room: tokens that what is shown may have in the prompt, in equal shares; of a longer solution its end is shown.
    The samples are not independent: a majority of them is no estimate of the model's most probable answer.
    Cost: n solutions in sequence, and prompts that are longer by what is shown.
    """

    n: int = 8
    keep: int = 4
    room: int = 512
    answer: str = ANSWER  # how the prompt asks for the answer
    select: Selector = Selector("majority")

    def __post_init__(self) -> None:
        positive(n=self.n, keep=self.keep, room=self.room)

    def search(self, tree: Tree) -> Ask[Choice]:
        pool: list[Candidate] = []
        while len(pool) < self.n:
            made = yield from tree.extend([ROOT], until=Until.END, prompt=self._prompt(tree, pool))
            if not made:
                break
            pool += made
        if self.select.needs_verifier:
            yield from tree.verify(c for c in pool if c.finished)
        return self.select(entries(tree, pool))

    def _prompt(self, tree: Tree, pool: list[Candidate]) -> str | None:
        """None, the problem alone, where nothing has been solved yet."""
        shown = [c.path for c in pool if c.finished][-self.keep :]
        if not shown:
            return None
        return filled(AGAIN, problem=tree.question.text, shown=numbered(tree, shown, self.room), answer=self.answer)
