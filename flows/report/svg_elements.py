"""What matplotlib draws, as elements of SVG."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.sax import saxutils
from xml.sax.saxutils import quoteattr

from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.transforms import Transform

from flows.report.chart_style import SIZE, WIDTH, Chart, settings

LETTERS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def element(chart: Chart, sized: bool = False) -> str:
    """One <svg>; `sized`: with its width and height, pixels."""
    size = f' width="{WIDTH}" height="{_short(chart.height)}"' if sized else ""
    drawn = Renderer(WIDTH, chart.height)
    with settings():
        chart.draw(drawn)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_short(chart.height)}"{size} role="img"'
    fonts = f' font-family="sans-serif" font-size="{_short(SIZE)}"'
    about = f"<title>{escape(chart.heading)}</title><desc>{escape(chart.says)}</desc>"
    return "\n".join([head + fonts + ">" + about, *drawn.elements, "</svg>"])


class Renderer(RendererBase):
    """Writes elements. It cuts nothing off: charts keep to their panels."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.elements: list[str] = []
        self._size = width, height
        self._gids: list[str] = []

    def open_group(self, s: str, gid: str | None = None) -> None:
        self._gids.append(gid or "")

    def close_group(self, s: str) -> None:
        self._gids.pop()

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self._size

    def draw_path(self, gc: GraphicsContextBase, path: Outline, transform: Transform, rgbFace: Any = None) -> None:
        self._add("path", f' d="{self._outline(path, transform)}"{_filled(gc, rgbFace)}{_stroked(gc)}')

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Outline,
        marker_trans: Transform,
        path: Outline,
        trans: Transform,
        rgbFace: Any = None,
    ) -> None:
        if marker_path is not Outline.unit_circle():
            super().draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
            return
        radius = marker_trans.transform((1, 0))[0] - marker_trans.transform((0, 0))[0]
        for x, y in trans.transform(path.vertices):
            place = f' cx="{_short(x)}" cy="{_short(self._size[1] - y)}" r="{_short(radius)}"'
            self._add("circle", place + _filled(gc, rgbFace) + _stroked(gc))

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        """A text, anchored where it was aligned: the page's font is of another width than ours."""
        aligned = mtext.get_horizontalalignment() if mtext else "left"
        share, anchor = {"center": (0.5, "middle"), "right": (1.0, "end")}.get(aligned, (0.0, ""))
        along = share * self.get_text_width_height_descent(s, prop, False)[0]
        x, y = x + along * math.cos(math.radians(angle)), y - along * math.sin(math.radians(angle))
        where = f' x="{_short(x)}" y="{_short(y)}"' + (f' text-anchor="{anchor}"' if anchor else "")
        size = prop.get_size_in_points()
        where += f' font-size="{_short(size)}"' if size != SIZE else ""
        where += f' transform="rotate({_short(-angle)} {_short(x)} {_short(y)})"' if angle else ""
        classes, _, whole = (self._gids[-1] if self._gids else "").partition("\n")
        fill = to_hex(gc.get_rgb())
        where += ' stroke="#ffffff" stroke-width="3" stroke-linejoin="round" paint-order="stroke"' if classes == "over" else ""
        self.elements.append(f'<text class={quoteattr(classes or "ink")}{where} fill="{fill}">{escape(whole or s)}</text>')

    def _add(self, tag: str, attributes: str) -> None:
        classes, _, tip = (self._gids[-1] if self._gids else "").partition("\n")
        head = f"<{tag} class={quoteattr(classes or 'ink')}{attributes}"
        self.elements.append(f"{head}><title>{escape(tip)}</title></{tag}>" if tip else f"{head}/>")

    def _outline(self, path: Outline, transform: Transform) -> str:
        out = []
        for corners, code in path.iter_segments(transform, remove_nans=True, simplify=False):
            letter = LETTERS[code]
            pairs = [] if letter == "Z" else [*zip(corners[::2], corners[1::2], strict=True)]
            out.append(letter + " ".join(f"{_short(x)} {_short(self._size[1] - y)}" for x, y in pairs))
        return "".join(out)


def _filled(gc: GraphicsContextBase, face: Any) -> str:
    if face is None:
        return ' fill="none"'
    alpha = gc.get_alpha() if gc.get_forced_alpha() else (face[3] if len(face) > 3 else 1.0)
    return f' fill="{to_hex(face)}"' + (f' fill-opacity="{_short(alpha, 2)}"' if alpha < 1 else "")


def _stroked(gc: GraphicsContextBase) -> str:
    width, shade = gc.get_linewidth(), gc.get_rgb()
    alpha = gc.get_alpha() if gc.get_forced_alpha() else shade[3]
    if not width or not alpha:
        return ""
    dashes: Any = gc.get_dashes()[1]
    out = f' stroke="{to_hex(shade)}" stroke-width="{_short(width)}"'
    out += f' stroke-opacity="{_short(alpha, 2)}"' if alpha < 1 else ""
    return out + (f' stroke-dasharray="{" ".join(_short(each) for each in dashes)}"' if dashes is not None else "")


def escape(text: str) -> str:
    """As the content of an element; what XML cannot hold is a replacement character."""
    return saxutils.escape(FORBIDDEN.sub("\ufffd", text))


def _short(value: float, digits: int = 1) -> str:
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return "0" if text in ("-0", "") else text


__all__ = ["Renderer", "element", "escape"]
