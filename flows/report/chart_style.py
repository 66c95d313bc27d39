"""How charts look: colours that colour-blind readers tell apart, one canvas, and the marks that are put on it.

An artist's gid is its CSS classes and, after a newline, what a pointer is shown over it. Only `svg` reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle

WIDTH, HEIGHT = 640, 400  # pixels at 72 dpi, where a point is a pixel
SIZE = 12.0  # of text
INK, GRID, FAINT, PAPER, FRONT = "#222222", "#dddddd", "#8a8a8a", "#ffffff", "#555555"

# Okabe and Ito's, their yellow and black replaced by what shows on white and is no axis, and three more
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b", "#8c510a", "#6a51a3", "#a6a100")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)))

# what a reader's own matplotlibrc must not change
SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": False,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "lines.solid_capstyle": "butt",
    "path.simplify": False,
    "text.antialiased": True,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "timezone": "UTC",
    "xtick.color": INK,
    "xtick.labelsize": SIZE,
    "xtick.major.size": 4.0,
    "ytick.color": INK,
    "ytick.labelsize": SIZE,
    "ytick.major.size": 0.0,
}

_lock = threading.RLock()  # matplotlib's settings are the process's


@contextmanager
def settings() -> Iterator[None]:
    """Our settings, for one thread at a time."""
    with _lock, matplotlib.rc_context(SETTINGS):
        yield


class Chart(Figure):
    """A figure of 640 pixels' width, with its text alternative."""

    def __init__(self, heading: str, height: float = HEIGHT) -> None:
        super().__init__(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAPER)
        self.heading, self.height = heading, height
        self.says = ""  # what it shows, in words
        self.patch.set_gid("paper")

    def panel(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes at these distances from the edges, pixels, with a horizontal grid."""
        size = ((WIDTH - left - right) / WIDTH, (self.height - top - bottom) / self.height)
        axes = self.add_axes((left / WIDTH, bottom / self.height, *size))
        axes.patch.set_visible(False)
        axes.grid(True, axis="y", color=GRID, linewidth=0.8, gid="grid")
        return axes

    def pixels(self, axes: Axes, x: float, y: float) -> tuple[float, float]:
        """Where a value lies, from the left and from the top; the scales must be set."""
        across, up = axes.transData.transform((x, y))
        return float(across), self.height - float(up)

    def draw_line(self, xs: Sequence[float], ys: Sequence[float], gid: str, **looks: Any) -> None:
        """A line or a mark in pixels from the left and from the top."""
        xs, ys = [x / WIDTH for x in xs], [1 - y / self.height for y in ys]
        self.add_artist(Line2D(xs, ys, transform=self.transFigure, gid=gid, **looks))

    def draw_box(self, x: float, y: float, width: float, height: float, gid: str, colour: str) -> None:
        corner = (x / WIDTH, 1 - (y + height) / self.height)
        sides = (width / WIDTH, height / self.height)
        self.add_artist(Rectangle(corner, *sides, transform=self.transFigure, facecolor=colour, linewidth=0, gid=gid))


def colour(series: int) -> str:
    return COLOURS[series % len(COLOURS)]


def names(kind: str, series: int, tip: str = "") -> str:
    """The gid of a mark of a series: `line`, `mark`, `band` or `bar`."""
    return f"{kind} s{series % len(COLOURS)}" + (f"\n{tip}" if tip else "")


def marker(series: int) -> dict[str, Any]:
    """How a series' points look; no two of the first hundred look the same."""
    shape = MARKERS[(series + series // len(COLOURS)) % len(MARKERS)]
    size = {"o": 7.5, "s": 7.0, "D": 6.5, "P": 8.5, "X": 8.5}.get(shape, 8.0)
    edge = {"markeredgecolor": PAPER, "markeredgewidth": 0.8}
    return {"marker": shape, "markersize": size, "color": colour(series), "linestyle": "", **edge}


def stroke(series: int) -> dict[str, Any]:
    return {"color": colour(series), "linewidth": 1.8, "linestyle": DASHES[series % len(DASHES)]}


def mark(axes: Axes, x: float, y: float, series: int, tip: str) -> None:
    axes.add_line(Line2D([x], [y], zorder=4, clip_on=False, gid=names("mark", series, tip), **marker(series)))


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], series: int) -> None:
    axes.add_line(Line2D(xs, ys, zorder=3, clip_on=False, gid=names("line", series), **stroke(series)))


def rule(axes: Axes, xs: Sequence[float], ys: Sequence[float], kind: str, **looks: Any) -> None:
    """A line of no series: `faint` or `front`."""
    shown: dict[str, Any] = {"color": FRONT if kind == "front" else FAINT, "linewidth": 1.2, "zorder": 2, "clip_on": False}
    axes.add_line(Line2D(xs, ys, gid=kind, **{**shown, **looks}))


def interval(axes: Axes, x: float, low: float, high: float, series: int) -> None:
    looks: dict[str, Any] = {"color": colour(series), "linewidth": 1.4, "alpha": 0.6}
    axes.add_line(Line2D([x, x], [low, high], zorder=2.5, clip_on=False, gid=names("line", series), **looks))


def band(axes: Axes, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], series: int, of: int = 2) -> None:
    """`of`: bands in all; the more lie on each other, the lighter each is."""
    corners = [*zip(xs, lows, strict=True), *zip(reversed(xs), reversed(highs), strict=True)]
    looks: dict[str, Any] = {"facecolor": colour(series), "alpha": min(0.14, 0.3 / of), "linewidth": 0}
    axes.add_patch(Polygon(corners, zorder=1.5, clip_on=False, gid=names("band", series), **looks))


def bar(axes: Axes, corner: tuple[float, float], width: float, height: float, series: int, tip: str) -> None:
    looks: dict[str, Any] = {"facecolor": colour(series), "edgecolor": PAPER, "linewidth": 0.6, "zorder": 2}
    axes.add_patch(Rectangle(corner, width, height, clip_on=False, gid=names("bar", series, tip), **looks))


__all__ = [
    "COLOURS",
    "FAINT",
    "HEIGHT",
    "INK",
    "SIZE",
    "WIDTH",
    "Chart",
    "band",
    "bar",
    "colour",
    "interval",
    "line",
    "mark",
    "marker",
    "names",
    "rule",
    "settings",
    "stroke",
]
