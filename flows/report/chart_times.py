"""Accuracy over time: a schedule's runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib.dates

from flows.report.chart_points import BOTTOM, LEFT, RIGHT, TOP, ends_of, plot_estimate, titles
from flows.report.chart_records import Moment
from flows.report.chart_style import Chart, line, rule, settings
from flows.report.chart_text import ROW, about, between, known, label, legend, listed, share, shares, write

dates: Any = matplotlib.dates  # it has no types


@settings()
def trend(moments: Sequence[Moment], bar: float | None = None, heading: str = "") -> Chart:
    """A schedule's accuracy over time, UTC, the bar that it must not fall below, and the runs that raised an alarm.

    ValueError where no accuracy is known.
    """
    found = sorted((each for each in moments if known(each.accuracy.value) is not None), key=_utc)
    if not found:
        raise ValueError("nothing to draw: no run of the schedule has a known accuracy")
    rows = ["accuracy", "alarm"] if any(each.alarm for each in found) else []
    chart = Chart(heading or "Accuracy over time")
    axes = chart.panel(LEFT, TOP, RIGHT, BOTTOM + (ROW if rows else 0))
    values = [y for each in found for y in ends_of(each.accuracy, float(each.accuracy.value or 0.0))]
    start = shares(axes, [*values, *([] if bar is None else [bar])])
    xs = [float(dates.date2num(_utc(each))) for each in found]
    room = (xs[-1] - xs[0]) * 0.03 or 0.5
    axes.set_xlim(xs[0] - room, xs[-1] + room)
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator := dates.AutoDateLocator(minticks=3, maxticks=8))
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    if bar is not None:
        rule(axes, axes.get_xlim(), [bar, bar], "front", linestyle=(0, (4, 2)))
        x, y = chart.pixels(axes, axes.get_xlim()[1], bar)
        write(chart, x, y + 14, f"bar {share(bar)}", "right")
    line(axes, xs, [float(each.accuracy.value or 0.0) for each in found], 0)
    for x, each in zip(xs, found, strict=True):
        alarm = f": {label(each.alarm, 200)}" if each.alarm else ""
        plot_estimate(axes, x, each.accuracy, int(bool(alarm)), f"{_time(each)}: {between(each.accuracy)}{alarm}")
    titles(chart, about(heading, "accuracy"), start, "", 0)
    if rows:
        legend(chart, rows, "mark")
    said = [f"{len(found)} runs from {_time(found[0])} to {_time(found[-1])}", f"last {between(found[-1].accuracy)}"]
    said += [f"{_time(each)}: {label(each.alarm, 80)}" for each in found if each.alarm]
    chart.says = listed(said, len(moments) - len(found))
    return chart


def _utc(of: Moment) -> datetime:
    return of.at.astimezone(UTC) if of.at.tzinfo else of.at.replace(tzinfo=UTC)


def _time(of: Moment) -> str:
    return _utc(of).strftime("%Y-%m-%d %H:%M UTC")


__all__ = ["trend"]
