"""A chart as SVG or PNG. The SVG has no styles and no ids, so that many stand on one page under a strict policy.

matplotlib's own SVG has both, and takes its text and its ids from settings of the process; `svg_elements` draws what a chart is
made of. matplotlib takes a second to import: only a chart that is written does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flows import places

if TYPE_CHECKING:
    from flows.report.chart_style import Chart

DPI = 200


def inline(chart: Chart) -> str:
    """One <svg> element for a page: it scales, and its colours are classes with attributes to fall back on."""
    from flows.report.svg_elements import element

    return element(chart)


def standalone(chart: Chart) -> str:
    """A whole SVG file, with its size in pixels."""
    from flows.report.svg_elements import element

    return f'<?xml version="1.0" encoding="utf-8"?>\n{element(chart, sized=True)}\n'


def files(chart: Chart, path: Path) -> None:
    """Writes an SVG, or a PNG of 200 dpi, by the ending. ValueError for another one, WriteError where it cannot be written."""
    from flows.report.chart_style import settings

    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a chart is written as .svg or .png, not as '{path}'")
    with places.making(path) as part:
        if path.suffix == ".svg":
            part.write_text(standalone(chart), encoding="utf-8")
        else:
            with settings():
                chart.savefig(part, dpi=DPI, format="png", facecolor="white", metadata={"Software": None})


__all__ = ["DPI", "files", "inline", "standalone"]
