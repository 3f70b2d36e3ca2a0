"""Names on a map: where each is written, so that none covers another and no two lines to their topics cross."""

from __future__ import annotations

import math
from dataclasses import dataclass
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Point = tuple[float, float]

CHARACTER_WIDTH, WIDE_CHARACTER_WIDTH = 0.6, 1.05
"""Mean widths of a character of a bold sans-serif font, and of one of East Asia, as fractions of its size."""
LINE_HEIGHT = 1.3
DIRECTIONS = 16
RADII_PX = (0.0, 22.0, 36.0, 52.0, 70.0, 92.0, 118.0, 150.0, 190.0, 240.0, 300.0, 370.0)
ATTEMPTS = 5
CELL_PX = 8
GAP_PX = 4.0
OWN_WEIGHT, OTHERS_WEIGHT = 0.4, 2.5
"""What it costs to cover points that a name names, and those of others, whose name it would seem to be."""
LEADER_FROM_PX = 18.0
LINE_CHARACTERS = 18


@dataclass(frozen=True, slots=True)
class MapName:
    """A name to place: its lines, the font size, its anchor in pixels (downwards), and whether it may cover that.

    ``own`` says which points it names, bool (n,).
    """

    lines: tuple[str, ...]
    font_px: float
    anchor: Point
    may_cover: bool = True
    own: NDArray[np.bool_] | None = None

    @property
    def size(self) -> Point:
        """Width and height of its text."""
        width = max(map(_text_width, self.lines)) * self.font_px
        return width, len(self.lines) * self.font_px * LINE_HEIGHT


def _text_width(text: str) -> float:
    """The width of a text in multiples of the font size."""
    wide = 0 if text.isascii() else sum(east_asian_width(character) in "WF" for character in text)
    return (len(text) - wide) * CHARACTER_WIDTH + wide * WIDE_CHARACTER_WIDTH


