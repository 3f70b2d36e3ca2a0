"""Colours for the points of a map: one code a point, one colour a code, and what a legend says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.plots.theme import CATEGORY_COLORS, GRAY
from skytells_nb.widgets.safe_html import plain

NAME_CHARACTERS = 30
MISSING_CODE = 255
# Ten steps of cividis, which reads the same with every kind of colour vision.
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
    """``codes`` (n) is one uint8 a point, ``palette`` a ``#rrggbb`` for each code from 0."""

    codes: NDArray[np.uint8]
    palette: list[str]
    legend: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """What a legend shows: entries of categories with their counts, or the ends of a scale."""

    @property
    def words(self) -> list[tuple[str, str]]:
        """The legend as pairs of colour and words."""
        said = [(entry["color"], f"{entry['name']} ({entry['count']:,})") for entry in self.legend.get("entries", ())]
        if self.legend["kind"] == "numbers":
            ends = [(self.palette[0], self.legend["low"]), (self.palette[_STEPS - 1], self.legend["high"])]
            return [*ends, *said]
        return said


def coloring(values: pd.Series[Any] | None, n: int) -> Coloring:
    """Colours for ``n`` points by a column: a scale for numbers and dates, else a colour for each frequent value."""
    if values is None:
        return Coloring(np.zeros(n, dtype=np.uint8), [CATEGORY_COLORS[0]])
    kinds = pd.api.types
    dates = kinds.is_datetime64_any_dtype(values.dtype)
    if dates or (kinds.is_numeric_dtype(values.dtype) and not kinds.is_bool_dtype(values.dtype)):
        return _scale(values, dates)
    return _categories(values)


def _scale(values: pd.Series[Any], dates: bool) -> Coloring:
    if dates:
        moments = values.astype("int64").to_numpy(dtype=np.float64)
        numbers = np.where(values.isna().to_numpy(), np.nan, moments)
    else:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(numbers)
    codes = np.full(len(numbers), MISSING_CODE, dtype=np.uint8)
    palette = [*_cividis(), GRAY]
    missing = int((~known).sum())
    entries = [_entry(MISSING_CODE, GRAY, "no value", missing)] if missing else []
    if not known.any():
        return Coloring(codes, palette, {"kind": "categories", "entries": entries})
    low, high = float(numbers[known].min()), float(numbers[known].max())
    share = (numbers[known] / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    codes[known] = np.rint(share * (_STEPS - 1)).astype(np.uint8)
    ends = (values.min(), values.max()) if dates else (f"{low:.4g}", f"{high:.4g}")
    legend = {"kind": "numbers", "low": str(ends[0]), "high": str(ends[1]), "entries": entries}
    return Coloring(codes, palette, legend)


def _categories(values: pd.Series[Any]) -> Coloring:
    null = values.isna().to_numpy()
    names = pd.Series([str(value) for value in values.tolist()], dtype=object)
    counts = names[~null].value_counts()
    kept = counts.index[: len(CATEGORY_COLORS)]
    codes = kept.get_indexer_for(pd.Index(names)).astype(np.int64)
    palette = [*CATEGORY_COLORS[: len(kept)]]
    entries = [
        _entry(code, palette[code], " ".join(plain(str(name)).split()), int(counts[name]))
        for code, name in enumerate(kept)
    ]
    for name, where in (
        (f"other, {len(counts) - len(kept):,} values", (codes < 0) & ~null),
        ("no value", null),
    ):
        if where.any():
            codes[where] = len(palette)
            entries.append(_entry(len(palette), GRAY, name, int(where.sum())))
            palette.append(GRAY)
    return Coloring(codes.astype(np.uint8), palette, {"kind": "categories", "entries": entries})


def _entry(code: int, color: str, name: str, count: int) -> dict[str, Any]:
    short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
    return {"code": code, "color": color, "name": short, "count": count}


def _cividis() -> list[str]:
    anchors = np.array([rgb(color) for color in _CIVIDIS], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, _STEPS)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]).round() for channel in range(3)]
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*channels, strict=True)]


def rgb(color: str) -> tuple[int, int, int]:
    """The three channels of ``#rrggbb``, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
