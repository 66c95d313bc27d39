"""Cautious next token prediction: more trials where the model is less sure of its next token (CNTP, arXiv 2507.03038).

Where the entropy H of the next token is high, N continuations up to the next punctuation are tried, and the one with the
lowest perplexity, exp(-mean ln p), is kept. N rises with H from 1 at `low` to `trials` at `high`, both nats:

    code   N = int(1 + (trials - 1) x), x = (H - low) / (high - low) clamped to [0, 1]
    paper  N = max(1, min(trials, floor(x trials)))

The published code takes H after temperature and top-p; here it is of the model's own distribution, as all entropies are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.checks import one_of, positive
from search.rules import Pause, Rules
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, State, Until, order

PUNCTUATION = (".", ",", "\n", "?", "!", ":", ";", ")", "]", "}")
RULES = ("code", "paper")
LEAST = 1e-9  # nats below the entropy from which there are two trials: rounding must not lose it


@dataclass(frozen=True)
class CNTP:
    """One solution, drawn with the run's sampling (published: temperature 0.8, top-p 0.95). Cost: its tokens, and those of
    the trials that were not kept; sequential tokens of the longest trials."""

    trials: int = 10
    low: float = 0.01
    high: float = 1.5
    rule: str = "code"

    def __post_init__(self) -> None:
        positive(trials=self.trials)
        one_of("rule", self.rule, RULES)
        if not 0 <= self.low < self.high:
            raise ValueError(f"low must be at least 0 and below high, not {self.low} with high={self.high}")

    def tried(self, entropy: float) -> int:
        """How many continuations are tried at a next-token entropy, nats."""
        share = min(max((entropy - self.low) / (self.high - self.low), 0.0), 1.0)
        if self.rule == "paper":
            return max(1, min(self.trials, math.floor(share * self.trials)))
        return int(1 + (self.trials - 1) * share)

    @property
    def careful(self) -> float:
        """The least entropy at which more than one is tried, nats."""
        if self.trials == 1:
            return math.inf
        share = 2 / self.trials if self.rule == "paper" else 1 / (self.trials - 1)
        return self.low + share * (self.high - self.low) - LEAST

    def search(self, tree: Tree) -> Ask[Choice]:
        pause, parent = Rules(pause=Pause(above=self.careful)), ROOT
        last: list[Candidate] = []
        while True:
            written = yield from tree.extend([parent], until=Until.END, rules=pause)
            last = list(written)
            if not written or written[0].step.ahead is None:
                break
            tried = self.tried(written[0].step.ahead.entropy)
            trials = yield from tree.extend(written, n=tried, rules=Rules(marks=PUNCTUATION))
            whole = [c for c in trials if c.open or c.finished]
            if not whole:
                break
            last = [min(whole, key=lambda c: (-c.step.logprob / len(c.step), order(c.path)))]
            tree.mark((c for c in whole if c is not last[0]), State.PRUNED, "a higher perplexity")
            if last[0].finished:
                break
            parent = last[0].path
        return Selector("majority")(entries(tree, last))
