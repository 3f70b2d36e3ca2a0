"""The rows behind the points of a figure, for its page: texts in full, topics, and names that appear on zoom.

They are kept beside a figure and not in it, so that a notebook does not store each text twice. A copy of the figure has
none, and its page shows the figure alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.theme import plain_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ATTRIBUTE = "_skytells_rows"
CELL_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class ZoomName:
    """A name at a place of a map: ``level`` 1 for a topic, 2 for a part of one, which needs a closer look."""

    name: str
    x: float
    y: float
    rows: int
    color: str
    level: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class PageTopics:
    """The topics of a map: names, ``#rrggbb`` colors, and the code (n,) of each row, negative for none."""

    names: list[str]
    colors: list[str]
    codes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PageRows:
    """Rows of a frame: their positions in it (n,), which are the ``customdata`` of points, and columns to show."""

    positions: NDArray[np.intp]
    table: pd.DataFrame
    topics: PageTopics | None = None
    names: Callable[[], list[ZoomName]] = field(default=list)
    plot_width: float = 0.0
    """The width in pixels that the names of the figure are laid out for."""


def attach_rows(figure: go.Figure, rows: PageRows) -> None:
    """Keep rows beside a figure."""
    vars(figure)[_ATTRIBUTE] = rows


def attached_rows(figure: go.Figure) -> PageRows | None:
    """The rows beside a figure, if it has any."""
    found = vars(figure).get(_ATTRIBUTE)
    return found if isinstance(found, PageRows) else None


def page_cells(values: Iterable[Any], limit: int | None = None) -> list[str | float | int | None]:
    """The cells of a column for a page: numbers as they are, all else as text of at most ``limit`` characters.

    >>> page_cells([1, 0.5, float("nan"), None, "some text", [1, 2]], 4)
    [1, 0.5, None, None, 'som…', '[1,…']
    """
    return [_cell(value, CELL_CHARACTERS if limit is None else limit) for value in values]


MAX_EXACT = 2**53
"""Larger whole numbers lose digits in a page, so they are text."""


def _cell(value: Any, limit: int) -> str | float | int | None:
    import pandas as pd

    if isinstance(value, str):
        return value if len(value) <= limit else value[: limit - 1] + "…"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return int(value) if abs(int(value)) <= MAX_EXACT else str(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None if np.isnan(value) else str(value)
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return f"vector of {value.size:,} numbers"
    return plain_text(value, limit)
