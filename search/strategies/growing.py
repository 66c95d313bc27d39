"""What all step-level trees do with new steps: merge the equal ones, judge them, and look ahead where asked to."""

from __future__ import annotations

from collections.abc import Iterable

from search.tree import Tree
from search.types import GREEDY, Ask, Candidate, Path, State, Until


def judged(tree: Tree, children: Iterable[Candidate], lookahead: int = 0) -> Ask[list[Candidate]]:
    """The children to go on with: those that are not cut, equal ones merged, each with a value (`tree.value`). One without
    a value is pruned.

    With `lookahead`, an open child's value is that of what greedy decoding makes of it in that many further steps, scored
    where it ends: the rollout is charged and marked as pruned, and the child itself is not scored (arXiv 2408.03314; the
    reference generates the steps and scores the text without them).
    """
    fresh = yield from tree.merged(c for c in children if c.open or c.finished)
    ends = (yield from _rolled(tree, fresh, lookahead)) if lookahead else {}
    yield from tree.verify([ends.get(c.path, c) for c in fresh])
    kept = []
    for child in fresh:
        end = ends.get(child.path)
        if end is not None:
            value = tree.scores[end.path].value
            if value is not None:
                tree.values[child.path] = value
        if tree.value(child.path) is None:
            scored = tree.scores[child.path if end is None else end.path]
            tree.mark([child], State.PRUNED, scored.reason)
        else:
            kept.append(child)
    return kept


def _rolled(tree: Tree, children: Iterable[Candidate], steps: int) -> Ask[dict[Path, Candidate]]:
    """For each open child the end of its rollout; a rollout that is cut ends at the last whole step."""
    ends = {c.path: c for c in children if c.open}
    ahead = dict(ends)
    rollouts: list[Candidate] = []
    for _ in range(steps):
        if not ahead:
            break
        grown = yield from tree.extend(ahead.values(), until=Until.STEP, sampling=GREEDY)
        rollouts += grown
        origin = {end.path: child for child, end in ahead.items()}
        ahead = {}
        for candidate in grown:
            if candidate.open or candidate.finished:
                ends[origin[candidate.parent]] = candidate
            if candidate.open:
                ahead[origin[candidate.parent]] = candidate
    tree.mark(rollouts, State.PRUNED, "lookahead")  # only now: what is dropped is not gone on from
    return {child: end for child, end in ends.items() if end.path != child}


__all__ = ["judged"]
