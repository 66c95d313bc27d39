"""The solutions of one problem as a tree of steps: what begins alike is one branch, whichever candidates and runs it is of.

A step is a piece of text (`search.types.pieces_of`), so a solution that was generated in one go has steps too. What a step
is worth is estimated from the whole solutions below it, as Math-Shepherd does from completions (arXiv 2312.08935): hard,
whether any of them is right; soft, the share of them that is.

These solutions are those that a search made, and not completions drawn for the purpose. Of best-of-n they are drawn alike, and
the share is an unbiased estimate, of few. A search that prunes goes on below steps that its verifier liked: there the share is
of what the verifier let live, mostly above what plain sampling would give; a step whose right continuations were pruned has a
wrong label; a step that was pruned itself has none. So labels from pruned trees repeat some of that verifier's opinion. A
solution that a budget or a stop rule cut counts for nothing; one that reached its own length is wrong.

What answers a prompt of a strategy's own (which of two solutions is better, what is the plan) is in no tree: whether it is
right as an answer to the problem says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from search.types import Path, State, parent_of, pieces_of
from store.imported import is_imported

from .attempts import Attempt
from .judging import Judge, ended

Steps = tuple[str, ...]


@dataclass(slots=True)
class Branch:
    """A step with what is below it."""

    right: int = 0  # whole solutions through it
    wrong: int = 0
    cut: int = 0  # candidates through it that the search gave up, pruned or cut
    below: dict[str, Branch] = field(default_factory=dict)

    @property
    def solutions(self) -> int:
        return self.right + self.wrong

    @property
    def share(self) -> float:
        """Of the solutions through it, those that are right; in [0, 1]."""
        return self.right / self.solutions


@dataclass(frozen=True, slots=True)
class Node:
    """A branch with the way to it. It is linked and not spelt out: one text may have some 100,000 steps."""

    branch: Branch
    step: str = ""  # of the root
    before: Node | None = None  # None: the root

    def line(self) -> list[Node]:
        """The nodes from the first step to this one."""
        found: list[Node] = []
        node = self
        while node.before is not None:
            found.append(node)
            node = node.before
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Whole:
    """One judged solution."""

    attempt: Attempt
    path: Path
    right: bool
    shared: list[Attempt] = field(default_factory=list)  # of other runs that have the same sample, at the same path


@dataclass(slots=True)
class Grown:
    """A problem's branches."""

    question: str
    root: Branch = field(default_factory=Branch)
    wholes: list[Whole] = field(default_factory=list)
    undecided: int = 0  # whole solutions of which nobody knows whether they are right
    shared: int = 0  # that a run has from another
    others: int = 0  # texts that answer a prompt of a strategy's own


def grown(attempts: Sequence[Attempt], judge: Judge) -> Grown:
    """The tree of one problem. A sample that several runs have (the same seed, path and steps) counts once; of runs that were
    imported neither generator nor seed is known, so each has its own."""
    trees = Grown(attempts[0].problem.prompt)
    seen: dict[tuple[object, ...], Whole | None] = {}  # None: undecided, or cut
    for attempt in attempts:
        verdicts, spec = judge(attempt), attempt.run.spec
        drawn_by = attempt.run.id if is_imported(spec) else str(spec.generator)
        for path in attempt.wholes:
            if attempt.own_prompt(path) is not None:
                trees.others += 1
                continue
            steps = steps_of(attempt, path)
            key = (drawn_by, attempt.row["seed"], path, steps)
            if not steps:
                continue
            if key in seen:
                trees.shared += 1
                if first := seen[key]:
                    first.shared.append(attempt)
                continue
            right = verdicts.get(path) if ended(attempt, path) else None
            trees.undecided += ended(attempt, path) and right is None
            _add(trees.root, steps, right)
            seen[key] = None if right is None else Whole(attempt, path, right)
            if whole := seen[key]:
                trees.wholes.append(whole)
        for path in _given_up(attempt):
            _add(trees.root, steps_of(attempt, path), None)
    return trees


def steps_of(attempt: Attempt, path: Path) -> Steps:
    """The steps of a partial or whole solution, without separators."""
    return tuple(piece for node in attempt.steps(path) for piece in pieces_of(node.text))


def _given_up(attempt: Attempt) -> Iterator[Path]:
    """The ends of what a search did not go on with, and that are no whole solutions."""
    continued, wholes = {parent_of(path) for path in attempt.nodes}, set(attempt.wholes)
    for path, node in attempt.nodes.items():
        ended = path in continued or path in wholes or node.state == State.FINISHED
        if not ended and attempt.own_prompt(path) is None:
            yield path


def _add(root: Branch, steps: Sequence[str], right: bool | None) -> None:
    """None: cut."""
    for branch in _along(root, steps):
        branch.right += right is True
        branch.wrong += right is False
        branch.cut += right is None


def _along(root: Branch, steps: Sequence[str]) -> Iterator[Branch]:
    yield root
    for step in steps:
        root = root.below.setdefault(step, Branch())
        yield root


def longest(root: Branch, least: int) -> Iterator[tuple[Steps, list[Branch]]]:
    """The longest beginnings whose every step has at least `least` solutions below it, with the branches of their steps; in the
    order in which they were made. (With `least=1`: the solutions, equal ones once.)"""
    stack = [Node(root)]
    while stack:
        node = stack.pop()
        below = [(step, branch) for step, branch in node.branch.below.items() if branch.solutions >= least]
        # a shorter solution that others go on from is one too
        ends = node.branch.solutions - sum(branch.solutions for _, branch in below)
        if node.before is not None and (not below or (least == 1 and ends)):
            line = node.line()
            yield tuple(each.step for each in line), [each.branch for each in line]
        stack += [Node(branch, step, node) for step, branch in reversed(below)]


def nodes(root: Branch) -> Iterator[Node]:
    """Every branch, the root first."""
    stack = [Node(root)]
    while stack:
        node = stack.pop()
        yield node
        stack += [Node(branch, step, node) for step, branch in reversed(node.branch.below.items())]


__all__ = ["Branch", "Grown", "Node", "grown", "longest", "nodes"]
