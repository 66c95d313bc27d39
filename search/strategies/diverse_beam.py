"""Diverse beam search over tokens (arXiv 1610.02424): groups of beams, each kept off the tokens that earlier groups take.

At each position the groups choose in turn. A token's score is the sum of ln p of its text, less `penalty` for each beam of an
earlier group that takes this token at this position (Hamming diversity). The first group is plain beam search. A beam that ends
leaves its group, with its place; the solutions of all groups go to the selector. What the penalty took is no part of ln p.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import Ask, Candidate, Choice, State, order

from .token_by_token import Token, first, going_on, written


@dataclass(slots=True)
class _Group:
    """The beams of one group with the sums of ln p of their texts, nats."""

    beams: list[tuple[Candidate, float]]
    places: int
    taken: list[tuple[Token, float]] = field(default_factory=list)

    def choose(self, penalty: float, earlier: Counter[int]) -> None:
        """The tokens that it goes on with: the best of all its beams together."""
        options: list[tuple[float, tuple[int, ...], int, Token, float]] = []
        for beam, total in self.beams:
            ahead = beam.step.ahead
            assert ahead is not None
            for rank, (token, logprob) in enumerate(zip(ahead.tokens.tolist(), ahead.logprobs.tolist(), strict=True)):
                score = total + logprob - penalty * earlier[token]
                options.append((-score, order(beam.path), rank, (beam, token), total + logprob))
        options.sort(key=lambda option: option[:3])
        self.taken = [(token, total) for *_, token, total in options[: self.places]]


@dataclass(frozen=True)
class DiverseBeam:
    """n beams in `groups` groups. Deterministic: the run's sampling and seed change nothing. Cost: about n solutions; every
    token is a candidate of its own. `select` is a selector's name; the default takes the highest mean ln p of a token."""

    n: int = 4
    groups: int = 2
    penalty: float = 0.5
    select: Selector = Selector("logprob")

    def __post_init__(self) -> None:
        positive(n=self.n, groups=self.groups)
        if self.n % self.groups:
            raise ValueError(f"n must be a multiple of groups, not n={self.n} with groups={self.groups}")
        if not self.penalty >= 0:
            raise ValueError(f"penalty must be at least 0 nats, not {self.penalty}")

    def search(self, tree: Tree) -> Ask[Choice]:
        done: list[Candidate] = []
        # of n tokens no more than n less a group's size can be penalised, so its best are among the n likeliest
        start = yield from first(tree, self.n)
        groups = [_Group([(start, 0.0)], self.n // self.groups) for _ in range(self.groups)] if start else []
        while any(group.beams for group in groups):
            earlier = Counter[int]()
            for group in groups:
                group.choose(self.penalty, earlier)
                earlier.update(token for (_, token), _ in group.taken)
            # two groups may take the same token of one beam: two texts, one for each
            tokens = list(dict.fromkeys(token for group in groups for token, _ in group.taken))
            made = yield from written(tree, tokens, self.n)
            found = {(c.parent, int(c.step.tokens[0])): c for c in made}
            for group in groups:
                self._advance(group, found, done)
            alive = {c.path for group in groups for c, _ in group.beams}
            tree.mark((c for c in going_on(made) if c.path not in alive), State.PRUNED, "left the beam")
            if tree.spent:
                break
        solutions = list({c.path: c for c in done}.values())
        if self.select.needs_verifier:
            yield from tree.verify(solutions)
        return self.select(entries(tree, solutions))

    @staticmethod
    def _advance(group: _Group, found: dict[tuple[str, int], Candidate], done: list[Candidate]) -> None:
        """A group's tokens become its beams; one that has ended leaves it with its place."""
        beams = []
        for (parent, token), total in group.taken:
            child = found.get((parent.path, token))
            if child is None:
                continue
            if child.finished:
                done.append(child)
                group.places -= 1
            elif child.step.ahead is not None:
                beams.append((child, total))
        group.beams, group.taken = beams[: max(group.places, 0)], []
