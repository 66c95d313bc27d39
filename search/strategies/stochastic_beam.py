"""Stochastic beam search: n different solutions, drawn without replacement (Gumbel-top-k, arXiv 1903.06059).

Each text's ln p is perturbed by Gumbel noise, drawn from the root down so that the best child has its parent's perturbed value:
with G of the parent, phi the children's ln p, keys phi + Gumbel(0) and Z the largest of them,

    G(child) = -ln(exp(-G(parent)) - exp(-Z) + exp(-key))

and the n texts of the highest G stay at each position. The ends are a sample of n solutions without replacement. Each but the
last weighs p / q in the vote, q = 1 - exp(-exp(phi - kappa)), kappa the lowest G of the n: the estimator of that paper, which
is unbiased for the probability of an answer. A solution that is cut by the token limit takes its place with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.checks import positive
from search.select import Selector, entries, tally
from search.tree import Tree
from search.types import Ask, Candidate, Choice, State, order, seed_of

from .token_by_token import first, going_on, written

Perturbed = tuple[Candidate, float, float]  # a text's last token, ln p of the text, G


def lowered(parent: float, largest: float, key: float) -> float:
    """G of a child from its parent's G, the largest key of the parent's children, and its own: at most the parent's G."""
    if key == largest:
        return parent
    v = parent - key + math.log1p(-math.exp(key - largest))
    return parent - max(0.0, v) - math.log1p(math.exp(-abs(v)))


def weight(phi: float, kappa: float) -> float:
    """p / q: the weight of a solution of ln p phi where the lowest G of the sample is kappa."""
    surprise = math.exp(min(phi - kappa, 700.0))
    return math.exp(phi) / -math.expm1(-surprise) if surprise > 0 else math.exp(kappa)


@dataclass(frozen=True)
class StochasticBeam:
    """n solutions without replacement, of the model's own distribution (temperature 1), and a vote by their weights. Cost:
    about n solutions; every token is a candidate of its own. n = 1 is one plain sample."""

    n: int = 4

    def __post_init__(self) -> None:
        positive(n=self.n)

    def search(self, tree: Tree) -> Ask[Choice]:
        start = yield from first(tree, self.n, gumbel=True)
        beam: list[Perturbed] = [(start, 0.0, self._root(tree))] if start else []
        lost: list[float] = []  # G of the texts that were cut: each keeps its place
        while any(not c.finished for c, _, _ in beam):
            options = [option for each in beam for option in self._children(*each)]
            options.sort(key=lambda option: (-option[3], order(option[0].path), option[1]))
            kept = options[: self.n - len(lost)]
            tokens = [(c, token) for c, token, _, _ in kept if token >= 0]
            made = yield from written(tree, tokens, self.n, gumbel=True)
            found = {(c.parent, int(c.step.tokens[0])): c for c in made}
            after: list[Perturbed] = []
            for c, token, phi, g in kept:
                child = c if token < 0 else found.get((c.path, token))
                if child is not None and (child.finished or child.step.ahead is not None):
                    after.append((child, phi, g))
                else:
                    lost.append(g)
            stay = {c.path for c, _, _, _ in kept}
            tree.mark((c for c, _, _ in beam if c.path not in stay), State.PRUNED, "left the beam")
            beam = after
            if tree.spent:
                tree.mark(going_on(c for c, _, _ in beam), State.PRUNED, "the budget is spent")
                break
        lost += [g for c, _, g in beam if not c.finished]
        return self._voted(tree, [each for each in beam if each[0].finished], lost)

    def _root(self, tree: Tree) -> float:
        """G of the empty text: drawn, for the weights; which texts are drawn does not depend on it."""
        seed = seed_of(tree.seed, tree.question.id, "stochastic-beam")
        return -math.log(-math.log((seed + 0.5) / 2**63))

    def _children(self, parent: Candidate, phi: float, g: float) -> list[tuple[Candidate, int, float, float]]:
        """(parent, token, ln p, G) of the best children; a solution that has ended is its own only child, of token -1."""
        ahead = parent.step.ahead
        if ahead is None:
            return [(parent, -1, phi, g)]
        keys = [phi + key for key in ahead.keys.tolist()]
        children = zip(ahead.tokens.tolist(), ahead.logprobs.tolist(), keys, strict=True)
        return [(parent, token, phi + logprob, lowered(g, keys[0], key)) for token, logprob, key in children]

    def _voted(self, tree: Tree, sample: list[Perturbed], lost: list[float]) -> Choice:
        pool = entries(tree, [c for c, _, _ in sample])
        if len(sample) + len(lost) < self.n or self.n == 1:  # all that there is: each counts with its own probability
            weights = [math.exp(phi) for _, phi, _ in sample]
        else:
            kappa = min([g for _, _, g in sample] + lost, default=0.0)
            weights = [weight(phi, kappa) if g > kappa else 0.0 for _, phi, g in sample]
        counted = [(e, w) for e, w in zip(pool, weights, strict=True) if e.answer is not None]
        if not counted:
            return Selector("majority")(pool)
        votes = tally(counted, summed=True)
        best = min((e for e, _ in counted if e.answer == votes[0].answer), key=lambda e: (-e.logprob, order(e.path)))
        said = f"weighted without replacement: {votes[0].weight:.4g} from {votes[0].count} of {len(pool)} candidates"
        return Choice(best.path, votes[0].answer, said, tuple(votes))
