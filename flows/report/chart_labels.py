"""Where the labels of points stand: near their points, on no other label and no mark, by a greedy search that is repeated.
Points that hide each other have one label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 3.0  # pixels between a mark and its label
OVER = (0.0, 12.0, 28.0, 50.0, 80.0)  # pixels further to the side
STEP, STEPS = 7.0, 14  # up and down
HITS, CROSSES, OUT = 1e6, 40.0, 1e7  # what it costs, in pixels away
ROUNDS = 4
HIDDEN = 8.0  # pixels: marks so near hide each other
FAR = 24.0  # pixels: a label that stands further from its point is taken for another's


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels from the left and from the top."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.top <= other.top and other.bottom <= self.bottom


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds them all."""
    sides = [(each.left, each.top, each.right, each.bottom) for each in boxes]
    lefts, tops, rights, bottoms = zip(*sides, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


def crowded(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """The points by crowds of those that hide each other, from left to right."""
    crowds: list[list[int]] = []
    for i in sorted(range(len(points)), key=lambda each: (*points[each], each)):
        near = next((crowd for crowd in crowds if _hides(points[crowd[0]], points[i])), None)
        if near is None:
            crowds.append([i])
        else:
            near.append(i)
    return [sorted(crowd) for crowd in crowds]


def _hides(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return abs(a[0] - b[0]) < HIDDEN and abs(a[1] - b[1]) < HIDDEN


def placed(marks: Sequence[Box], sizes: Sequence[tuple[float, float]], within: Box, lines: Sequence[Box] = ()) -> list[Box]:
    """A box for each mark's label, of the given width and height; lines may be crossed where there is no other place.

    Each takes the best place beside the others'; then each again, until none moves.
    """
    choices = [_choices(mark, size) for mark, size in zip(marks, sizes, strict=True)]
    order = sorted(range(len(marks)), key=lambda each: (marks[each].left, marks[each].top, each))
    taken: dict[int, Box] = {}
    for _ in range(ROUNDS):
        before = dict(taken)
        for i in order:
            others = [*marks, *(box for j, box in taken.items() if j != i)]
            taken[i] = _best(choices[i], others, within, lines)
        if taken == before:
            break
    return [taken[i] for i in range(len(marks))]


def fits(boxes: Sequence[Box], marks: Sequence[Box]) -> bool:
    """Whether the labels are apart, and each is near its own mark."""
    apart = not any(box.meets(other) for i, box in enumerate(boxes) for other in (*boxes[:i], *marks))
    return apart and all(_gap(mark, box) <= FAR for mark, box in zip(marks, boxes, strict=True))


def _choices(mark: Box, size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Boxes about a mark, nearest first, each with how far away it is."""
    (wide, high), y = size, (mark.top + mark.bottom) / 2
    left, right, x = mark.left - GAP, mark.right + GAP, (mark.left + mark.right) / 2
    tops = [y - high / 2 + STEP * i for i in range(-STEPS, STEPS + 1)]
    boxes = [Box(right + over, top, right + over + wide, top + high) for over in OVER for top in tops]
    boxes += [Box(left - over - wide, top, left - over, top + high) for over in OVER for top in tops]
    boxes += [Box(x - wide / 2, top, x + wide / 2, top + high) for top in tops]
    return sorted(((_away(mark, box), box) for box in boxes), key=lambda each: each[0])


def _gap(mark: Box, box: Box) -> float:
    across = max(box.left - mark.right, mark.left - box.right, 0.0)
    return math.hypot(across, max(box.top - mark.bottom, mark.top - box.bottom, 0.0))


def _away(mark: Box, box: Box) -> float:
    # beside its mark a label is read as its name, best at the height of the mark; under another's it is not
    return _gap(mark, box) + 0.25 * abs((box.top + box.bottom) / 2 - (mark.top + mark.bottom) / 2)


def _best(choices: Sequence[tuple[float, Box]], others: Sequence[Box], within: Box, lines: Sequence[Box]) -> Box:
    best, least = choices[0][1], math.inf
    for away, box in choices:
        if away >= least:
            break
        cost = away + sum(box.meets(other) for other in others) * HITS
        cost += sum(box.meets(each) for each in lines) * CROSSES + (0.0 if within.holds(box) else OUT)
        if cost < least:
            best, least = box, cost
    return best


__all__ = ["Box", "around", "crowded", "fits", "placed"]
