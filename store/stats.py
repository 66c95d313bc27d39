"""Intervals and tests for the numbers of a report."""

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


def resampled_means(values: NDArray[np.float64], resamples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """[resamples, columns] the means of values [problems, columns], the problems drawn again with replacement.

    A problem is a cluster: all that is in its row stays together, so a row of several runs is a paired comparison, and a row
    of means over seeds counts its problem once.
    """
    import numpy as np

    n = len(values)
    if not n or resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 problem and 1 resample, not {n} and {resamples}")
    rng = np.random.default_rng(seed)
    size = max(1, 4_000_000 // n)  # resamples at a time, for memory
    counts = (rng.multinomial(n, np.full(n, 1 / n), min(size, resamples - done)) for done in range(0, resamples, size))
    return np.concatenate([each @ values / n for each in counts])


def interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval of resampled values; (nan, nan) where any of them is no number."""
    import numpy as np

    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p of no difference from resampled differences: twice the smaller share on one side of 0, itself included;
    never 0, since so many resamples cannot say so."""
    n = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (n + 1))


def mcnemar(first: int, second: int) -> float:
    """McNemar's exact two-sided p: problems that only the first, only the second run solved, under equal chances.

    The problems that both or neither solved say nothing of the difference. 1.0 where there are no others.
    """
    if first < 0 or second < 0:
        raise ValueError(f"counts of problems must be 0 or more, not {first} and {second}")
    n = first + second
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(first, second) + 1)) / (1 << n))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the smallest times m, the next times m - 1, ...; never falling."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted
