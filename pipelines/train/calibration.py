"""Temperature scaling (arXiv 1706.04599): one number by which the log-odds of a reward model are divided, so that of the
steps it gives .8, four in five are right. Order is kept; what changes is every product, mean and threshold of values.

It is kept beside the model as calibration.json:

    {"temperature": 1.31, "steps": 5120, "nll": [0.21, 0.19], "on": "word, countdown: validation problems"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "calibration.json"
EDGE = 5e-5  # half of the last digit that a reading keeps: values of 0 and 1 are taken for these
SPAN = (0.05, 20.0)  # temperatures that are looked at
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, above 1 for a model that was too sure, and what it was fitted on."""

    temperature: float
    steps: int
    nll: tuple[float, float]  # mean negative log-likelihood before and after, nats, lower = better
    on: str


def log_odds(values: Sequence[float] | Floats) -> Floats:
    """ln(p / (1 - p)) of values in [0, 1], those at the edge moved inside."""
    p = np.clip(np.asarray(values, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)


def scaled(values: Sequence[float] | Floats, temperature: float) -> Floats:
    """The values with their log-odds divided by the temperature."""
    return 1 / (1 + np.exp(-log_odds(values) / temperature))


def nll(values: Sequence[float] | Floats, labels: Sequence[int], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels, nats."""
    signed = np.where(np.asarray(labels) == 1, -1.0, 1.0) * log_odds(values) / temperature
    return float(np.logaddexp(0, signed).mean())


def fit(values: Sequence[float], labels: Sequence[int], on: str) -> Calibration:
    """The temperature with the lowest negative log-likelihood. ValueError without both labels, or where none is best."""
    from scipy.optimize import minimize_scalar

    if len(set(labels)) < 2:
        raise ValueError(f"a temperature needs right and wrong steps, not {len(labels)} of one kind; judge more solutions")
    bounds = math.log(SPAN[0]), math.log(SPAN[1])
    found = minimize_scalar(lambda t: nll(values, labels, math.exp(t)), bounds=bounds, method="bounded")
    temperature = math.exp(float(found.x))
    if min(temperature / SPAN[0], SPAN[1] / temperature) < 1.01:
        raise ValueError(
            f"no temperature fits: the best of {SPAN[0]} to {SPAN[1]} is at the edge; do the labels mean what they say?"
        )
    return Calibration(round(temperature, 4), len(labels), (nll(values, labels), nll(values, labels, temperature)), on)


def write(calibration: Calibration, folder: Path) -> None:
    (folder / FILE).write_text(json.dumps(asdict(calibration), indent=2) + "\n")


def read(folder: Path) -> Calibration | None:
    """What is kept beside a model, or None. ValueError for a temperature that is not above 0."""
    path = folder / FILE
    if not path.is_file():
        return None
    row = json.loads(path.read_text())
    temperature = row.get("temperature")
    if not isinstance(temperature, int | float) or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"{FILE} has the temperature '{temperature}'; it must be a number above 0")
    return Calibration(float(temperature), row["steps"], tuple(row["nll"]), row["on"])


__all__ = ["FILE", "Calibration", "fit", "log_odds", "nll", "read", "scaled", "write"]
