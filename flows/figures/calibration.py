"""How far a reward model's values are the chances they say, before and after temperature scaling.

    python -m flows.figures.calibration                           # the bundled reward model; prints a table
    python -m flows.figures.calibration --draw OUT.svg            # ... and draws the reliability diagram
    python -m flows.figures.calibration --model FOLDER --write    # ... and keeps the temperature in FOLDER/calibration.json

The steps are those of the generator's solutions up to each one's first wrong step, exactly labelled. The temperature is fitted
on validation problems, all families together, and measured on test problems. ECE is over 15 equal bins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.figures.stepwise import FAMILY, Judged, judged, pool
from pipelines.models import locate
from pipelines.train.calibration import Calibration, fit, nll, scaled, write
from pipelines.train.measures import ece, reliability
from pipelines.train.samples import SEED
from search.types import Part
from verifiers.registry import load_verifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 15
SIZE = (9.0, 4.2)  # inches
Steps = tuple[list[float], list[int]]  # values and exact labels


def upto_first_wrong(found: Judged) -> Steps:
    """Values and labels of all steps that have only right ones before them."""
    values, labels = [], []
    for row, marks in zip(found.values, found.labels, strict=True):
        for value, mark in zip(row, marks, strict=True):
            values.append(value)
            labels.append(int(mark))
            if not mark:
                break
    return values, labels


def draw(before: Steps, after: Steps, title: str, file: Path) -> None:
    """Writes the reliability diagrams side by side. The same values give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path", "font.size": 10}):
        figure, axes = pyplot.subplots(1, 2, figsize=SIZE, sharey=True, layout="constrained", facecolor="white")
        for panel, (values, labels), name in zip(axes, (before, after), ("as trained", "with its temperature"), strict=True):
            _panel(panel, values, labels)
            panel.set_title(f"{name}: ECE {ece(values, labels, BINS):.3f}", fontsize=10)
        axes[0].set_ylabel("share of steps that are right")
        figure.suptitle(title)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _panel(panel: Axes, values: Sequence[float], labels: Sequence[int]) -> None:
    bins = reliability(values, labels, BINS)
    panel.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    sizes = [15 + 400 * b.share for b in bins]
    panel.scatter([b.said for b in bins], [b.right for b in bins], s=sizes, color="#2171b5", alpha=0.8)
    panel.set_xlabel("value of the step (area: share of steps)")
    panel.set_xlim(-0.03, 1.03)
    panel.set_ylim(-0.03, 1.03)
    panel.grid(True, color="#dddddd", linewidth=0.6)


def table(found: Judged, calibration: Calibration) -> list[str]:
    """One line a family and one for all: ECE and negative log-likelihood before and after."""
    lines = [f"| family | steps, right | ECE ({BINS} bins) before | after | nll before | after |", "|---|---|---|---|---|---|"]
    for name, part in [*((family, found.of(family)) for family in FAMILY), ("all", found)]:
        values, labels = upto_first_wrong(part)
        after = scaled(values, calibration.temperature).tolist()
        calibrated = [ece(values, labels, BINS), ece(after, labels, BINS), nll(values, labels), nll(after, labels)]
        share = sum(labels) / len(labels)
        lines.append(f"| {name} | {len(labels)}, {share:.3f} | {' | '.join(f'{each:.3f}' for each in calibrated)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--generator", default="bundled")
    parser.add_argument("--problems", type=int, default=80, help="of each family and split")
    parser.add_argument("--each", type=int, default=8, help="solutions of a problem")
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the temperature beside the model")
    options = parser.parse_args()
    folder = locate(options.model, "reward")
    if options.write and (isinstance(folder, str) or options.model == "bundled"):
        parser.error(f"--write needs a folder of your own, not '{options.model}'")
    verifier, _ = load_verifier(Part("prm", {"model": options.model}))
    dev = upto_first_wrong(judged(verifier, pool(options.generator, "validation", options.problems, options.each, SEED + 3)))
    calibration = fit(*dev, on=f"{', '.join(FAMILY)}: validation problems")
    found = judged(verifier, pool(options.generator, "test", options.problems, options.each, SEED + 4))
    said = f"temperature {calibration.temperature:.3f}, fitted on {calibration.steps} steps"
    sys.stdout.write("\n".join([*table(found, calibration), said]) + "\n")
    values, labels = upto_first_wrong(found)
    if options.draw:
        after = scaled(values, calibration.temperature).tolist()
        draw(
            (values, labels), (after, labels), f"{options.model} reward model, T = {calibration.temperature:.2f}", options.draw
        )
    if options.write:
        write(calibration, Path(folder))


if __name__ == "__main__":
    main()
