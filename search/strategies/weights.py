"""Weights of particles: how even they are, and four unbiased ways to draw who goes on.

Whatever the scheme, the expected number of copies of particle i is n W_i; they differ in how far from it one draw may be
(Douc and Cappe, "Comparison of resampling schemes for particle filtering", cs/0507025).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]  # [particles]
Scheme = Literal["systematic", "multinomial", "stratified", "residual"]
SCHEMES: tuple[Scheme, ...] = ("systematic", "multinomial", "stratified", "residual")


def log_sum(log_weights: Weights) -> float:
    """ln of the sum of exp; -inf where all are."""
    top = float(log_weights.max())
    return top + float(np.log(np.exp(log_weights - top).sum())) if np.isfinite(top) else -np.inf


def normalised(log_weights: Weights) -> Weights:
    """Weights that sum to 1, from finite log-weights or -inf; at least one must be finite."""
    weights: Weights = np.exp(log_weights - log_weights.max())
    return weights / float(weights.sum())


def effective(log_weights: Weights) -> float:
    """The effective sample size (sum w)^2 / sum w^2: from 1, one has it all, to n, all alike; 0 where none is left."""
    total = log_sum(log_weights)
    return float(np.exp(2 * total - log_sum(2 * log_weights))) if np.isfinite(total) else 0.0


def ancestors(scheme: Scheme, weights: Weights, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n indices, in order, drawn by weights that sum to 1."""
    if scheme == "residual":
        whole = np.floor(n * weights).astype(np.int64)
        kept, left = np.repeat(np.arange(len(weights)), whole), n - int(whole.sum())
        if not left:
            return kept
        rest = n * weights - whole
        return np.sort(np.concatenate([kept, ancestors("multinomial", rest / rest.sum(), left, rng)]))
    if scheme == "systematic":  # within 1 of n W_i
        points = (np.arange(n) + rng.random()) / n
    elif scheme == "stratified":  # within 2
        points = (np.arange(n) + rng.random(n)) / n
    else:
        points = np.sort(rng.random(n))
    ends = np.cumsum(weights)
    # below 1, and to the right of an end: a particle of weight 0 is never drawn
    return np.searchsorted(ends / ends[-1], np.minimum(points, np.nextafter(1, 0)), side="right")
