"""DeepConf's confidences of groups (arXiv 2508.15260): how sure a generator was in the weakest, the last, the average part.

A trace is its tokens' confidences: mean -ln p of the k likeliest (Step.confidences), or, where those were not kept, the
self-certainty of each token; both in nats, higher = surer. A group is a window of `window` tokens, and its confidence is their
mean; a trace shorter than the window is one group, itself. A value that is not a finite number counts as 0, the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .checks import one_of

WINDOW = 2048  # tokens of a group, as in the paper
Trace = NDArray[np.floating] | Sequence[float]


def groups(confidences: Trace, window: int) -> NDArray[np.float64]:
    """The means of all windows, first to last: [tokens - window + 1], or [1] for a trace shorter than the window (0.0 for one
    without tokens). groups(c, w)[i] is of the tokens i to i + w - 1, so it is known once i + w tokens are there."""
    if window < 1:
        raise ValueError(f"window must be at least 1 token, not {window}")
    values = np.asarray(confidences, dtype=np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    if len(values) <= window:
        return np.array([values.mean() if len(values) else 0.0])
    # sums of stored (16-bit) confidences are exact in 64 bits, so differences of running sums lose nothing
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: NDArray[np.float64] = (sums[window:] - sums[:-window]) / window
    return means


def lowest(confidences: Trace, window: int = WINDOW) -> float:
    """The confidence of the weakest group."""
    return float(groups(confidences, window).min())


def tail(confidences: Trace, window: int = WINDOW) -> float:
    """The confidence of the last group."""
    return float(groups(confidences, window)[-1])


def bottom(confidences: Trace, window: int = WINDOW, share: float = 0.1) -> float:
    """The mean over the weakest `share` of the groups, rounded down, at least one of them."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}")
    means = np.sort(groups(confidences, window))
    # 0.29 * 100 is 28.999... in floating point, and means 29
    return float(means[: max(1, math.floor(share * len(means) + 1e-9))].mean())


def mean(confidences: Trace, window: int = WINDOW) -> float:
    """The mean over all tokens; the window has no part in it."""
    return float(groups(confidences, max(1, len(confidences)))[0])


MEASURES: Mapping[str, Callable[[Trace, int], float]] = {"lowest": lowest, "tail": tail, "bottom": bottom, "mean": mean}


def measured(measure: str, confidences: Trace, window: int = WINDOW) -> float:
    """A trace's confidence by the measure's name."""
    one_of("measure", measure, MEASURES)
    return MEASURES[measure](confidences, window)


def position(n: int, keep: float) -> float:
    """Where in n values in rising order (from 0) the threshold lies; between two of them where it is no whole number."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be above 0 and at most 1, not {keep}")
    # 1 - 0.9 is not quite 0.1: without rounding, a value that is the threshold would fall below it
    return round((1 - keep) * (n - 1), 9)


def threshold(values: Trace, keep: float) -> float:
    """What a trace must reach to be among the surest `keep` of these: their (1 - keep) quantile, linear between values.

    keep=0.1 is DeepConf-low (90th percentile), 0.9 DeepConf-high (10th); 1 keeps all. The highest always reaches it.
    """
    if not len(values):
        raise ValueError("a threshold needs at least 1 value; warm up with at least 1 trace")
    rising = np.sort(np.asarray(values, dtype=np.float64))
    place = position(len(rising), keep)
    below = math.floor(place)
    above = min(below + 1, len(rising) - 1)
    return float(rising[below] + (rising[above] - rising[below]) * (place - below))


__all__ = ["MEASURES", "WINDOW", "bottom", "groups", "lowest", "mean", "measured", "position", "tail", "threshold"]
