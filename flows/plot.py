"""Accuracy against tokens as an SVG: small, without a library, the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 20, 44
LETTERS = 34  # of a label
COLOURS = ("#1b6ca8", "#b5541c", "#3c7a3c", "#7a3c78", "#8a6d1d", "#2a7f7f", "#9c2f4a", "#555555")


@dataclass(frozen=True, slots=True)
class Point:
    """One run."""

    name: str
    tokens: float  # a problem, above 0
    accuracy: float  # in [0, 1]
    low: float  # its interval
    high: float


def scatter(points: Sequence[Point]) -> str:
    """The points with their intervals, tokens on a log scale."""
    first, last = _decades(points)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]

    def x(tokens: float) -> float:
        return LEFT + (math.log10(tokens) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for tick in _ticks(first, last):
        out.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:,.0f}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">tokens a problem</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2:.0f}" transform="rotate(-90 14 {HEIGHT / 2:.0f})">accuracy</text>')
    taken: list[float] = []
    for i, point in enumerate(sorted(points, key=lambda each: (each.tokens, each.name))):
        out += _mark(point, x(point.tokens), y, COLOURS[i % len(COLOURS)], taken)
    return "\n".join([*out, "</svg>"]) + "\n"


def _mark(point: Point, x: float, y: object, colour: str, taken: list[float]) -> list[str]:
    assert callable(y)
    label = point.name if len(point.name) <= LETTERS else point.name[: LETTERS - 1] + "…"
    at, before = y(point.accuracy), x > WIDTH * 0.6
    row = at
    while any(abs(row - other) < 12 for other in taken):  # labels in rows of their own
        row += 12
    taken.append(row)
    anchor, side = ("end", -8) if before else ("start", 8)
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{colour}" opacity="0.5"/>',
        f'<circle cx="{x:.1f}" cy="{at:.1f}" r="4" fill="{colour}"><title>{escape(point.name)}</title></circle>',
        f'<text x="{x + side:.1f}" y="{row + 4:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(label)}</text>',
    ]


def _decades(points: Sequence[Point]) -> tuple[float, float]:
    """The ends of the log scale, with some room."""
    logs = [math.log10(point.tokens) for point in points]
    low, high = min(logs), max(logs)
    room = max((high - low) * 0.08, 0.15)
    return low - room, high + room


def _ticks(first: float, last: float) -> list[float]:
    steps = [m * 10.0**e for e in range(math.floor(first), math.ceil(last) + 1) for m in (1, 2, 5)]
    return [step for step in steps if first <= math.log10(step) <= last]


__all__ = ["Point", "scatter"]
