"""An explorer as it stands, as a figure that needs neither widget nor kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.plots import semantic_map
from skytells_nb.plots.clusters import add_names
from skytells_nb.plots.projection import Method
from skytells_nb.plots.theme import Theme
from skytells_nb.widgets.explorer_rows import Positions, Rows

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure

PALE = 0.12
"""Opacity of points that are not selected, lit or found while others are."""


def drawn_figure(
    rows: Rows,
    *,
    color: Any,
    coordinates: tuple[Any, Any] | None,
    method: Method,
    bright: Positions | None,
    hidden: Positions,
    names: pd.Series[Any],
    theme: Theme | None,
    title: str,
) -> Figure:
    """The map of the rows: those outside of ``bright`` pale, categories whose rows are all ``hidden`` switched off."""
    figure = semantic_map(
        rows.frame,
        rows.embedding,
        color=color,
        hover=[] if rows.text is None else rows.text,
        method=method,
        coordinates=coordinates,
        theme=theme,
        title=title,
    )
    points, at = [], []
    for trace in figure.data:
        if trace.customdata is None or not len(trace.customdata):
            continue
        where = np.asarray(trace.customdata)
        at.append(where)
        points.append(np.column_stack([trace.x, trace.y]))
        if np.isin(where, hidden).all():
            trace.visible = "legendonly"
        if bright is not None:
            trace.selectedpoints = np.flatnonzero(np.isin(where, bright)).tolist()
            trace.unselected = {"marker": {"opacity": PALE}}
    if at and names.notna().any():
        placed: NDArray[np.float32] = np.concatenate(points).astype(np.float32)
        add_names(figure, placed, names.iloc[np.concatenate(at)], theme)
    return figure
