"""Momentum decoding (arXiv 2212.02175): a token that would go on with a repetition is taken only where it is much likelier.

Of the K likeliest tokens the one with the highest p - alpha * f(l) is taken, p of the model's own distribution. l is the
length of the longest piece of the continuation, ending with the token, that stands in it already: 0 for a token that is new.
f(l) = l up to LONGEST, and infinite beyond: the table that was released for GPT-2 XL.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

K = 5
LONGEST = 5


def repeated(written: NDArray[np.int32], token: int) -> int:
    """How many of the last tokens of `written` and `token` stand in `written` already, one after the other, ending in a
    place before."""
    longest = 0
    for at in np.flatnonzero(written == token).tolist():
        length = 1
        while length <= at and written[at - length] == written[len(written) - length]:
            length += 1
        longest = max(longest, length)
    return longest


def resistance(length: int) -> float:
    """f of the length of a repetition."""
    return float(length) if length <= LONGEST else math.inf


def taken(logits: Tensor, written: NDArray[np.int32], alpha: float) -> int:
    """The token that a row with these logits [vocabulary] takes; of equals the likelier. Where each of the likeliest would
    repeat too much, the likeliest of those that would not."""
    likely = logits.double().softmax(dim=-1)
    order = likely.argsort(descending=True, stable=True)
    best, most = int(order[0]), -math.inf
    for rank, token in enumerate(order.tolist()):
        score = float(likely[token]) - alpha * resistance(repeated(written, token)) if alpha else float(likely[token])
        if score > most:
            best, most = token, score
        if rank + 1 >= K and most > -math.inf:
            break
    return best
