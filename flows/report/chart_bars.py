"""The charts of parts: costs, and where right answers were lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flows.report.chart_records import Losses, Stack
from flows.report.chart_style import WIDTH, Chart, bar, settings
from flows.report.chart_text import (
    ROW,
    amount,
    brief,
    counts,
    known,
    label,
    legend,
    legend_rows,
    listed,
    width,
    write,
)

NAMES = 255.0  # pixels, at most, for the names of bars
PITCH, THICK = 24.0, 16.0  # pixels from bar to bar, and of one
LEFT, RIGHT = 48.0, 20.0


# ----------------------------------------------------------------------------------------------------------------- costs


@settings()
def costs(of: Sequence[Stack], unit: str, as_shares: bool = False, heading: str = "") -> Chart:
    """A bar a run, stacked by what its cost went to, in `unit` or as shares of its whole. ValueError where nothing is known.

    Parts that are not known have no length; their order is that of their first run.
    """
    parts = _kinds(each.parts for each in of)
    if not parts or not any(_sum(each.parts) for each in of):
        raise ValueError("nothing to draw: no run has a known cost")
    shown, kinds = [label(each.name) for each in of], [label(each) for each in parts]
    rows, left = legend_rows(kinds), min(NAMES, max(width(each) for each in shown)) + 20
    chart = Chart(heading or f"Cost in {unit}", PITCH * len(of) + 74 + ROW * len(rows))
    axes = chart.panel(left, 12, 84, 48 + ROW * len(rows))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.8, gid="grid")
    axes.set_ylim(len(of) - 0.5, -0.5)
    axes.set_yticks([])
    most = 1.0 if as_shares else max(_sum(each.parts) for each in of)
    _along(axes, most, as_shares)
    for row, each in enumerate(of):
        _stack(axes, row, each, parts, unit, as_shares)
        y = chart.pixels(axes, 0, row)[1] + 4
        write(chart, left - 8, y, _fitting(shown[row], NAMES), "right")
        end = chart.pixels(axes, (1.0 if as_shares else _sum(each.parts)), row)[0]
        write(chart, end + 5, y, amount(_sum(each.parts)) if _sum(each.parts) < 1e6 else brief(round(_sum(each.parts), -4)))
    below = f"share of {unit}; their number at the right" if as_shares else unit
    write(chart, left + (WIDTH - left - 84) / 2, chart.height - ROW * len(rows) - 14, label(below, 60), "center")
    legend(chart, kinds, "bar")
    unknown = sum(known(each.parts.get(part)) is None for each in of for part in parts)
    chart.says = listed([f"{name}: {amount(_sum(each.parts))} {unit}" for name, each in zip(shown, of, strict=True)], unknown)
    return chart


def _stack(axes: Axes, row: int, of: Stack, parts: Sequence[str], unit: str, as_shares: bool) -> None:
    whole, begin = _sum(of.parts), 0.0
    for series, part in enumerate(parts):
        value = known(of.parts.get(part))
        if value:
            length = value / whole if as_shares else value
            tip = f"{label(of.name, 200)}, {label(part)}: {amount(value)} {unit} ({value / whole:.1%})"
            bar(axes, (begin, row - THICK / PITCH / 2), length, THICK / PITCH, series, tip)
            begin += length


def _along(axes: Axes, most: float, as_shares: bool) -> None:
    axes.set_xlim(0, most)
    ticks = [tick for tick in MaxNLocator(nbins=6).tick_values(0, most) if tick <= most * 1.001]
    axes.set_xticks(ticks, [f"{tick:.0%}" if as_shares else brief(tick) for tick in ticks])


def _fitting(text: str, room: float) -> str:
    while width(text) > room:
        text = text[:-2] + "…"
    return text


def _sum(parts: Mapping[str, float | None]) -> float:
    found = [known(each) or 0.0 for each in parts.values()]
    if min(found, default=0.0) < 0:
        raise ValueError(f"a part of a cost is 0 or more, not {min(found):g}")
    return sum(found)


def _kinds(of: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(part for parts in of for part in parts))


# ---------------------------------------------------------------------------------------------------------------- losses


@settings()
def losses(of: Sequence[Losses], heading: str = "Where right answers were lost", what: str = "right answers lost") -> Chart:
    """At which step right answers were lost (or what else `what` counts), stacked by cause. ValueError where none was."""
    causes = _kinds(each.causes for each in of)
    totals = {each.step: sum(each.causes.values()) for each in of}
    if not any(totals.values()):
        raise ValueError(f"nothing to draw: there are no {what}")
    shown = [label(each) for each in causes]
    rows = legend_rows(shown)
    chart = Chart(heading, 400 + ROW * (len(rows) - 1))
    axes = chart.panel(LEFT, 34, RIGHT, 50 + ROW * len(rows))
    first, last = min(totals), max(totals)
    axes.set_xlim(first - 0.6, last + 0.6)
    steps = range(first, last + 1, max(1, math.ceil((last - first) / 20)))
    axes.set_xticks(steps, [str(step) for step in steps])
    counts(axes, max(totals.values()))
    for each in of:
        begin = 0
        for series, cause in enumerate(causes):
            lost = each.causes.get(cause, 0)
            if lost:
                tip = f"step {each.step}, {shown[series]}: {lost:,} of {totals[each.step]:,}"
                bar(axes, (each.step - 0.4, begin), 0.8, lost, series, tip)
                begin += lost
    write(chart, 8, 18, what)
    write(chart, LEFT + (WIDTH - LEFT - RIGHT) / 2, chart.height - ROW * len(rows) - 10, "step", "center")
    legend(chart, shown, "bar")
    by_cause = [f"{name}: {sum(each.causes.get(cause, 0) for each in of):,}" for name, cause in zip(shown, causes, strict=True)]
    chart.says = listed([f"{sum(totals.values()):,} {what}, at steps {first} to {last}", *by_cause])
    return chart


__all__ = ["costs", "losses"]
