"""Diverse verifier tree search (Hugging Face's search-and-learn): n/width subtrees that know nothing of each other, each of
which greedily keeps the best of `width` next steps.

A beam may end with all its survivors from one first step; here every subtree keeps its own. Mended against the published
script: a cut step is not a finished solution, every token is charged, searches are told apart by their problem and not by
the text of its prompt, and what has not finished is not among the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search.checks import at_least_zero, positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, State, Until

from .beam import ranked, taken_back
from .growing import judged


@dataclass(frozen=True)
class DVTS:
    """n/width independent subtrees, each going on with the best of `width` steps; the last siblings are chosen among.

    Cost: at most n solutions; one verifier pass a step of each candidate.
    """

    n: int = 8
    width: int = 4  # samples of a subtree's next step; 1: n independent solutions
    depth: int = 40
    lookahead: int = 0  # greedy steps after which an open candidate is scored
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        positive(n=self.n, width=self.width, depth=self.depth)
        at_least_zero(lookahead=self.lookahead)
        if self.n % self.width:
            raise ValueError(f"n must be a multiple of width, not n={self.n} with width={self.width}")

    def search(self, tree: Tree) -> Ask[Choice]:
        done: list[Candidate] = []
        spare: list[Candidate] = []  # finished siblings of a step that a subtree went on from
        children = yield from tree.extend([ROOT], n=self.n, until=Until.STEP)
        for depth in range(1, self.depth + 1):
            families = yield from (self._first(tree, children) if depth == 1 else self._next(tree, children))
            last = depth == self.depth or tree.spent or tree.unjudged
            survivors = []
            for best, *others in families:
                finished = [c for c in (best, *others) if c.finished]
                ends = best.finished or last
                tree.mark((c for c in others if c.open or not ends), State.PRUNED, "not the best of its subtree")
                (done if ends else spare).extend(finished)
                survivors += [best] if best.open else []
            if not survivors or last:
                break
            children = yield from tree.extend(survivors, n=self.width, until=Until.STEP)
        return self.select(entries(tree, done or taken_back(tree, spare)))

    def _first(self, tree: Tree, children: Sequence[Candidate]) -> Ask[list[list[Candidate]]]:
        """The first steps of each subtree, best first. They are all siblings, and equal ones are merged within a subtree
        only: two subtrees may begin alike and be independent all the same."""
        groups: list[Sequence[Candidate]] = [children[i : i + self.width] for i in range(0, len(children), self.width)]
        if not self.lookahead:  # one request for all
            groups = [tree.distinct(c for c in group if c.open or c.finished) for group in groups]
            yield from tree.verify(c for group in groups for c in group)
        families = []
        for group in groups:
            families.append(ranked(tree, (yield from judged(tree, group, self.lookahead))))
        return [family for family in families if family]

    def _next(self, tree: Tree, children: Iterable[Candidate]) -> Ask[list[list[Candidate]]]:
        """The next steps of each subtree, best first."""
        families: dict[Path, list[Candidate]] = {}
        for candidate in ranked(tree, (yield from judged(tree, children, self.lookahead))):
            families.setdefault(tree.head(candidate.parent), []).append(candidate)
        return list(families.values())
