"""Drawing a token that is allowed, with an unbiased estimate of how probable an allowed token was, from few checks.

Adaptive weighted rejection sampling (arXiv 2504.05410). Draw tokens from p until two are allowed, the same again and again:
with r barred draws before the second allowed one, 1 / (r + 1) has the mean Z = p(allowed), whatever the first allowed token was
(Haldane 1945), and that one is distributed as p restricted to what is allowed. No token is checked twice: the draws that would
have fallen on tokens known to be barred, of mass R, are a geometric number of phantoms, P(k) = R^k (1 - R), and the others come
in the order of a sample without replacement.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from search.rules import Ahead

Drawn = tuple[int, float]  # a token that is allowed, and ln of the estimate of Z, nats, <= 0
Draw = Generator[int, bool, Drawn | None]  # yields tokens to be checked, is sent whether they are allowed


def drawn(ahead: Ahead, rng: np.random.Generator) -> Draw:
    """The first allowed token in the order of `ahead`, which is to be a sample without replacement (Gumbel keys), and the
    estimate. None where all that `ahead` names are barred. What it does not name counts as barred: so far, and no further than
    by the mass of that, the estimate is too low."""
    rejected, barred = 0, 0.0
    taken: tuple[int, float] | None = None
    for token, logprob in zip(ahead.tokens.tolist(), ahead.logprobs.tolist(), strict=True):
        p = math.exp(logprob)
        left = max(1.0 - barred, p + (taken[1] if taken else 0.0))  # rounding may not leave less than what is still to come
        rejected += phantoms(left, rng)
        if taken is not None and rng.random() * left < taken[1]:
            return taken[0], -math.log1p(rejected)  # the second is the first again
        if not (yield token):
            rejected, barred = rejected + 1, barred + p
        elif taken is not None:
            return taken[0], -math.log1p(rejected)
        else:
            taken = token, p
    if taken is None:
        return None
    return taken[0], -math.log1p(rejected + phantoms(taken[1], rng))


def phantoms(success: float, rng: np.random.Generator) -> int:
    """How often a draw fails before the first that does not, of the given probability of success."""
    u = 1.0 - rng.random()
    return 0 if success >= 1.0 else math.floor(math.log(u) / math.log1p(-success))
