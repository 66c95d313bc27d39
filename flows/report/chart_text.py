"""The texts of a chart: names that nobody vouches for, numbers, ticks, and a legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from flows.report.chart_records import Estimate
from flows.report.chart_style import FAINT, INK, SIZE, WIDTH, Chart, colour, marker, names, stroke
from flows.show import oneline

LONGEST = 38  # letters of a name: a legend has two of them in a line
ROW = 18.0  # pixels of a legend's line
SIDES = 12.0  # pixels at its left and right
SAID = 12  # of the things drawn, in the text alternative


# --------------------------------------------------------------------------------------------------------------- letters


def label(name: str, length: int = LONGEST) -> str:
    """A name in one line, at most so long, its control characters written out."""
    return oneline(name, length) or "(no name)"


def drawable(text: str) -> str:
    """The text with a box for what our font lacks, of which matplotlib would warn."""
    return "".join(each if ord(each) in _glyphs() else "\u25a1" for each in text)


def width(text: str, size: float = SIZE) -> float:
    """Pixels, in our font: an upper bound for most others."""
    return sum(_advance(each) for each in text) * size


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


@cache
def _advance(letter: str) -> float:
    """Of the size; what the font lacks, such as Chinese, is square."""
    if ord(letter) not in _glyphs():
        return 1.0
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(100, 72)
    return float(font.load_char(ord(letter)).linearHoriAdvance) / 65536 / 100


def write(chart: Chart, x: float, y: float, text: str, align: str = "left", gid: str = "ink") -> None:
    """A text whose baseline is y pixels from the top. `gid`: `over` for one that may stand over lines."""
    place: dict[str, Any] = {"transform": chart.transFigure, "ha": align, "va": "baseline", "fontsize": SIZE, "color": INK}
    chart.add_artist(Text(x / WIDTH, 1 - y / chart.height, drawable(text), gid=f"{gid}\n{text}", **place))


def about(heading: str, text: str) -> str:
    """What an axis says, behind the name of what is drawn, such as the one run of several."""
    return f"{label(heading)}: {text}" if heading else text


# --------------------------------------------------------------------------------------------------------------- numbers


def share(value: float) -> str:
    return f"{value:.3f}"


def amount(value: float) -> str:
    """1,234 or 12.3."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def brief(value: float) -> str:
    """For a tick: 1,500, 20k, 1.5M."""
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if letter == 'k' else least):g}{letter}"
    return f"{value:,g}"


def between(of: Estimate) -> str:
    """0.512 [0.401, 0.623]."""
    value = known(of.value)
    low, high = known(of.low), known(of.high)
    text = "not known" if value is None else share(value)
    return text if low is None or high is None else f"{text} [{share(low)}, {share(high)}]"


def known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def listed(said: Sequence[str], left_out: int = 0) -> str:
    """For the text alternative."""
    more = [f"and {len(said) - SAID} more"] if len(said) > SAID else []
    missing = [f"not known and not drawn: {left_out}"] if left_out else []
    return "; ".join([*said[:SAID], *more, *missing]) + "."


# ----------------------------------------------------------------------------------------------------------------- scales


def shares(axes: Axes, values: Iterable[float], whole: bool = False) -> float:
    """Sets y for shares: 0 to 1, or cut to tenths where all lie in less than half of that. Returns where it begins."""
    found = list(values)
    low, high = math.floor(min(found) * 10 + 1e-9) / 10, math.ceil(max(found) * 10 - 1e-9) / 10
    if whole or high - low > 0.5:
        low, high = 0.0, 1.0
    while high - low < 0.25:
        low, high = max(0.0, low - 0.1), min(1.0, high + 0.1)
    step = 0.2 if high - low > 0.6 else 0.1 if high - low > 0.25 else 0.05
    ticks = [round(low + step * i, 2) for i in range(round((high - low) / step) + 1)]
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:.2f}" if step < 0.1 else f"{tick:.1f}" for tick in ticks])
    return low


def logarithmic(axes: Axes, values: Iterable[float], base: int, shown: Callable[[float], str], room: float = 0.08) -> None:
    """Sets x to a log scale with round ticks: 1, 2, 5 of each decade, or powers of 2."""
    logs = [math.log(value, base) for value in values]
    low, high = min(logs), max(logs)
    wide = max((high - low) * room, 0.15)
    low, high = low - wide, high + wide
    axes.set_xscale("log", base=base)
    axes.set_xlim(base**low, base**high)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    ticks = _ticks(low, high, base)
    axes.set_xticks(ticks, [shown(tick) for tick in ticks])


def _ticks(low: float, high: float, base: int) -> list[float]:
    """The coarsest of 1; 1 and 3; 1, 2 and 5; ... that gives at least 3 ticks, in all at most 9."""
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    found: list[float] = []
    for factors in (
        ((1,),) if base == 2 else ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), [each / 10 for each in range(10, 100)])
    ):
        found = [m * float(base) ** power for power in powers for m in factors]
        found = [each for each in found if low <= math.log(each, base) <= high]
        if len(found) >= 3:
            break
    return found[:: math.ceil(len(found) / 9)]


def counts(axes: Axes, most: float) -> None:
    """Sets y for counts, from 0, with few round ticks."""
    axes.set_ylim(0, most * 1.05 or 1)
    ticks = [tick for tick in ticker.MaxNLocator(nbins=4, integer=True).tick_values(0, most) if tick <= most * 1.05]
    axes.set_yticks(ticks, [brief(tick) for tick in ticks])


# ----------------------------------------------------------------------------------------------------------------- legend


def legend_rows(shown: Sequence[str]) -> list[list[int]]:
    """Which names stand in which line; columns of one width."""
    if not shown:
        return []
    columns = max(1, int((WIDTH - 2 * SIDES) // (max(width(each) for each in shown) + 44)))
    return [list(range(i, min(i + columns, len(shown)))) for i in range(0, len(shown), columns)]


def legend(chart: Chart, shown: Sequence[str], kind: str) -> None:
    """Names by their series at the foot of the chart; `kind`: line (with its mark), mark, or bar."""
    rows = legend_rows(shown)
    columns = len(rows[0])
    wide = (WIDTH - 2 * SIDES) / columns if len(rows) > 1 else max(width(each) for each in shown) + 44
    for row, series_of in enumerate(rows):
        y = chart.height - ROW * (len(rows) - row) + 6
        for column, series in enumerate(series_of):
            x = SIDES + column * wide
            if kind == "bar":
                chart.draw_box(x + 8, y - 10, 14, 11, names("bar", series), colour(series))
            if kind == "line":
                chart.draw_line([x, x + 28], [y - 4, y - 4], names("line", series), **stroke(series))
            if kind in ("line", "mark"):
                chart.draw_line([x + 14], [y - 4], names("mark", series), **marker(series))
            write(chart, x + 34, y, shown[series])


__all__ = [
    "FAINT",
    "LONGEST",
    "ROW",
    "about",
    "amount",
    "between",
    "brief",
    "counts",
    "drawable",
    "known",
    "label",
    "legend",
    "legend_rows",
    "listed",
    "logarithmic",
    "share",
    "shares",
    "width",
    "write",
]
