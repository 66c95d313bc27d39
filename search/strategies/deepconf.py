"""DeepConf online: solutions that become unsure are stopped, the rest vote by confidence (arXiv 2508.15260).

Some solutions run to their ends first; the (1 - keep) quantile of their lowest group confidences is the threshold s. The others
run together, and one whose last `window` tokens have a mean confidence below s is stopped. Against the released code: the rule
of consensus is there, stopped solutions never vote, a plain majority never overwrites the weighted one, and a solution that was
cut sets no threshold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from search.checks import positive
from search.confidence import WINDOW, lowest, threshold
from search.rules import Halt, Rules, Unsure
from search.select import Selector, confidences, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Step, Until

from .stopping import reader

Ballot = tuple[str | None, float]  # an answer and its weight


def consensus(ballots: Iterable[Ballot]) -> float:
    """The leading answer's share of all weight: V(best) / sum of V, in [0, 1]; 0 where nobody votes."""
    votes: dict[str, float] = defaultdict(float)
    for answer, weight in ballots:
        if answer is not None:
            votes[answer] += weight
    total = math.fsum(votes.values())
    return max(votes.values()) / total if total > 0 else 0.0


@dataclass(frozen=True)
class DeepConf:
    """A warm-up, then the rest of n under the threshold; weights are lowest group confidences, nats, higher = surer.

    keep: the share that the threshold lets through: 0.1 (DeepConf-low) stops most, 0.9 (-high) the worst only.
    tau: nothing more is sampled once the leading answer has this share of the weight, looked at after the warm-up and with
    every solution that ends; 0 is off. It counts all that ended, below the threshold too: of the one or two that keep=0.1 lets
    through, consensus says nothing.
    k: tokens that the confidence is of (Sampling.confidence); 0 takes the self-certainty over the whole vocabulary.
    Cost: the warm-up in full, each other solution up to where it was stopped.
    """

    n: int = 64
    warmup: int = 16
    window: int = WINDOW
    keep: float = 0.9
    tau: float = 0.95
    k: int = 20

    def __post_init__(self) -> None:
        positive(n=self.n, warmup=self.warmup, window=self.window)
        if self.warmup > self.n:
            raise ValueError(f"warmup must be at most n, not warmup={self.warmup} with n={self.n}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, not {self.keep}")
        if self.tau and not 0.5 < self.tau <= 1:
            raise ValueError(f"tau must be above 0.5 and at most 1, or 0 (off), not {self.tau}")
        if self.k < 0:
            raise ValueError(f"k must be at least 1, or 0 for self-certainty, not {self.k}")

    def search(self, tree: Tree) -> Ask[Choice]:
        sampling = replace(tree.sampling, confidence=self.k)
        warm = yield from tree.extend([ROOT], n=self.warmup, until=Until.END, sampling=sampling)
        steps = [c.step for c in warm if c.finished]
        weights = [self.trust(step) for step in steps]
        least = threshold(weights, self.keep) if weights else -math.inf
        voters = [c for c in warm if c.finished and self.trust(c.step) >= least]
        read = reader(tree)
        ballots = list(zip(read(steps), weights, strict=True))
        if not self.agreed(ballots) and self.n > self.warmup:
            rules = self.rules(ballots, read, least)
            rest = yield from tree.extend([ROOT], n=self.n - self.warmup, until=Until.END, sampling=sampling, rules=rules)
            voters += [c for c in rest if c.finished]
        return self.choose(tree, voters)

    def rules(self, ballots: Sequence[Ballot], read: Callable[[Sequence[Step]], list[str | None]], least: float) -> Rules:
        """Of the solutions after the warm-up, whose ballots these are."""

        def decide(ended: Sequence[Step]) -> bool:
            return self.agreed([*ballots, *zip(read(ended), map(self.trust, ended), strict=True)])

        unsure = Unsure(self.window, least) if math.isfinite(least) else None
        name = f"consensus of {self.tau}, window {self.window}, after {list(ballots)}"
        return Rules(unsure=unsure, halt=Halt(name, decide) if self.tau else None)

    def agreed(self, ballots: Iterable[Ballot]) -> bool:
        return self.tau > 0 and consensus(ballots) >= self.tau

    def trust(self, step: Step) -> float:
        """The confidence of a solution's weakest group; of one shorter than the window, of the whole."""
        _, [trace] = confidences([[step]])
        return lowest(trace, self.window)

    def choose(self, tree: Tree, voters: Sequence[Candidate]) -> Choice:
        return Selector("deepconf", window=self.window, keep=1.0)(entries(tree, voters))
