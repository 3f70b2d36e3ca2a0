"""Names and outlines of clusters on a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots import theme as look
from skytells_nb.plots.maps.points import LABEL_CHARACTERS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]

MAX_NAMES = 40
# What a map of the default height and its legend leave in a notebook of usual width: names are kept apart for that.
PLOT_PX = (640.0, 430.0)
CHARACTER_PX, LINE_PX = 6.8, 20.0
RINGS_PX = (26.0, 48.0, 72.0)
SPOKES = 12
BESIDE_UP_TO_POINTS = 5
BESIDE_PX = 18.0
CORE_SHARE = 0.8
CORE_MIN_POINTS = 5
FILL, FILL_CLUSTERS = 0.1, 8
OUTLINE_CORNERS = 60
HULL_PAD = 0.012


def add_names(figure: Any, points: Floats, values: pd.Series[Any], theme: look.Theme | None) -> str:
    """Write the names of the clusters at the medians of their points; a note on those that found no room.

    Large clusters are named first. A name that would lie on another one, or hide a handful of points, moves aside with
    a line to its cluster.
    """
    found = _members(values)
    ink, ground = look.LABEL_INKS[theme]
    style = {"font": {"size": 12, "color": ink}, "bgcolor": ground, "borderpad": 2, "name": "cluster"}
    named = sorted(found, key=lambda name: -int(found[name].sum()))[:MAX_NAMES]
    centres = {name: np.median(points[found[name]], axis=0) for name in named}
    if points.shape[1] == 3:
        figure.update_scenes(
            annotations=[
                {**dict(zip("xyz", map(float, at), strict=True)), "text": _shown(name), "showarrow": False, **style}
                for name, at in centres.items()
            ]
        )
        missing = len(found) - len(named)
    else:
        offsets = _offsets(points, [(_shown(name), centres[name], int(found[name].sum())) for name in named])
        for name, offset in zip(named, offsets, strict=True):
            if offset is None:
                continue
            aside = {"ax": offset[0], "ay": offset[1], "arrowhead": 0, "arrowwidth": 1, "arrowcolor": look.GREY}
            x, y = map(float, centres[name])
            figure.add_annotation(
                x=x, y=y, text=_shown(name), **style, **({"showarrow": True, **aside} if any(offset) else _CENTRED)
            )
        missing = len(found) - sum(offset is not None for offset in offsets)
    return f"{missing:,} of {len(found):,} names found no room" if missing else ""


def add_hulls(figure: Any, points: Floats, values: pd.Series[Any], colors: dict[str, str]) -> None:
    """Outline each cluster around the 80 % of its points nearest to its median, in its colour where ``colors`` has one.

    Points that all lie on one spot have no outline.
    """
    objects = look.graph_objects()
    pad = HULL_PAD * float(np.ptp(points, axis=0).max())
    found = _members(values) if pad else {}
    # Outlines of many clusters lie on each other: together they must not hide the points.
    opacity = FILL * min(1.0, FILL_CLUSTERS / max(len(found), 1))
    for name, where in found.items():
        members = points[where]
        apart = np.linalg.norm(members - np.median(members, axis=0), axis=1)
        if len(members) >= CORE_MIN_POINTS:
            members = members[apart <= np.quantile(apart, CORE_SHARE)]
        corners = outline(members, pad)
        color = colors.get(name, look.GREY)
        shared = {"hoverinfo": "skip", "showlegend": False, "legendgroup": look.escaped(name), "name": _shown(name)}
        if points.shape[1] == 3:
            x, y, z = corners.T
            figure.add_trace(objects.Mesh3d(x=x, y=y, z=z, alphahull=0, color=color, opacity=opacity, **shared))
            continue
        x, y = np.vstack([corners, corners[:1]]).T
        line = {"width": 1.2, "color": color}
        fill = look.translucent(color, opacity)
        figure.add_trace(objects.Scatter(x=x, y=y, mode="lines", line=line, fill="toself", fillcolor=fill, **shared))


def outline(members: Floats, pad: float) -> Floats:
    """The corners (60, 2 or 3) of a convex outline with round edges, ``pad`` outside of the points.

    >>> outline(np.zeros((1, 2), dtype=np.float32), 1.0).round(1)[[0, 15]].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    at = np.arange(OUTLINE_CORNERS)
    if members.shape[1] == 2:
        angle = 2 * np.pi * at / OUTLINE_CORNERS
        ways = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        # Directions spread evenly over a sphere: a Fibonacci lattice.
        height, angle = 1 - (2 * at + 1) / OUTLINE_CORNERS, at * np.pi * (3 - np.sqrt(5))
        ways = np.stack([np.sqrt(1 - height**2) * f for f in (np.cos(angle), np.sin(angle))] + [height], axis=1)
    ways = ways.astype(np.float32)
    corners: Floats = members[(members @ ways.T).argmax(axis=0)] + np.float32(pad) * ways
    return corners


_CENTRED = {"showarrow": False}


def _members(values: pd.Series[Any]) -> dict[str, NDArray[np.bool_]]:
    """For each name the rows that have it; a null names no cluster."""
    import pandas as pd

    null = values.isna().to_numpy()
    codes, names = pd.factorize(np.array([str(value) for value in values.tolist()], dtype=object))
    codes[null] = -1
    return {str(name): codes == code for code, name in enumerate(names) if (codes == code).any()}


def _shown(name: str) -> str:
    return look.short(name, LABEL_CHARACTERS)


def _offsets(points: Floats, names: list[tuple[str, Any, int]]) -> list[tuple[float, float] | None]:
    """How many pixels each name moves from its centre so that none lies on another; None for one without room."""
    import html

    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    scale = float(min(PLOT_PX / span))
    room = np.maximum(span * scale, PLOT_PX)
    taken: list[Box] = []
    chosen: list[tuple[float, float] | None] = []
    angles = 2 * np.pi * np.arange(SPOKES) / SPOKES - np.pi / 2
    tries = [(0.0, 0.0), *((r * 1.6 * np.cos(a), r * np.sin(a)) for r in RINGS_PX for a in angles)]
    for text, centre, count in names:
        half = (len(html.unescape(text)) * CHARACTER_PX + 8) / 2, LINE_PX / 2
        # Pixels grow downwards.
        x, y = (centre[0] - low[0]) * scale, (low[1] + span[1] - centre[1]) * scale
        spot = None
        first = [(0.0, -BESIDE_PX), (0.0, BESIDE_PX)] if count <= BESIDE_UP_TO_POINTS else []
        for across, down in [*first, *tries]:
            box = (x + across - half[0], y + down - half[1], x + across + half[0], y + down + half[1])
            beyond = box[0] < -half[0] or box[1] < -LINE_PX or box[2] > room[0] + half[0] or box[3] > room[1] + LINE_PX
            if not beyond and not any(_overlap(box, other) for other in taken):
                spot = (float(across), float(down))
                taken.append(box)
                break
        chosen.append(spot)
    return chosen


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
