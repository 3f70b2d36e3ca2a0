"""Where the points of an explorer lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.coordinates import given_points
from skytells_nb.plots.project import project
from skytells_nb.plots.projection import Method
from skytells_nb.widgets.explorer_rows import Rows

UNIT = 65_535
"""Points lie on a grid of this many steps each way; the y axis goes down, as on a page."""


def laid_out(rows: Rows, coordinates: tuple[Any, Any] | None, method: Method) -> tuple[NDArray[np.uint16], str]:
    """Points on a grid of 65,536 steps, y downwards, one scale for both axes; and in words how they were made."""
    if coordinates is None:
        projection = project(rows.matrix, method=method)
        found, how = projection.points.astype(np.float64), projection.how
    else:
        found, how = given_points(rows.frame.iloc[rows.drawn], coordinates)
    if not len(found):
        return np.empty((0, 2), dtype=np.uint16), how
    low, high = found.min(axis=0), found.max(axis=0)
    span = float((high - low).max()) or 1.0
    grid = np.rint(((found - (low + high) / 2) / span + 0.5) * UNIT).clip(0, UNIT)
    grid[:, 1] = UNIT - grid[:, 1]
    return np.ascontiguousarray(grid, dtype="<u2"), how
