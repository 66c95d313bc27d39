"""Intervals for the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Z95 = 1.959963984540054  # the normal distribution's 97.5% point


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson interval of a proportion, (low, high) in [0, 1]; (0, 1) where there are no trials."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n={n}, not {successes}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    # at the ends the formula gives 0 and 1 up to rounding
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return low, high


def mean_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """mean(a) - mean(b): above 0 where a is larger."""
    return float(a.mean() - b.mean())


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float] = mean_difference,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[float, float, float]:
    """(estimate, low, high): a statistic of two runs over the same problems, with its 95% percentile interval.

    Problems are resampled, and both runs' values of a problem stay together. a[i] and b[i] are of one problem.
    """
    import numpy as np

    if len(a) != len(b) or not len(a):
        raise ValueError(f"a paired comparison needs as many values of both runs, not {len(a)} and {len(b)}")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a paired comparison needs finite values; leave out the problems that have none in both runs")
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        picked = rng.integers(0, len(x), len(x))
        drawn[i] = statistic(x[picked], y[picked])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return statistic(x, y), float(low), float(high)
