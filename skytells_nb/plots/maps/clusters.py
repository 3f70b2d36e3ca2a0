"""Labels and outlines of clusters on a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.column_types import category_names
from skytells_nb.plots.maps.density import robust_view
from skytells_nb.plots.maps.hues import text_color
from skytells_nb.plots.maps.labels import HEIGHT_PX, SIDE_PX, WIDTH_PX, WrittenName, write_names
from skytells_nb.plots.maps.points import LABEL_CHARACTERS
from skytells_nb.plots.pages.rows import ZoomName
from skytells_nb.plots.theme import GRAY, Theme, escape_text, graph_objects, plain_text, shorten, with_opacity
from skytells_nb.vectors.arrays import Floats, Indices

if TYPE_CHECKING:
    import pandas as pd

MAX_LABELS, NAME_CHARACTERS = 40, 60
CORE_SHARE = 0.8
CORE_MIN_POINTS = 5
FILL_OPACITY, FULL_OPACITY_MAX_CLUSTERS = 0.1, 8
OUTLINE_CORNERS = 60
HULL_PADDING = 0.012


def add_labels(
    figure: Any,
    points: Floats,
    values: pd.Series[Any],
    theme: Theme | None,
    *,
    colors: dict[str, str] | None = None,
    plot_size: tuple[float, float] | None = None,
) -> str:
    """Label the clusters at the medians of their points; return a note on labels that did not fit.

    Large clusters are labeled first. A label that would overlap another one, or hide many points, moves aside and gets
    a line to its cluster. Labels have the hue of ``colors``.
    """
    rows = _cluster_rows(values)
    # Of so many names, those of single rows would be any forty of them.
    named = [name for name in rows if len(rows[name]) > 1] if len(rows) > MAX_LABELS else rows
    labeled = sorted(named, key=lambda name: -len(rows[name]))[:MAX_LABELS]
    centers = {name: np.median(points[rows[name]], axis=0) for name in labeled}
    inks = {name: text_color((colors or {}).get(name, GRAY), theme) for name in labeled}
    if points.shape[1] == 3:
        annotations = []
        for name, center in centers.items():
            position = dict(zip("xyz", map(float, center), strict=True))
            style = {"font": {"size": 12, "color": inks[name]}, "name": "cluster", "showarrow": False}
            annotations.append({**position, "text": _display_name(name), **style})
        figure.update_scenes(annotations=annotations)
        omitted = len(rows) - len(labeled)
    else:
        names = [
            WrittenName(
                plain_text(name, NAME_CHARACTERS), inks[name], (float(x), float(y)), _mask(rows[name], len(points))
            )
            for name, (x, y) in centers.items()
        ]
        size = plot_size or (WIDTH_PX - 2 * SIDE_PX, HEIGHT_PX - 2 * SIDE_PX)
        omitted = len(rows) - len(labeled)
        omitted += write_names(figure, names, points.astype(np.float64), robust_view(points), size, theme)
    return f"{omitted:,} of {len(rows):,} labels omitted for lack of space" if omitted else ""


def label_names(points: Floats, values: pd.Series[Any], theme: Theme | None, colors: dict[str, str]) -> list[ZoomName]:
    """The names of all clusters at the medians of their points, for a closer look than the map gives."""
    found = []
    inks = {color: text_color(color, theme) for color in {GRAY, *colors.values()}}
    for name, rows in _cluster_rows(values).items():
        x, y = (np.median(points[rows], axis=0) if len(rows) > 1 else points[rows[0]]).tolist()
        found.append(ZoomName(name, x, y, len(rows), inks[colors.get(name, GRAY)]))
    return found


def add_hulls(figure: Any, points: Floats, values: pd.Series[Any], colors: dict[str, str]) -> None:
    """Outline the 80 % of the points of each cluster nearest to its median, in its color if ``colors`` has one.

    Nothing is outlined when all points of the map coincide.
    """
    objects = graph_objects()
    padding = HULL_PADDING * float(np.ptp(points, axis=0).max())
    clusters = _cluster_rows(values) if padding else {}
    # Outlines of many clusters overlap: together they must not hide the points.
    opacity = FILL_OPACITY * min(1.0, FULL_OPACITY_MAX_CLUSTERS / max(len(clusters), 1))
    for name, rows in clusters.items():
        members = points[rows]
        distances = np.linalg.norm(members - np.median(members, axis=0), axis=1)
        if len(members) >= CORE_MIN_POINTS:
            members = members[distances <= np.quantile(distances, CORE_SHARE)]
        corners = outline(members, padding)
        color = colors.get(name, GRAY)
        shared = {
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": escape_text(name),
            "name": _display_name(name),
        }
        if points.shape[1] == 3:
            x, y, z = corners.T
            figure.add_trace(objects.Mesh3d(x=x, y=y, z=z, alphahull=0, color=color, opacity=opacity, **shared))
            continue
        x, y = np.vstack([corners, corners[:1]]).T
        line = {"width": 1.2, "color": color}
        fill = with_opacity(color, opacity)
        figure.add_trace(objects.Scatter(x=x, y=y, mode="lines", line=line, fill="toself", fillcolor=fill, **shared))


def outline(members: Floats, padding: float) -> Floats:
    """The corners (60, 2 or 3) of a rounded convex outline at a distance of ``padding`` from the points.

    >>> outline(np.zeros((1, 2), dtype=np.float32), 1.0).round(1)[[0, 15]].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    steps = np.arange(OUTLINE_CORNERS)
    if members.shape[1] == 2:
        angle = 2 * np.pi * steps / OUTLINE_CORNERS
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        # Directions distributed evenly over a sphere: a Fibonacci lattice.
        height, angle = 1 - (2 * steps + 1) / OUTLINE_CORNERS, steps * np.pi * (3 - np.sqrt(5))
        directions = np.stack([np.sqrt(1 - height**2) * f for f in (np.cos(angle), np.sin(angle))] + [height], axis=1)
    directions = directions.astype(np.float32)
    corners: Floats = members[(members @ directions.T).argmax(axis=0)] + np.float32(padding) * directions
    return corners


def _cluster_rows(values: pd.Series[Any]) -> dict[str, Indices]:
    """The positions of the rows of each cluster by its name; missing values belong to no cluster."""
    import pandas as pd

    codes, names = pd.factorize(np.array(category_names(values), dtype=object))
    codes[values.isna().to_numpy()] = -1
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.searchsorted(codes[order], np.arange(len(names))))[1:]
    return {str(name): members for name, members in zip(names, rows, strict=True) if len(members)}


def _mask(rows: Indices, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def _display_name(name: str) -> str:
    return shorten(name, LABEL_CHARACTERS)
