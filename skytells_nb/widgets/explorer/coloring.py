"""Colors for the points of a map: one code a point, one color a code, and the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.plots.column_types import category_names, category_order, is_numeric, on_scale
from skytells_nb.plots.maps.points import MAX_CATEGORIES, uses_color_scale
from skytells_nb.plots.theme import CATEGORY_COLORS, GRAY, scale_colors
from skytells_nb.widgets.safe_text import plain

NAME_CHARACTERS = 30
MISSING_CODE = 255
_STEPS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """``codes`` (n,) holds one uint8 for each point, ``palette`` one ``#rrggbb`` for each code from 0."""

    codes: NDArray[np.uint8]
    palette: list[str]
    legend: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """The legend: entries of categories with their counts, or the ends of a scale."""
    hollow: int = -1
    """The code of the points without a value, which are rings; -1 for none."""

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
    """Color ``n`` points by a column, as a semantic map does: a scale, or a color for each frequent value."""
    if values is None:
        return Coloring(np.zeros(n, dtype=np.uint8), [CATEGORY_COLORS[0]])
    on_its_scale = on_scale(values, MAX_CATEGORIES)
    if uses_color_scale(on_its_scale) or pd.api.types.is_datetime64_any_dtype(on_its_scale.dtype):
        return _scale(values, on_its_scale)
    return _categories(values)


def _scale(given: pd.Series[Any], values: pd.Series[Any]) -> Coloring:
    if is_numeric(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        timestamps = values.astype("int64").to_numpy(dtype=np.float64)
        numbers = np.where(values.isna().to_numpy(), np.nan, timestamps)
    known = np.isfinite(numbers)
    codes = np.full(len(numbers), MISSING_CODE, dtype=np.uint8)
    palette = [*scale_colors(_STEPS), GRAY]
    missing = int((~known).sum())
    entries = [_legend_entry(MISSING_CODE, GRAY, "no value", missing)] if missing else []
    hollow = MISSING_CODE if missing else -1
    if not known.any():
        return Coloring(codes, palette, {"kind": "categories", "entries": entries, "hollow": hollow}, hollow)
    low, high = float(numbers[known].min()), float(numbers[known].max())
    share = (numbers[known] / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    codes[known] = np.rint(share * (_STEPS - 1)).astype(np.uint8)
    shown = given.to_numpy(dtype=object)[known]
    ends = (shown[numbers[known].argmin()], shown[numbers[known].argmax()])
    words = [f"{end:.4g}" if isinstance(end, float) else str(end) for end in ends]
    legend = {"kind": "numbers", "low": words[0], "high": words[1], "entries": entries, "hollow": hollow}
    return Coloring(codes, palette, legend, hollow)


def _categories(values: pd.Series[Any]) -> Coloring:
    missing = values.isna().to_numpy()
    names = pd.Series(category_names(values), dtype=object)
    counts = names[~missing].value_counts()
    shown = counts.index[: len(CATEGORY_COLORS)]
    ranked = category_order(values)
    if ranked is None:
        palette = [*CATEGORY_COLORS[: len(shown)]]
    else:
        frequent = set(counts.index[:MAX_CATEGORIES])
        shown = pd.Index([name for name in ranked if name in frequent], dtype=object)
        palette = scale_colors(len(shown))
    codes = shown.get_indexer_for(pd.Index(names)).astype(np.int64)
    codes[missing] = -1
    entries = [
        _legend_entry(code, palette[code], " ".join(plain(str(name)).split()), int(counts[name]))
        for code, name in enumerate(shown)
    ]
    hollow = -1
    for name, where in (
        (f"other, {len(counts) - len(shown):,} values", (codes < 0) & ~missing),
        ("no value", missing),
    ):
        if where.any():
            codes[where] = len(palette)
            hollow = len(palette) if where is missing else -1
            entries.append(_legend_entry(len(palette), GRAY, name, int(where.sum())))
            palette.append(GRAY)
    return Coloring(
        codes.astype(np.uint8), palette, {"kind": "categories", "entries": entries, "hollow": hollow}, hollow
    )


def _legend_entry(code: int, color: str, name: str, count: int) -> dict[str, Any]:
    short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
    return {"code": code, "color": color, "name": short, "count": count}


def parse_hex_color(color: str) -> tuple[int, int, int]:
    """Return the three channels of ``#rrggbb``, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
