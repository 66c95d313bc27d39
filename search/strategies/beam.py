"""Step-level beam search under a verifier: the PRM-guided tree of "scaling test-time compute" (arXiv 2408.03314).

Each round the open survivors share n next steps, all are scored, and the best `keep` survive. A finished
solution competes for a place and keeps it once won. Known defects of public versions are mended: a step cut by the
token limit is not a finished solution, no empty step is scored, the values of a lookahead are used, and too few survivors
are not padded by copies of one text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from search.checks import at_least_zero, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, State, Until, order

from .growing import judged


def shares(n: int, among: int) -> list[int]:
    """n in `among` parts as equal as can be, the larger first; at least 1 each."""
    return [max(n // among + (i < n % among), 1) for i in range(among)]


def ranked(tree: Tree, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Judged candidates, best first; of equal values the earlier path first."""
    return sorted(candidates, key=lambda c: (-(tree.value(c.path) or 0.0), order(c.path)))


def taken_back(tree: Tree, spare: list[Candidate]) -> list[Candidate]:
    """Solutions that had lost their place, where nothing better came: they are to be chosen among all the same."""
    tree.mark(spare, State.FINISHED, "taken back, for no survivor finished")
    return spare


@dataclass(frozen=True)
class Beam:
    """n candidates a round, `keep` survivors. Cost: about n solutions; one verifier pass a step of each candidate."""

    n: int = 8
    keep: int = 4
    depth: int = 40
    lookahead: int = 0  # greedy steps after which an open candidate is scored
    select: Selector = Selector("best")

    later: ClassVar = ("lookahead",)  # parameters of the second version

    def __post_init__(self) -> None:
        positive(n=self.n, keep=self.keep, depth=self.depth)
        at_least_zero(lookahead=self.lookahead)
        if self.n % self.keep:
            raise ValueError(f"n must be a multiple of keep, not n={self.n} with keep={self.keep}")

    def search(self, tree: Tree) -> Ask[Choice]:
        done: list[Candidate] = []
        spare: list[Candidate] = []  # finished, but below the beam: better than nothing where no survivor finishes
        children = yield from tree.extend([ROOT], n=self.n, until=Until.STEP)
        for depth in range(1, self.depth + 1):
            alive = ranked(tree, (yield from judged(tree, children, self.lookahead)))
            places = self.keep - len(done)
            tree.mark(alive[places:], State.PRUNED, "below the beam")
            spare += [c for c in alive[places:] if c.finished]
            done += [c for c in alive[:places] if c.finished]
            survivors = [c for c in alive[:places] if c.open]
            if not survivors or depth == self.depth or tree.spent or tree.unjudged:
                break
            children = yield from tree.extend(survivors, n=shares(self.n, len(survivors)), until=Until.STEP)
        return self.select(entries(tree, done or taken_back(tree, spare)))
