"""The charts of accuracy: against cost, along a curve, by seed, and over time. `svg` writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from flows.report.chart_bars import costs, losses
from flows.report.chart_labels import Box, around, crowded, fits, placed
from flows.report.chart_points import BOTTOM, LEFT, RIGHT, TOP, above, ends_of, plot_estimate, point, titles
from flows.report.chart_records import Curve, Estimate, RunPoint, SeedPoint
from flows.report.chart_scores import calibration, length_bias
from flows.report.chart_style import SIZE, WIDTH, Chart, band, colour, line, names, rule, settings
from flows.report.chart_text import (
    ROW,
    about,
    amount,
    between,
    brief,
    known,
    label,
    legend,
    legend_rows,
    listed,
    logarithmic,
    share,
    shares,
    width,
    write,
)
from flows.report.chart_times import trend

NEAR = 9.0  # pixels: a label that stands further from its point has a line to it
LABELLED = 12  # points with their names beside them; of more the numbers, with the names below


# ----------------------------------------------------------------------------------------------------- accuracy and cost


@settings()
def accuracy_against_tokens(runs: Sequence[RunPoint], heading: str = "") -> Chart:
    """Runs by generated tokens a problem (log) and accuracy, with the Pareto front. ValueError where none is known.

    The order of the runs is that of their colours. Their names stand beside the points where there is room for all of them.
    """
    points = [_run(i, each) for i, each in enumerate(runs) if known(each.accuracy.value) is not None and above(each.tokens)]
    if not points:
        raise ValueError("nothing to draw: no run has a known accuracy and tokens")
    if len(points) <= LABELLED and (chart := _against_tokens(runs, points, heading, numbered=False)):
        return chart
    chart = _against_tokens(runs, points, heading, numbered=True)
    assert chart is not None
    return chart


def _against_tokens(
    runs: Sequence[RunPoint], points: Sequence[tuple[int, float, Estimate, float]], heading: str, numbered: bool
) -> Chart | None:
    """`numbered`: with numbers beside the points and the names below; else None where the names crowd each other."""
    shown = [label(each.name) for each in runs]
    listing = [f"{i + 1}  {each}" for i, each in enumerate(shown)]
    rows = legend_rows(listing) if numbered else []
    chart = Chart(heading or "Accuracy against generated tokens a problem", 400 + ROW * len(rows))
    axes = chart.panel(LEFT, TOP, RIGHT, BOTTOM + ROW * len(rows))
    start = shares(axes, [y for _, _, of, value in points for y in ends_of(of, value)])
    logarithmic(axes, [tokens for _, tokens, _, _ in points], 10, brief)
    front = _front([(tokens, value) for _, tokens, _, value in points], axes.get_xlim()[1])
    rule(axes, *front, "front", linestyle=(0, (4, 2)))
    places = [chart.pixels(axes, tokens, value) for _, tokens, _, value in points]
    for series, tokens, of, _ in points:
        tip = f"{label(runs[series].name, 200)}: {between(of)}, {amount(tokens)} tokens a problem"
        plot_estimate(axes, tokens, of, series, tip)
    titles(chart, "accuracy", start, "generated tokens a problem (log scale)", ROW * len(rows))
    corners = [chart.pixels(axes, x, y) for x, y in zip(*front, strict=True)]
    lines = [_around(a, b) for a, b in pairwise(corners)]
    for _, tokens, of, value in points:
        ends = ends_of(of, value)
        lines.append(_around(chart.pixels(axes, tokens, ends[0]), chart.pixels(axes, tokens, ends[-1])))
    panel = Box(LEFT, TOP - 6, WIDTH - 4, chart.pixels(axes, points[0][1], axes.get_ylim()[0])[1])
    if numbered:
        named = [(crowd, ", ".join(str(points[each][0] + 1) for each in crowd)) for crowd in crowded(places)]
    else:
        named = [([each], shown[points[each][0]]) for each in range(len(points))]
    if not _labels(chart, places, named, [series for series, *_ in points], panel, lines) and not numbered:
        return None
    if numbered:
        legend(chart, listing, "mark")
    said = [f"{shown[i]}: {share(value)} at {amount(tokens)} tokens" for i, tokens, _, value in points]
    chart.says = listed(said, len(runs) - len(points))
    return chart


def _run(series: int, of: RunPoint) -> tuple[int, float, Estimate, float]:
    return series, float(of.tokens or 0.0), of.accuracy, float(of.accuracy.value or 0.0)


def _front(points: Sequence[tuple[float, float]], end: float) -> tuple[list[float], list[float]]:
    """The steps of the best accuracy for at most so many tokens, to the end of the axis."""
    xs: list[float] = []
    ys: list[float] = []
    for tokens, value in sorted(points, key=lambda each: (each[0], -each[1])):
        if not ys or value > ys[-1]:
            xs += [tokens] * (2 if ys else 1)
            ys += [ys[-1], value] if ys else [value]
    return [*xs, end], [*ys, ys[-1]]


def _labels(
    chart: Chart,
    places: Sequence[tuple[float, float]],
    named: Sequence[tuple[Sequence[int], str]],
    series: Sequence[int],
    panel: Box,
    lines: Sequence[Box],
) -> bool:
    """Writes names beside their points (a crowd has one), with a line to those that stand far. Whether each has found room."""
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    crowds = [around([marks[each] for each in crowd]) for crowd, _ in named]
    boxes = placed(crowds, [(width(text), SIZE) for _, text in named], panel, lines)
    for (crowd, text), box in zip(named, boxes, strict=True):
        own = [places[each] for each in crowd]
        ends = [((min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)), (x, y)) for x, y in own]
        nearest, (x, y) = min(ends, key=lambda each: math.dist(*each))
        if math.dist(nearest, (x, y)) > NEAR:
            i = series[crowd[0]]
            looks = {"color": colour(i), "linewidth": 1.0, "linestyle": "-"}
            chart.draw_line([x, nearest[0]], [y, nearest[1]], names("line", i), **looks)
        write(chart, box.left, box.bottom - 2, text, gid="over")
    return fits(boxes, crowds)


def _around(a: tuple[float, float], b: tuple[float, float]) -> Box:
    return Box(min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)


# ---------------------------------------------------------------------------------------------------------------- curves


@settings()
def curves(of: Sequence[Curve], along: Literal["samples", "tokens"] = "samples", heading: str = "") -> Chart:
    """pass@k and selectors against samples (log 2), or against tokens a problem (log 10), with their intervals as bands.

    ValueError where no point is known.
    """
    found = [
        [point(p.at, p.accuracy) for p in each.points if known(p.accuracy.value) is not None and above(p.at)] for each in of
    ]
    ends = [y for points in found for _, estimate, value in points for y in ends_of(estimate, value)]
    if not ends:
        raise ValueError("nothing to draw: no curve has a known point")
    shown = [label(each.name) for each in of]
    rows = legend_rows(shown)
    chart = Chart(heading or f"Accuracy against {along}", 400 + ROW * (len(rows) - 1))
    axes = chart.panel(LEFT, TOP, RIGHT, BOTTOM + ROW * len(rows))
    start = shares(axes, ends)
    places = [at for points in found for at, _, _ in points]
    logarithmic(axes, places, 2 if along == "samples" else 10, brief, room=0.03)
    what = "samples" if along == "samples" else "tokens"
    for series, points in enumerate(found):
        points.sort(key=lambda each: each[0])
        xs, ys = [at for at, _, _ in points], [value for _, _, value in points]
        if len(points) > 1:
            limits = [ends_of(estimate, value) for _, estimate, value in points]
            band(axes, xs, [each[0] for each in limits], [each[-1] for each in limits], series, len(found))
            line(axes, xs, ys, series)
        for at, estimate, _ in points:
            tip = f"{label(of[series].name, 200)}: {between(estimate)} at {amount(at)} {what}"
            plot_estimate(axes, at, estimate, series, tip, len(points) == 1)
    below = "samples a problem (log scale)" if along == "samples" else "generated tokens a problem (log scale)"
    titles(chart, about(heading, "accuracy"), start, below, ROW * len(rows))
    legend(chart, shown, "line")
    said = [
        f"{name}: {share(p[0][2])} at {amount(p[0][0])} to {share(p[-1][2])} at {amount(p[-1][0])} {what}"
        for name, p in zip(shown, found, strict=True)
        if p
    ]
    chart.says = listed(said, sum(len(each.points) for each in of) - len(places))
    return chart


# ----------------------------------------------------------------------------------------------------------------- seeds


@settings()
def accuracy_by_seed(points: Sequence[SeedPoint], heading: str = "") -> Chart:
    """Each run's accuracy seed by seed, with its mean over them. ValueError where none is known."""
    found = [each for each in points if known(each.accuracy.value) is not None]
    if not found:
        raise ValueError("nothing to draw: no seed has a known accuracy")
    names = list(dict.fromkeys(each.name for each in found))
    seeds = sorted({each.seed for each in found})
    shown = [label(each) for each in names] if len(names) > 1 or names[0] else []
    rows = legend_rows(shown)
    chart = Chart(heading or "Accuracy by seed", 400 + ROW * max(0, len(rows) - 1))
    axes = chart.panel(LEFT, TOP, RIGHT, BOTTOM + ROW * len(rows))
    values = [y for each in found for y in ends_of(each.accuracy, float(each.accuracy.value or 0.0))]
    start = shares(axes, values)
    axes.set_xlim(-0.6, len(seeds) - 0.4)
    thin = -(-len(seeds) // 16)
    axes.set_xticks(range(0, len(seeds), thin), [str(seed) for seed in seeds[::thin]])
    means = []
    for series, name in enumerate(names):
        own = [each for each in found if each.name == name]
        apart = 0.6 * ((series + 0.5) / len(names) - 0.5)
        mean = sum(float(each.accuracy.value or 0.0) for each in own) / len(own)
        means.append(f"{label(name) + ': ' if name else ''}mean {share(mean)} over {len(own)} seeds")
        line(axes, [-0.5, len(seeds) - 0.5], [mean, mean], series)
        for each in own:
            tip = f"{label(name, 200) + ', ' if name else ''}seed {each.seed}: {between(each.accuracy)}"
            plot_estimate(axes, seeds.index(each.seed) + apart, each.accuracy, series, tip)
    titles(chart, "accuracy, and its mean over the seeds as a line", start, "seed", ROW * len(rows))
    if shown:
        legend(chart, shown, "line")
    chart.says = listed(means, len(points) - len(found))
    return chart


__all__ = [
    "accuracy_against_tokens",
    "accuracy_by_seed",
    "calibration",
    "costs",
    "curves",
    "length_bias",
    "losses",
    "trend",
]