def two_lines(name: str, width: int = LINE_CHARACTERS) -> tuple[str, ...]:
    """Break a name into at most two lines of similar length; a longer rest is cut.

    >>> two_lines("client library for the API")
    ('client library', 'for the API')
    """
    if len(name) <= width:
        return (name,)
    spaces = [at for at, character in enumerate(name) if character == " "]
    if not spaces:
        return (_cut(name, int(1.6 * width)),)
    at = min(spaces, key=lambda space: max(space, len(name) - space - 1))
    limit = max(width, int(1.4 * width))
    return _cut(name[:at], limit), _cut(name[at + 1 :], limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def place_names(names: list[MapName], points: NDArray[np.float64], size: Point) -> list[Point | None]:
    """Return the center in pixels of each name on a plot of a size; None for one without any space.

    The first names choose first; if one finds no space, it chooses first in another attempt. A name prefers places near
    its anchor where few points are, least of all those that others name; it covers no other name, and its line crosses
    no other line, nor a name unless a name would find no space.
    """
    covered = [_covered(points, size, name.own) for name in names]
    order = list(range(len(names)))
    best: list[Point | None] = [None] * len(names)
    for attempt in range(ATTEMPTS):
        placed = _place_in_order([names[at] for at in order], [covered[at] for at in order], size, strict=not attempt)
        centers = dict(zip(order, placed, strict=True))
        missing = [at for at in order if centers[at] is None]
        if not attempt or len(missing) < sum(center is None for center in best):
            best = [centers[at] for at in range(len(names))]
        if not missing:
            break
        order = missing + [at for at in order if centers[at] is not None]
    return best


def _place_in_order(
    names: list[MapName], covered: list[NDArray[np.float64]], size: Point, *, strict: bool
) -> list[Point | None]:
    """Place the names one after the other; unless ``strict``, lines may go behind names, which have a halo."""
    boxes: list[Box] = []
    leaders: list[tuple[Point, Point]] = []
    centers: list[Point | None] = []
    anchors = [name.anchor for name in names]
    for name, under in zip(names, covered, strict=True):
        best: tuple[float, Point, Box] | None = None
        width, height = name.size
        for radius in RADII_PX:
            for direction in range(DIRECTIONS if radius else 1):
                angle = 2 * np.pi * direction / DIRECTIONS - np.pi / 2
                # Names are wider than high: their places are on an ellipse.
                x = name.anchor[0] + (radius + width * 0.35 * (radius > 0)) * float(np.cos(angle))
                y = name.anchor[1] + radius * float(np.sin(angle))
                x = float(np.clip(x, width / 2, size[0] - width / 2))
                y = float(np.clip(y, height / 2, size[1] - height / 2))
                box = (x - width / 2 - GAP_PX, y - height / 2, x + width / 2 + GAP_PX, y + height / 2)
                if any(_overlaps(box, other) for other in boxes):
                    continue
                if strict and any(_crosses_box(leader, box) for leader in leaders):
                    continue
                end = nearest_in(box, name.anchor)
                if end == name.anchor and not name.may_cover:
                    continue
                leader = (end, name.anchor)
                if any(_cross(leader, other) for other in leaders):
                    continue
                if strict and any(_crosses_box(leader, other) for other in boxes):
                    continue
                distance = math.dist(end, name.anchor)
                hidden = sum(box[0] < a[0] < box[2] and box[1] < a[1] < box[3] for a in anchors if a != name.anchor)
                cost = 2 * _sum(under, box) + distance / 60 + 0.6 * hidden
                if best is None or cost < best[0]:
                    best = (cost, (x, y), box)
        centers.append(None if best is None else best[1])
        if best is not None:
            boxes.append(best[2])
            end = nearest_in(best[2], name.anchor)
            if np.hypot(end[0] - name.anchor[0], end[1] - name.anchor[1]) > LEADER_FROM_PX:
                leaders.append((end, name.anchor))
    return centers


def nearest_in(box: Box, point: Point) -> Point:
    """The place in a box that is nearest to a point."""
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _covered(points: NDArray[np.float64], size: Point, own: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Cumulative sums of the share of points by cells of the plot, relative to the mean of the cells with points.

    Points that others name count several times.
    """
    shape = (int(size[1] // CELL_PX) + 1, int(size[0] // CELL_PX) + 1)
    at = np.clip((points / CELL_PX).astype(np.int64), 0, np.array(shape[::-1]) - 1)
    cells = at[:, 1] * shape[1] + at[:, 0]
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    used = counts > 0
    level = np.minimum(counts / max(float(counts[used].mean()) if used.any() else 1.0, 1e-9), 3.0)
    if own is not None:
        others = np.bincount(cells[~own], minlength=counts.size).reshape(shape)
        level *= OWN_WEIGHT + (OTHERS_WEIGHT - OWN_WEIGHT) * others / np.maximum(counts, 1)
    sums = np.zeros((shape[0] + 1, shape[1] + 1))
    sums[1:, 1:] = level.cumsum(axis=0).cumsum(axis=1)
    return sums


def _sum(sums: NDArray[np.float64], box: Box) -> float:
    """The mean level in a box."""
    left, top, right, bottom = (int(max(edge, 0) // CELL_PX) for edge in box)
    right, bottom = min(right + 1, sums.shape[1] - 1), min(bottom + 1, sums.shape[0] - 1)
    left, top = min(left, right - 1), min(top, bottom - 1)
    total = float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
    return total / float((right - left) * (bottom - top))


def _overlaps(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _cross(a: tuple[Point, Point], b: tuple[Point, Point]) -> bool:
    """Whether two lines cross."""

    def side(start: Point, end: Point, point: Point) -> float:
        return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])

    return side(*a, b[0]) * side(*a, b[1]) < 0 and side(*b, a[0]) * side(*b, a[1]) < 0


def _crosses_box(line: tuple[Point, Point], box: Box) -> bool:
    """Whether a line has a part inside of a box."""
    (x0, y0), (x1, y1) = line
    start, end = 0.0, 1.0
    for origin, delta, low, high in ((x0, x1 - x0, box[0], box[2]), (y0, y1 - y0, box[1], box[3])):
        if abs(delta) < 1e-9:
            if not low < origin < high:
                return False
            continue
        near, far = sorted(((low - origin) / delta, (high - origin) / delta))
        start, end = max(start, near), min(end, far)
    return end - start > 1e-6
