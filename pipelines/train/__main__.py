"""Trains the bundled models from nothing: `python -m pipelines.train [OUT]`, about three hours and a quarter on two cores.

The steps and their options are those of the cards; OUT (default: models) gets generator/, small/ and reward/. Nothing
bundled is replaced: compare the figures first (`python -m flows.figures.models --generator OUT/generator --reward OUT/reward`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "models")
    out.mkdir(parents=True, exist_ok=True)
    for step in STEPS:
        command = [sys.executable, "-m", *(part.format(out=out) for part in step.split())]
        print("+", " ".join(command), flush=True)
        subprocess.run(command, check=True)


STEPS = (
    "pipelines.train.generator {out}/generator --minutes 65",
    "pipelines.train.generator {out}/small --minutes 40 --size small --teacher {out}/generator --seed 3",
    "pipelines.train.prm {out}/reward-first --grow {out}/generator --minutes 45 --lr 2.5e-3",
    "pipelines.train.samples {out}/generator {out}/samples.jsonl --problems 9000 --each 5",
    "pipelines.train.prm {out}/reward --init {out}/reward-first --samples {out}/samples.jsonl --minutes 30 --lr 2e-3",
)


if __name__ == "__main__":
    main()
