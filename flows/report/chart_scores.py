"""The charts of a verifier's scores: their calibration, and how they go with the length of a solution."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from flows.report.chart_records import Bin, Estimate
from flows.report.chart_style import WIDTH, Chart, band, bar, interval, line, mark, rule, settings
from flows.report.chart_text import (
    ROW,
    about,
    between,
    brief,
    counts,
    known,
    legend,
    listed,
    share,
    shares,
    width,
    write,
)

LEFT, RIGHT = 48.0, 20.0
TALL = 460.0
BELOW = 70.0  # pixels of a histogram under a panel
HEADS = {"right": "share right", "mean score": "mean score"}


@settings()
def calibration(bins: Sequence[Bin], heading: str = "") -> Chart:
    """Reliability: the share right against the mean score, a point a bin, and how many solutions each holds.

    ValueError where no bin has both.
    """
    found = [each for each in bins if known(each.score.value) is not None and known(each.right.value) is not None]
    if not found:
        raise ValueError("nothing to draw: no bin has a known score and share right")
    chart = Chart(heading or "Calibration of the verifier", TALL)
    axes = chart.panel(LEFT, 34, RIGHT, 52 + BELOW + 30)
    shares(axes, [0.0, 1.0])
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(labelbottom=False)
    rule(axes, [0, 1], [0, 1], "faint", linestyle=(0, (4, 3)))
    points = sorted(((float(b.score.value or 0.0), float(b.right.value or 0.0), b) for b in found), key=lambda each: each[0])
    line(axes, [x for x, _, _ in points], [y for _, y, _ in points], 0)
    for x, y, each in points:
        _limits(axes, x, each.right, 0)
        span = f"scores {share(each.low)} to {share(each.high)}"
        mark(axes, x, y, 0, f"{span}: mean {share(x)}, right {between(each.right)}, {_number(each.count, 'solution')}")
    _histogram(chart, [(each.low, each.high, each) for each in bins], axes.get_xlim(), [0, 0.2, 0.4, 0.6, 0.8, 1], "{:.1f}")
    write(chart, 8, 18, about(heading, "share right (dashed: as the score says)"))
    write(chart, LEFT + (WIDTH - LEFT - RIGHT) / 2, TALL - 10, "verifier's score", "center")
    said = [f"score {share(x)}: right {share(y)} of {each.count:,}" for x, y, each in points]
    chart.says = listed(said, len(bins) - len(found))
    return chart


@settings()
def length_bias(bins: Sequence[Bin], unit: str = "tokens", heading: str = "") -> Chart:
    """The share right and the mean score by the length of the solution. ValueError where no bin has either.

    A verifier that prefers long or short solutions has a score that parts from the share right along the axis.
    """
    bins = sorted(bins, key=lambda each: each.low)
    parts = (("right", [each.right for each in bins]), ("mean score", [each.score for each in bins]))
    kinds = [(i, name, found) for i, (name, found) in enumerate(parts) if any(known(each.value) is not None for each in found)]
    ends = [y for _, _, found in kinds for each in found for y in _known_ends(each)]
    if not ends:
        raise ValueError("nothing to draw: no bin has a known score or share right")
    chart = Chart(heading or "Accuracy and score by the length of the solution", TALL)
    axes = chart.panel(LEFT, 34, RIGHT, 52 + BELOW + 30 + ROW)
    start = shares(axes, ends)
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_xticks([])
    for series, name, found in kinds:
        places = [(i, float(each.value or 0.0), each) for i, each in enumerate(found) if known(each.value) is not None]
        if len(places) > 1:
            xs = [float(i) for i, _, _ in places]
            sides = [_known_ends(each) for _, _, each in places]
            band(axes, xs, [each[0] for each in sides], [each[-1] for each in sides], series)
            line(axes, xs, [y for _, y, _ in places], series)
        for i, y, each in places:
            mark(axes, i, y, series, f"{_span(bins[i], unit)}: {name} {between(each)}, {_number(bins[i].count, 'solution')}")
    spans = [(i - 0.5, i + 0.5, each) for i, each in enumerate(bins)]
    histogram = _histogram(chart, spans, axes.get_xlim(), [], "", ROW)
    _lengths(histogram, bins)
    above = f" (the axis begins at {start:.1f})" if start else ""
    write(chart, 8, 18, about(heading, ", and ".join(HEADS[name] for _, name, _ in kinds) + above))
    write(chart, LEFT + (WIDTH - LEFT - RIGHT) / 2, TALL - 10 - ROW, f"length of the solution, {unit}", "center")
    if len(kinds) == len(parts):
        legend(chart, [name for _, name, _ in kinds], "line")
    said = [f"{_span(each, unit)}: right {between(each.right)}, score {between(each.score)}" for each in bins]
    chart.says = listed(said)
    return chart


def _histogram(
    chart: Chart,
    spans: Sequence[tuple[float, float, Bin]],
    ends: tuple[float, float],
    ticks: Sequence[float],
    form: str,
    foot: float = 0,
) -> Axes:
    """How many solutions each bin holds, under the panel."""
    top = chart.height - 52 - BELOW - foot
    axes = chart.panel(LEFT, top, RIGHT, 52 + foot)
    axes.set_xlim(*ends)
    axes.set_xticks(ticks, [form.format(each) for each in ticks])
    counts(axes, max(each.count for _, _, each in spans))
    for low, high, each in spans:
        if each.count:
            bar(axes, (low, 0), high - low, each.count, 6, f"{_ends(each)}: {_number(each.count, 'solution')}")
    write(chart, 8, top - 10, "solutions")
    return axes


def _lengths(axes: Axes, bins: Sequence[Bin]) -> None:
    """The lengths of each bin under its bar, of as many as there is room for: between two bins there may be none."""
    spans = [brief(each.low) if each.low == each.high else f"{brief(each.low)} to {brief(each.high)}" for each in bins]
    thin = math.ceil(len(spans) * (max(width(each) for each in spans) + 10) / (WIDTH - LEFT - RIGHT))
    axes.set_xticks(range(0, len(spans), thin), spans[::thin])


def _span(of: Bin, unit: str) -> str:
    return f"{_ends(of)} {unit}"


def _ends(of: Bin) -> str:
    return f"{of.low:,g}" if of.low == of.high else f"{of.low:,g} to {of.high:,g}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _known_ends(of: Estimate) -> list[float]:
    value, low, high = known(of.value), known(of.low), known(of.high)
    if value is None:
        return []
    return [value] if low is None or high is None else sorted([low, value, high])


def _limits(axes: Axes, x: float, of: Estimate, series: int) -> None:
    ends = _known_ends(of)
    if len(ends) > 1:
        interval(axes, x, ends[0], ends[-1], series)


__all__ = ["calibration", "length_bias"]
