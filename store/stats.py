"""Intervals and tests for the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Z95 = 1.959963984540054  # the normal distribution's 97.5% point
FEW = 30  # problems, below which an interval says little


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson interval of a proportion, (low, high) in [0, 1]; (0, 1) where there are no trials."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n={n}, not {successes}")
    return _wilson(successes / n, n) if n else (0.0, 1.0)


def _wilson(share: float, n: float) -> tuple[float, float]:
    middle = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    # at the ends the formula gives 0 and 1 up to rounding
    low = 0.0 if share == 0 else (middle - half) / scale
    high = 1.0 if share == 1 else (middle + half) / scale
    return low, high


class Clusters(NamedTuple):
    """Sums over clusters (problems) of what each has: trials n and successes y (or any total of them)."""

    m: int  # clusters with trials
    n: float  # sum of n
    y: float
    nn: float  # sum of n * n
    yy: float
    ny: float

    @property
    def share(self) -> float:
        """y / n; ZeroDivisionError without trials."""
        return self.y / self.n

    @property
    def variance(self) -> float | None:
        """Of the share, by linearisation of the ratio; None for one cluster, which has nothing to compare with."""
        if self.m < 2:
            return None
        residual = self.yy - 2 * self.share * self.ny + self.share**2 * self.nn
        return max(residual, 0.0) / self.n**2 * self.m / (self.m - 1)


def clustered(of: Clusters) -> tuple[float, float]:
    """The 95% interval of a proportion whose trials come in clusters: Wilson's, with the number of independent trials that
    would have the same variance (Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015, "modified Wilson").

    Trials of one cluster are never taken for more than independent ones; where all of them agree, each cluster counts once.
    (0, 1) where there are no trials.
    """
    if not of.n:
        return 0.0, 1.0
    share = min(max(of.share, 0.0), 1.0)
    if not 0 < share < 1 or of.variance is None:
        return _wilson(share, of.m)
    independent = share * (1 - share) / of.variance if of.variance else of.n
    return _wilson(share, min(independent, of.n))


def student(freedom: int) -> float:
    """The 97.5% point of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def counted_means(
    values: NDArray[np.float64], counts: Sequence[int], resamples: int = 2_000, seed: int = 0
) -> NDArray[np.float64]:
    """[resamples, columns] as `resampled_means`, of problems of which many have the same values: values [kinds, columns], and
    how many problems there are of each kind. The same distribution, at the cost of the kinds."""
    import numpy as np

    weights = np.asarray(counts, dtype=np.float64)
    n = int(weights.sum())
    if not n or resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 problem and 1 resample, not {n} and {resamples}")
    drawn = np.random.default_rng(seed).multinomial(n, weights / weights.sum(), resamples)
    return drawn @ values / n


def resampled_means(values: NDArray[np.float64], resamples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """[resamples, columns] the means of values [problems, columns], the problems drawn again with replacement.

    A problem is a cluster: all that is in its row stays together, so a row of several runs is a paired comparison, and a row
    of means over seeds counts its problem once.
    """
    import numpy as np

    n = len(values)
    if not n or resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 problem and 1 resample, not {n} and {resamples}")
    size = max(1, _AT_ONCE // n)
    drawn = [_drawn(n, resamples, seed)] if resamples <= size else _counts(n, resamples, seed, size)
    return np.concatenate([each @ values / n for each in drawn])


_AT_ONCE = 4_000_000  # counts held in memory


@lru_cache(maxsize=1)
def _drawn(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """All at once: the comparisons of a sweep, over the same number of problems, draw the same."""
    return next(_counts(n, resamples, seed, resamples))


def _counts(n: int, resamples: int, seed: int, size: int) -> Iterator[NDArray[np.float64]]:
    """How often each of n problems is drawn, [size, n] at a time."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for done in range(0, resamples, size):
        yield rng.multinomial(n, np.full(n, 1 / n), min(size, resamples - done)).astype(np.float64)


def interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval of resampled values; (nan, nan) where any of them is no number."""
    import numpy as np

    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: NDArray[np.float64], mean: float, n: int, drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% interval of a mean over n problems of values in [0, 1], from its resampled means. `values`: those that occur.

    Wilson's where each is 0 or 1, which is a proportion like a run's accuracy, and where all are alike: there a bootstrap has
    no spread, however few they are.
    """
    proportion = not ((values > 1e-9) & (values < 1 - 1e-9)).any()
    return _wilson(round(mean, 9), n) if proportion or drawn.max() - drawn.min() <= 1e-9 else interval(drawn)


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
