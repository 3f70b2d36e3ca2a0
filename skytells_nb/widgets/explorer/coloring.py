"""Colors for the points of a map: one code a point, one color a code, and the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.plots.theme import CATEGORY_COLORS, GRAY
from skytells_nb.widgets.safe_text import plain

NAME_CHARACTERS = 30
MISSING_CODE = 255
# Ten steps of cividis, which looks the same with every kind of color vision.
_CIVIDIS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
_STEPS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """``codes`` (n,) holds one uint8 for each point, ``palette`` one ``#rrggbb`` for each code from 0."""

    codes: NDArray[np.uint8]
    palette: list[str]
    legend: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """The legend: entries of categories with their counts, or the ends of a scale."""

    @property
    def legend_items(self) -> list[tuple[str, str]]:
        """The legend as pairs of color and text."""
        entries = [
            (entry["color"], f"{entry['name']} ({entry['count']:,})") for entry in self.legend.get("entries", ())
        ]
        if self.legend["kind"] == "numbers":
            ends = [(self.palette[0], self.legend["low"]), (self.palette[_STEPS - 1], self.legend["high"])]
            return [*ends, *entries]
        return entries


def default_color(frame: pd.DataFrame, columns: Sequence[Any]) -> Any:
    """Return the newest of these columns that holds categories, such as one of ``cluster``; ``None`` without one."""
    for name in reversed(columns):
        values = frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype) and values.nunique() > 1:
            return name
    return None


def color_points(values: pd.Series[Any] | None, n: int) -> Coloring:
    """Color ``n`` points by a column: a scale for numbers and dates, otherwise a color for each frequent value."""
    if values is None:
        return Coloring(np.zeros(n, dtype=np.uint8), [CATEGORY_COLORS[0]])
    types = pd.api.types
    dates = types.is_datetime64_any_dtype(values.dtype)
    if dates or (types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)):
        return _scale(values, dates)
    return _categories(values)


def _scale(values: pd.Series[Any], dates: bool) -> Coloring:
    if dates:
        timestamps = values.astype("int64").to_numpy(dtype=np.float64)
        numbers = np.where(values.isna().to_numpy(), np.nan, timestamps)
    else:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(numbers)
    codes = np.full(len(numbers), MISSING_CODE, dtype=np.uint8)
    palette = [*_cividis(), GRAY]
    missing = int((~known).sum())
    entries = [_legend_entry(MISSING_CODE, GRAY, "no value", missing)] if missing else []
    if not known.any():
        return Coloring(codes, palette, {"kind": "categories", "entries": entries})
    low, high = float(numbers[known].min()), float(numbers[known].max())
    share = (numbers[known] / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    codes[known] = np.rint(share * (_STEPS - 1)).astype(np.uint8)
    ends = (values.min(), values.max()) if dates else (f"{low:.4g}", f"{high:.4g}")
    legend = {"kind": "numbers", "low": str(ends[0]), "high": str(ends[1]), "entries": entries}
    return Coloring(codes, palette, legend)


def _categories(values: pd.Series[Any]) -> Coloring:
    missing = values.isna().to_numpy()
    names = pd.Series([str(value) for value in values.tolist()], dtype=object)
    counts = names[~missing].value_counts()
    frequent = counts.index[: len(CATEGORY_COLORS)]
    codes = frequent.get_indexer_for(pd.Index(names)).astype(np.int64)
    palette = [*CATEGORY_COLORS[: len(frequent)]]
    entries = [
        _legend_entry(code, palette[code], " ".join(plain(str(name)).split()), int(counts[name]))
        for code, name in enumerate(frequent)
    ]
    for name, where in (
        (f"other, {len(counts) - len(frequent):,} values", (codes < 0) & ~missing),
        ("no value", missing),
    ):
        if where.any():
            codes[where] = len(palette)
            entries.append(_legend_entry(len(palette), GRAY, name, int(where.sum())))
            palette.append(GRAY)
    return Coloring(codes.astype(np.uint8), palette, {"kind": "categories", "entries": entries})


def _legend_entry(code: int, color: str, name: str, count: int) -> dict[str, Any]:
    short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
    return {"code": code, "color": color, "name": short, "count": count}


def _cividis() -> list[str]:
    anchors = np.array([parse_hex_color(color) for color in _CIVIDIS], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, _STEPS)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]).round() for channel in range(3)]
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*channels, strict=True)]


def parse_hex_color(color: str) -> tuple[int, int, int]:
    """Return the three channels of ``#rrggbb``, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
