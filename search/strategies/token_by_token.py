"""Searches over single tokens: each candidate is one token, and says what the next one may be (Step.ahead)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from search.rules import Pause, Rules
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Candidate, Until

Token = tuple[Candidate, int]  # the candidate to go on from, and the token to go on with


def first(tree: Tree, peek: int, gumbel: bool = False) -> Ask[Candidate | None]:
    """The empty candidate at the end of the prompt, which says what the first token may be; None where the budget forbids."""
    rules = Rules(pause=Pause(peek=peek, gumbel=gumbel))
    made = yield from tree.extend([ROOT], until=Until.END, sampling=GREEDY, rules=rules)
    return made[0] if made and made[0].step.ahead is not None else None


def written(tree: Tree, tokens: Sequence[Token], peek: int, gumbel: bool = False) -> Ask[list[Candidate]]:
    """One candidate for each token, all in one request; fewer where the budget or the token limit cuts them short."""
    rules = Rules(pause=Pause(peek=peek, gumbel=gumbel))
    parents: dict[str, list[int]] = {}
    for parent, token in tokens:
        parents.setdefault(parent.path, []).append(token)
    begins = [(token,) for each in parents.values() for token in each]
    counts = [len(each) for each in parents.values()]
    made = yield from tree.extend(list(parents), counts, until=Until.END, sampling=GREEDY, rules=rules, begins=begins)
    # the rows came in the order of their parents
    found = {(c.parent, int(c.step.tokens[0])): c for c in made if len(c.step)}
    return [found[parent.path, token] for parent, token in tokens if (parent.path, token) in found]


def going_on(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that say what may follow."""
    return [c for c in candidates if c.step.ahead is not None]
