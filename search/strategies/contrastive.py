"""Contrastive search (arXiv 2202.06417): of the k likeliest tokens, one that does not repeat what the text has said.

A token's score is (1 - alpha) p - alpha max cos(h, h'), h its hidden state in the model and h' those of the tokens written
before. The published method compares with the prompt's tokens as well; here with those of the solution only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import Ask, Candidate, Choice, State, order

from .token_by_token import first, written

Vector = NDArray[np.float32]


def merit(p: float, likeness: float, alpha: float) -> float:
    """Higher = better. `likeness`: the largest cosine to a token before, in [-1, 1]."""
    return (1 - alpha) * p - alpha * likeness


@dataclass(frozen=True)
class Contrastive:
    """One solution, deterministic. Cost: k times its tokens, and an embedding of each; every token is a candidate of its own.
    alpha = 0 is greedy decoding."""

    k: int = 4
    alpha: float = 0.6

    needs_encoder: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(k=self.k)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be between 0 and 1, not {self.alpha}")

    def search(self, tree: Tree) -> Ask[Choice]:
        at = yield from first(tree, self.k)
        said: list[Vector] = []
        while at is not None and at.step.ahead is not None:
            tokens = [(at, token) for token in at.step.ahead.tokens.tolist()]
            made = yield from written(tree, tokens, self.k)
            vectors = yield from tree.embed(made)
            if not made or not vectors:
                break
            units = [v / max(float(np.linalg.norm(v)), 1e-12) for v in vectors]
            scores = {c.path: self._score(c, unit, said) for c, unit in zip(made, units, strict=True)}
            best = min(made, key=lambda c: (-scores[c.path], order(c.path)))
            tree.mark((c for c in made if c is not best), State.PRUNED, "another token was chosen")
            said.append(units[made.index(best)])
            at = best
        return Selector("majority")(entries(tree, [at] if at is not None else []))

    def _score(self, candidate: Candidate, unit: Vector, said: list[Vector]) -> float:
        p = math.exp(float(candidate.step.logprobs[0]))
        return merit(p, max((float(unit @ other) for other in said), default=0.0), self.alpha)
