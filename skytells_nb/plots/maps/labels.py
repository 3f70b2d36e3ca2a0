"""Names written on a map with a halo, as annotations of the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.density import View
from skytells_nb.plots.maps.names import LEADER_FROM_PX, MapName, nearest_in, place_names, two_lines
from skytells_nb.plots.theme import GRAY, HALO_COLORS, Theme, escape_text

WIDTH_PX, HEIGHT_PX = 860, 620
"""The size of a figure in a notebook of usual width. Where it is drawn larger, names only have more space."""
SIDE_PX = 16
MIN_FONT_PX, MAX_FONT_PX = 11.0, 17.0
COUNT_FONT_PX = 10
FEW_ROWS = 5
"""The name of so few rows would hide them."""


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A name, its color, its place on the map, which points it names, and whether their number is written below it."""

    text: str
    color: str
    anchor: tuple[float, float]
    own: NDArray[np.bool_]
    with_count: bool = False

    @property
    def rows(self) -> int:
        """How many points it names."""
        return int(self.own.sum())


def write_names(
    figure: Any,
    names: list[WrittenName],
    points: NDArray[np.float64],
    view: View,
    plot_size: tuple[float, float],
    theme: Theme | None,
) -> int:
    """Write names on a map, the largest first; return the number of those without space."""
    left, right, bottom, top = view
    scale = np.array([plot_size[0] / (right - left), plot_size[1] / (top - bottom)])

    def to_pixels(at: Any) -> NDArray[np.float64]:
        pixels: NDArray[np.float64] = (np.asarray(at, dtype=np.float64).reshape(-1, 2) - (left, bottom)) * scale
        pixels[:, 1] = plot_size[1] - pixels[:, 1]
        return pixels

    most = max((name.rows for name in names), default=1)
    ordered = sorted(names, key=lambda name: -name.rows)
    placed = []
    for name in ordered:
        font = MIN_FONT_PX + (MAX_FONT_PX - MIN_FONT_PX) * (name.rows / most) ** 0.5
        lines = two_lines(name.text)
        count = (f"{name.rows:,}",) if name.with_count else ()
        x, y = to_pixels(name.anchor)[0].tolist()
        placed.append(MapName((*lines, *count), round(font, 1), (x, y), may_cover=name.rows > FEW_ROWS, own=name.own))
    centers = place_names(placed, to_pixels(points), plot_size)
    for name, box, center in zip(ordered, placed, centers, strict=True):
        if center is not None:
            figure.add_annotation(**_annotation(name, box, center, theme))
    return sum(center is None for center in centers)


def _annotation(name: WrittenName, box: MapName, center: tuple[float, float], theme: Theme | None) -> dict[str, Any]:
    lines = [escape_text(line) for line in box.lines[: len(box.lines) - name.with_count]]
    if name.with_count:
        lines.append(f'<span style="font-size:{COUNT_FONT_PX}px;font-weight:normal">{box.lines[-1]}</span>')
    width, height = box.size
    edges = (center[0] - width / 2, center[1] - height / 2, center[0] + width / 2, center[1] + height / 2)
    end = nearest_in(edges, box.anchor)
    shift = (center[0] - box.anchor[0], center[1] - box.anchor[1])
    halo = HALO_COLORS[theme]
    shadow = ", ".join([f"0 0 2px {halo}"] * 4 + [f"0 0 6px {halo}"] * 2)
    font = {"size": box.font_px, "color": name.color, "shadow": shadow, "weight": "bold"}
    where: dict[str, Any] = {"showarrow": False, "xshift": shift[0], "yshift": -shift[1]}
    if np.hypot(end[0] - box.anchor[0], end[1] - box.anchor[1]) > LEADER_FROM_PX:
        where = {"showarrow": True, "ax": shift[0], "ay": shift[1], "arrowhead": 0, "arrowwidth": 1}
        where |= {"arrowcolor": name.color if theme else GRAY, "standoff": 2, "opacity": 1}
    x, y = name.anchor
    return {"x": x, "y": y, "text": "<br>".join(lines), "font": font, "name": "cluster", "borderpad": 0, **where}
