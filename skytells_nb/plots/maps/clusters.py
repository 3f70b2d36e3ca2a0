"""Labels and outlines of clusters on a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.points import LABEL_CHARACTERS
from skytells_nb.plots.theme import GRAY, LABEL_COLORS, Theme, escape_text, graph_objects, shorten, with_opacity
from skytells_nb.vectors.arrays import Floats

if TYPE_CHECKING:
    import pandas as pd

Box = tuple[float, float, float, float]

MAX_LABELS = 40
# The plot area of a map of default height beside its legend in a notebook of usual width: labels do not overlap in it.
PLOT_SIZE_PX = (640.0, 430.0)
CHARACTER_WIDTH_PX, LINE_HEIGHT_PX = 6.8, 20.0
OFFSET_RADII_PX = (26.0, 48.0, 72.0)
OFFSET_DIRECTIONS = 12
BESIDE_MAX_POINTS = 5
BESIDE_OFFSET_PX = 18.0
CORE_SHARE = 0.8
CORE_MIN_POINTS = 5
FILL_OPACITY, FULL_OPACITY_MAX_CLUSTERS = 0.1, 8
OUTLINE_CORNERS = 60
HULL_PADDING = 0.012


def add_labels(figure: Any, points: Floats, values: pd.Series[Any], theme: Theme | None) -> str:
    """Label the clusters at the medians of their points; return a note on labels that did not fit.

    Large clusters are labeled first. A label that would overlap another one, or hide a very small cluster, moves aside
    and gets a line to its cluster.
    """
    masks = _cluster_masks(values)
    text_color, background = LABEL_COLORS[theme]
    style = {"font": {"size": 12, "color": text_color}, "bgcolor": background, "borderpad": 2, "name": "cluster"}
    labeled = sorted(masks, key=lambda name: -int(masks[name].sum()))[:MAX_LABELS]
    centers = {name: np.median(points[masks[name]], axis=0) for name in labeled}
    if points.shape[1] == 3:
        annotations = []
        for name, center in centers.items():
            position = dict(zip("xyz", map(float, center), strict=True))
            annotations.append({**position, "text": _display_name(name), "showarrow": False, **style})
        figure.update_scenes(annotations=annotations)
        omitted = len(masks) - len(labeled)
    else:
        labels = [(_display_name(name), centers[name], int(masks[name].sum())) for name in labeled]
        offsets = _label_offsets(points, labels)
        for name, offset in zip(labeled, offsets, strict=True):
            if offset is None:
                continue
            arrow: dict[str, Any] = {"showarrow": False}
            if any(offset):
                arrow = {"showarrow": True, "ax": offset[0], "ay": offset[1], "arrowhead": 0, "arrowwidth": 1}
                arrow["arrowcolor"] = GRAY
            x, y = map(float, centers[name])
            figure.add_annotation(x=x, y=y, text=_display_name(name), **style, **arrow)
        omitted = len(masks) - sum(offset is not None for offset in offsets)
    return f"{omitted:,} of {len(masks):,} labels omitted for lack of space" if omitted else ""


def add_hulls(figure: Any, points: Floats, values: pd.Series[Any], colors: dict[str, str]) -> None:
    """Outline the 80 % of the points of each cluster nearest to its median, in its color if ``colors`` has one.

    Nothing is outlined when all points of the map coincide.
    """
    objects = graph_objects()
    padding = HULL_PADDING * float(np.ptp(points, axis=0).max())
    masks = _cluster_masks(values) if padding else {}
    # Outlines of many clusters overlap: together they must not hide the points.
    opacity = FILL_OPACITY * min(1.0, FULL_OPACITY_MAX_CLUSTERS / max(len(masks), 1))
    for name, mask in masks.items():
        members = points[mask]
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


def _cluster_masks(values: pd.Series[Any]) -> dict[str, NDArray[np.bool_]]:
    """The rows of each cluster by its name; missing values belong to no cluster."""
    import pandas as pd

    missing = values.isna().to_numpy()
    codes, names = pd.factorize(np.array([str(value) for value in values.tolist()], dtype=object))
    codes[missing] = -1
    return {str(name): codes == code for code, name in enumerate(names) if (codes == code).any()}


def _display_name(name: str) -> str:
    return shorten(name, LABEL_CHARACTERS)


def _label_offsets(points: Floats, labels: list[tuple[str, Any, int]]) -> list[tuple[float, float] | None]:
    """The offset in pixels of each label from its center, so that labels do not overlap; None if it does not fit."""
    import html

    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    scale = float(min(PLOT_SIZE_PX / span))
    area = np.maximum(span * scale, PLOT_SIZE_PX)
    occupied: list[Box] = []
    offsets: list[tuple[float, float] | None] = []
    angles = 2 * np.pi * np.arange(OFFSET_DIRECTIONS) / OFFSET_DIRECTIONS - np.pi / 2
    candidates = [(0.0, 0.0), *((r * 1.6 * np.cos(a), r * np.sin(a)) for r in OFFSET_RADII_PX for a in angles)]
    for text, center, count in labels:
        half_size = (len(html.unescape(text)) * CHARACTER_WIDTH_PX + 8) / 2, LINE_HEIGHT_PX / 2
        # Pixel coordinates increase downwards.
        x, y = (center[0] - low[0]) * scale, (low[1] + span[1] - center[1]) * scale
        offset = None
        preferred = [(0.0, -BESIDE_OFFSET_PX), (0.0, BESIDE_OFFSET_PX)] if count <= BESIDE_MAX_POINTS else []
        for dx, dy in [*preferred, *candidates]:
            box = (x + dx - half_size[0], y + dy - half_size[1], x + dx + half_size[0], y + dy + half_size[1])
            beyond = (
                box[0] < -half_size[0]
                or box[1] < -LINE_HEIGHT_PX
                or box[2] > area[0] + half_size[0]
                or box[3] > area[1] + LINE_HEIGHT_PX
            )
            if not beyond and not any(_overlaps(box, other) for other in occupied):
                offset = (float(dx), float(dy))
                occupied.append(box)
                break
        offsets.append(offset)
    return offsets


def _overlaps(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
