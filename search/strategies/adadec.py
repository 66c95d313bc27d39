"""Greedy decoding that looks ahead where it is unsure: AdaDec (arXiv 2506.08980), after its released code.

Where the entropy of the next token is above a threshold, each of the `branch` likeliest tokens is followed greedily for `ahead`
tokens, and the one with the highest (ln p(token) + sum of ln p of what follows) / (tokens that follow + 1) is taken. What
followed is dropped: the text goes on from that token. The authors learn a threshold for each model by a logistic regression of
"the right token is the likeliest" on the entropy (0.6 to 1.3 nats for models of 0.6B to 8B); here it is a parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.checks import positive
from search.rules import Pause, Rules
from search.select import Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Candidate, Choice, State, Until, order


def merit(candidate: Candidate) -> float:
    """Mean ln p of a token and what greedy decoding makes of it, nats; higher = better."""
    return candidate.step.logprob / max(len(candidate.step), 1)


@dataclass(frozen=True)
class AdaDec:
    """One solution. Cost: its tokens, and branch * (ahead + 1) more at each token whose entropy is above the threshold."""

    threshold: float = 1.0  # nats
    branch: int = 3
    ahead: int = 5

    def __post_init__(self) -> None:
        positive(branch=self.branch, ahead=self.ahead)
        if math.isnan(self.threshold) or self.threshold < 0:
            raise ValueError(f"threshold must be at least 0 nats, not {self.threshold}")

    def search(self, tree: Tree) -> Ask[Choice]:
        rules = Rules(pause=Pause(above=self.threshold, peek=self.branch))
        parent = ROOT
        begins: list[tuple[int, ...]] = []
        written: tuple[Candidate, ...] = ()
        while True:
            written = yield from tree.extend([parent], until=Until.END, sampling=GREEDY, rules=rules, begins=begins)
            if not written or written[0].step.ahead is None:
                break
            parent = written[0].path
            likely = [(int(token),) for token in written[0].step.ahead.tokens]
            looked = yield from tree.extend(
                [parent], len(likely), Until.END, sampling=GREEDY, tokens=self.ahead + 1, begins=likely
            )
            tree.mark(looked, State.PRUNED, "lookahead")
            begun = [c for c in looked if len(c.step)]  # the budget may end a row before its first token
            if not begun:
                break
            best = min(begun, key=lambda c: (-merit(c), order(c.path)))
            begins = [(int(best.step.tokens[0]),)]
        return Selector("majority")(entries(tree, written))
