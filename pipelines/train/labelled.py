"""Solutions with a label for each step, as they are kept in a file: one JSON object a line.

    {"family": "word", "question": "...", "steps": ["...", "..."], "labels": [1, 0], "outcome": false, "gold": "...",
     "soft": false, "tokens": 312, "rollouts": 8}

A label is in [0, 1], 1 = right, or null where the method gives none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One solution and what a label method says of its steps."""

    family: str
    question: str
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]  # one a step; None = not labelled
    outcome: bool  # whether its answer is right
    gold: str = ""  # the right step in place of the first wrong one, where that is known
    soft: bool = False  # labels are chances: what follows a step labelled 0 is labelled too
    tokens: int = 0  # generated to label it
    rollouts: int = 0  # completions drawn to label it

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.steps):
            raise ValueError(
                f"{len(self.labels)} labels for {len(self.steps)} steps: give one a step, null where there is none"
            )
        for label in self.labels:
            if label is not None and not 0 <= label <= 1:
                raise ValueError(f"label {label} is not in [0, 1]: give the chance that the step is right")


def write(samples: Iterable[Sample], path: Path) -> None:
    path.write_text("".join(json.dumps(asdict(sample)) + "\n" for sample in samples))


def read(path: Path) -> list[Sample]:
    """Raises ValueError in one line, with file and line, for what is no labelled sample."""
    return [_sample(line, f"{path.name} line {i}") for i, line in enumerate(path.read_text().splitlines(), 1)]


def _sample(line: str, where: str) -> Sample:
    try:
        row = json.loads(line)
        labels = tuple(None if label is None else float(label) for label in row["labels"])
        # files written before outcomes were kept hold exact labels only
        outcome = bool(row.get("outcome", all(labels)))
        known = {f.name: row[f.name] for f in fields(Sample) if f.name in row}
        return Sample(**known | {"steps": tuple(row["steps"]), "labels": labels, "outcome": outcome})
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where} is no labelled sample: {what}") from None


__all__ = ["Sample", "read", "write"]
