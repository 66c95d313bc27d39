"""What the charts of accuracy share: an estimate as a mark with its interval, and what the axes say."""

from __future__ import annotations

from matplotlib.axes import Axes

from flows.report.chart_records import Estimate
from flows.report.chart_style import WIDTH, Chart, interval, mark
from flows.report.chart_text import known, write

LEFT, RIGHT, TOP, BOTTOM = 48.0, 20.0, 34.0, 50.0  # pixels about a panel
Drawn = tuple[float, Estimate, float]  # place, estimate, and its value


def above(value: float | None) -> bool:
    return (known(value) or 0.0) > 0


def point(at: float, of: Estimate) -> Drawn:
    return at, of, float(of.value or 0.0)


def ends_of(of: Estimate, value: float) -> list[float]:
    """The interval and the value in it, from low to high; the value alone where the interval is not known."""
    low, high = known(of.low), known(of.high)
    return [value] if low is None or high is None else sorted([low, value, high])


def plot_estimate(axes: Axes, x: float, of: Estimate, series: int, tip: str, limits: bool = True) -> None:
    value = float(of.value or 0.0)
    ends = ends_of(of, value)
    if limits and len(ends) > 1:
        interval(axes, x, ends[0], ends[-1], series)
    mark(axes, x, value, series, tip)


def titles(chart: Chart, above: str, start: float, below: str, foot: float) -> None:
    """What the axes say: y's over it, so that no text is turned."""
    write(chart, 8, 18, above + (f" (the axis begins at {start:.1f})" if start else ""))
    write(chart, LEFT + (WIDTH - LEFT - RIGHT) / 2, chart.height - foot - 13, below, "center")


__all__ = ["BOTTOM", "LEFT", "RIGHT", "TOP", "Drawn", "above", "ends_of", "plot_estimate", "point", "titles"]
