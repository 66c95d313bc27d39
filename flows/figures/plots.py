"""Accuracy against cost, drawn: one SVG with two panels, against generated tokens and against verifier passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.figures.measured import Point, accuracies

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# by curve: colour and marker. Best-of-n's selectors are of one hue, trees of others; what is not here is grey
LOOKS: Mapping[str, tuple[str, str]] = {
    "best-of-n": ("#08306b", "o"),
    "weighted": ("#2171b5", "s"),
    "borda": ("#6baed6", "D"),
    "majority": ("#9ecae1", "v"),
    "beam": ("#238b45", "^"),
    "dvts": ("#74c476", "<"),
    "rebase": ("#8c510a", ">"),
    "particles": ("#e7298a", "P"),
    "astar": ("#d94801", "*"),
    "astar-rises": ("#7a0177", "X"),
    "astar-greedy": ("#000000", "X"),
    "first-finish": ("#969696", "h"),
}
OTHER = ("#525252", ".")
SIZE = (11.0, 5.2)  # inches


def draw(title: str, curves: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Writes the plot. The same points give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path", "font.size": 10}):
        figure, axes = pyplot.subplots(1, 2, figsize=SIZE, sharey=True, layout="constrained", facecolor="white")
        for panel, what, label in zip(axes, ("tokens", "passes"), ("generated tokens", "verifier passes"), strict=True):
            for name, points in curves.items():
                _curve(panel, name, points, what)
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:,.0f}")
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            panel.set_xlabel(f"{label} a problem (log scale)")
            panel.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axes[0].set_ylabel("accuracy, 95% interval over problems")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        figure.suptitle(title)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _curve(panel: Axes, name: str, points: Sequence[Point], what: str) -> None:
    """One line with its band; nothing where the cost is 0, which a log scale has no place for."""
    costs = np.array([getattr(point, what).mean() for point in points])
    if not costs.all():
        return
    order = np.argsort(costs)
    middle, low, high = np.array(accuracies(points))[order].T
    colour, marker = LOOKS.get(name, OTHER)
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 10 if marker == "*" else 5}
    if len(points) == 1:
        panel.errorbar(costs, middle, [middle - low, high - middle], linestyle="", capsize=2, label=name, **style)
        return
    panel.plot(costs[order], middle, label=name, linewidth=1.6, zorder=3 if name in ("astar", "best-of-n") else 2, **style)
    panel.fill_between(costs[order], low, high, color=colour, alpha=0.10, linewidth=0)


__all__ = ["LOOKS", "draw"]
