"""How well values tell right steps from wrong ones. All figures in [0, 1], higher = better, but for `ece`; None where there is
nothing to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """Area under the ROC curve: the chance that a right one scores above a wrong one, ties counted half; NaN without both."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positive = sum(labels)
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    total = sum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return float((total - positive * (positive + 1) / 2) / (positive * negative))


def first_below(values: Sequence[float], threshold: float) -> int | None:
    """The index of the first step whose value is below the threshold; None where none is."""
    return next((i for i, value in enumerate(values) if value < threshold), None)


def harmonic(a: float, b: float) -> float:
    """2ab / (a + b); 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


def first_error_f1(found: Sequence[int | None], truth: Sequence[int | None]) -> float | None:
    """ProcessBench's F1 (arXiv 2412.06559): the harmonic mean of two accuracies, on solutions with a wrong step (the first of
    them is found, exactly) and on those without (none is found). None where either kind is missing."""
    hits: tuple[list[bool], list[bool]] = ([], [])
    for a, b in zip(found, truth, strict=True):
        hits[b is None].append(a == b)
    if not hits[0] or not hits[1]:
        return None
    return harmonic(float(np.mean(hits[0])), float(np.mean(hits[1])))


def best_threshold(values: Sequence[Sequence[float]], truth: Sequence[int | None]) -> tuple[float, float]:
    """(threshold, F1) with the highest first-error F1 among 99 in (0, 1), the lowest of equals.

    ValueError where the solutions are all right or all wrong.
    """
    found = [(first_error_f1([first_below(v, t) for v in values], truth), t) for t in np.arange(1, 100) / 100]
    best = max(((f1, -t) for f1, t in found if f1 is not None), default=None)
    if best is None:
        raise ValueError("a threshold needs solutions with a wrong step and solutions without; sample more")
    return -best[1], best[0]


def ece(probabilities: Sequence[float], labels: Sequence[int], bins: int = 15) -> float:
    """Expected calibration error, lower = better: the mean over `bins` equal bins of |share of right - mean probability|,
    weighted by how many fall into each (arXiv 1706.04599)."""
    return sum(row.share * abs(row.right - row.said) for row in reliability(probabilities, labels, bins))


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram."""

    said: float  # mean probability
    right: float  # share that is right
    share: float  # of all that fall into it


def reliability(probabilities: Sequence[float], labels: Sequence[int], bins: int = 15) -> list[Bin]:
    """The bins that hold anything. Bin i is [i/bins, (i+1)/bins), the last with its upper end."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    where = np.minimum((p * bins).astype(int), bins - 1)
    return [
        Bin(float(p[where == b].mean()), float(y[where == b].mean()), float((where == b).mean()))
        for b in range(bins)
        if (where == b).any()
    ]


__all__ = ["Bin", "auc", "best_threshold", "ece", "first_below", "first_error_f1", "harmonic", "reliability"]
