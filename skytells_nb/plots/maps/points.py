"""The points of a map as traces: one colour, numbers on a scale, or categories that the legend switches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots import theme as look

if TYPE_CHECKING:
    import pandas as pd


LABEL_CHARACTERS = 30
TEXT_CHARACTERS = 100
CUT_ABOVE_POINTS = 10_000
SEEN_FOR_LENGTH = 50


def hover_texts(view: pd.DataFrame, shown: list[str]) -> NDArray[Any]:
    """For each row its label and the named columns."""
    # Hover text, not points, makes a figure large.
    limit = TEXT_CHARACTERS if len(view) <= CUT_ABOVE_POINTS else TEXT_CHARACTERS // 2
    texts = np.array([f"row {look.escaped(label, LABEL_CHARACTERS)}" for label in view.index], dtype=object)
    for name in shown:
        head = f"{look.escaped(name, LABEL_CHARACTERS)}: " if len(shown) > 1 else ""
        for at, cell in enumerate(view[name].tolist()):
            texts[at] += f"<br>{head}{'null' if _is_null(cell) else look.wrapped(cell, limit=limit)}"
    return texts


def longest_text(frame: pd.DataFrame, without: set[str | None]) -> list[str]:
    """The column of the longest texts, or none."""
    lengths = {name: _text_length(frame[name]) for name in frame.columns if name not in without}
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return [longest] if longest is not None and lengths[longest] else []


def _text_length(values: Any) -> int:
    """Characters in the first cells of a column of text, 0 for a column of something else."""
    import pandas as pd

    if not isinstance(values, pd.Series) or pd.api.types.is_numeric_dtype(values.dtype):
        return 0
    head = values.head(SEEN_FOR_LENGTH).dropna().tolist()
    return sum(map(len, head)) if all(isinstance(value, str) for value in head) else 0


def _is_null(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


MAX_CATEGORIES = 20
SVG_MAX_POINTS = 5_000
FEW_POINTS = 200
DATE_TICKS = 5
SMALLEST_PX, LARGEST_PX = 4.0, 22.0
SHARE_IN_SPACE = 0.4
# Those that exist in space as well; a triangle does not.
SYMBOLS_IN_SPACE = ("circle", "diamond", "square", "cross")


@dataclass(frozen=True, slots=True)
class Marks:
    """What the traces of one map share, in one order: points (n, 2 or 3), row positions, hover texts, diameters."""

    points: NDArray[np.float32]
    rows: NDArray[np.intp]
    texts: NDArray[Any]
    sizes: NDArray[np.float32] | float


@dataclass(frozen=True, slots=True)
class CategoryGroup:
    """The rows of one category, as they are drawn."""

    name: str
    where: NDArray[np.bool_]
    color: str
    symbol: str
    named: bool = True


def is_number(values: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, of whatever dtype; booleans are categories."""
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(values.dtype) and not kinds.is_bool_dtype(values.dtype)


def is_scale(values: pd.Series[Any]) -> bool:
    """Whether a column is drawn on a colour scale: numbers, and dates of which there are too many for a legend."""
    import pandas as pd

    dates = pd.api.types.is_datetime64_any_dtype(values.dtype)
    return is_number(values) or (dates and values.nunique() > MAX_CATEGORIES)


def diameters(values: pd.Series[Any] | None, n: int) -> NDArray[np.float32] | float:
    """Diameters in pixels: the area grows with the value; what has none, or a negative one, is smallest."""
    if values is None:
        return 10.0 if n <= FEW_POINTS else 7.0 if n <= SVG_MAX_POINTS else 4.5
    amounts = np.clip(np.nan_to_num(_numbers(values)), 0, None)
    share = np.sqrt(amounts / (amounts.max() or 1.0))
    return (SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * share).astype(np.float32)


def groups(values: pd.Series[Any], column: str) -> list[CategoryGroup]:
    """The categories of a column, the frequent ones first so that the rare lie on top, then the rest, then nulls."""
    import pandas as pd

    null = values.isna().to_numpy()
    names = pd.Series([str(value) for value in values.tolist()], dtype=object)
    codes, kinds = pd.factorize(names)
    codes[null] = -1
    counts = np.bincount(codes[~null], minlength=len(kinds))
    order = [at for at in np.argsort(-counts, kind="stable") if counts[at]]
    kept = order[:MAX_CATEGORIES]
    found = [
        CategoryGroup(
            str(kinds[code]),
            codes == code,
            look.CATEGORY_COLORS[at % len(look.CATEGORY_COLORS)],
            look.CATEGORY_SYMBOLS[at // look.CATEGORIES_A_SYMBOL],
        )
        for at, code in enumerate(kept)
    ]
    if len(order) > len(kept):
        rest = ~np.isin(codes, kept) & ~null
        found.append(
            CategoryGroup(f"other, {len(order) - len(kept)} values", rest, look.GREY, "circle-open", named=False)
        )
    if null.any():
        found.append(CategoryGroup(f"no {column}", null, look.GREY, "square-open", named=False))
    return found


def colors(values: pd.Series[Any]) -> dict[str, str]:
    """The colour of each category that has one of its own; a column of numbers has none."""
    return {} if is_scale(values) else {group.name: group.color for group in groups(values, "") if group.named}


def add_points(figure: Any, marks: Marks, values: pd.Series[Any] | None, color: str | None) -> str:
    """Draw all rows, coloured by a column or not; what the colours mean, in words."""
    if color is None or values is None:
        figure.add_trace(_trace(marks, slice(None), name="", color=look.CATEGORY_COLORS[0]))
        return ""
    if is_number(values):
        return _add_numbers(figure, marks, _numbers(values), color)
    if is_scale(values):
        return _add_dates(figure, marks, values, color)
    return _add_categories(figure, marks, groups(values, color), color)


def _add_numbers(figure: Any, marks: Marks, numbers: NDArray[np.float32], color: str) -> str:
    known = np.isfinite(numbers)
    title = look.escaped(color, LABEL_CHARACTERS)
    if not known.all():
        name = f"no {title} ({int((~known).sum()):,})"
        figure.add_trace(_trace(marks, ~known, name=name, color=look.GREY, symbol="square"))
    if not known.any():
        return f" Colour: {color}, no value."
    marks.texts[known] += [f"<br>{title}: {number:g}" for number in numbers[known]]
    bar = {"title": {"text": title}, "outlinewidth": 0, "thickness": 14}
    scale = {"colorscale": look.NUMBER_SCALE, "showscale": True, "colorbar": bar}
    figure.add_trace(_trace(marks, known, name="", color=numbers[known], showlegend=False, marker=scale))
    figure.update_layout(legend={"x": 0, "y": 1})
    return f" Colour: {color}, from {numbers[known].min():g} to {numbers[known].max():g}."


def _add_dates(figure: Any, marks: Marks, values: pd.Series[Any], color: str) -> str:
    """Dates on the scale of numbers: the share of the time between the first and the last."""
    first, last = values.min(), values.max()
    share = ((values - first) / (last - first)).to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    known = np.isfinite(share)
    # With the time of day only where the days alone would not tell the ends apart.
    form = "%Y-%m-%d" if (last - first).days > DATE_TICKS else "%m-%d %H:%M"
    at = np.linspace(0, 1, DATE_TICKS)
    said = [(first + (last - first) * float(tick)).strftime(form) for tick in at]
    texts = marks.texts.copy()
    _add_numbers(figure, marks, share, color)
    marks.texts[known] = texts[known]
    title = look.escaped(color, LABEL_CHARACTERS)
    marks.texts[known] += [f"<br>{title}: {moment}" for moment in values[known].astype(str)]
    figure.data[-1].update(
        hovertext=marks.texts[known], marker_colorbar={"tickmode": "array", "tickvals": at, "ticktext": said}
    )
    return f" Colour: {color}, from {first} to {last}."


def _add_categories(figure: Any, marks: Marks, found: list[CategoryGroup], color: str) -> str:
    # What has no name of its own lies under the rest, and comes last in the legend.
    for rank, group in sorted(enumerate(found, start=1), key=lambda ranked: ranked[1].named):
        label = look.short(group.name, LABEL_CHARACTERS)
        marks.texts[group.where] += f"<br>{label}"
        line = {"line": {"color": group.color, "width": 1.2}} if group.symbol.endswith("open") else {}
        name = f"{label} ({int(group.where.sum()):,})"
        shape: dict[str, Any] = {"color": group.color, "symbol": group.symbol, "legendgroup": look.escaped(group.name)}
        shape["legendrank"] = rank
        figure.add_trace(_trace(marks, group.where, name=name, marker=line, **shape))
    figure.update_layout(legend={"title": {"text": look.escaped(color, LABEL_CHARACTERS)}})
    said = ", ".join(f"{look.plain(group.name, LABEL_CHARACTERS)} {int(group.where.sum()):,}" for group in found)
    return f" Colour: {color} ({said})."


def _trace(
    marks: Marks,
    where: Any,
    *,
    name: str,
    color: Any,
    symbol: str = "circle",
    marker: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    n, dimensions = marks.points.shape
    few = n <= SVG_MAX_POINTS
    drawn = {
        "mode": "markers",
        "name": name,
        "hovertext": marks.texts[where],
        # Not a template: hovertext is shown as it is, a template would look for references in it.
        "hoverinfo": "text",
        "customdata": marks.rows[where].astype(np.int32),
        "marker": {
            "color": color,
            "symbol": symbol,
            "size": marks.sizes if isinstance(marks.sizes, float) else marks.sizes[where],
            "opacity": 0.85 if few else 0.7,
            "line": {"width": 0.6 if few else 0.3, "color": look.OUTLINE},
            **(marker or {}),
        },
        **settings,
        **dict(zip("xyz", marks.points[where].T, strict=False)),
    }
    objects = look.graph_objects()
    if dimensions == 3:
        if symbol in look.CATEGORY_SYMBOLS:
            drawn["marker"]["symbol"] = SYMBOLS_IN_SPACE[look.CATEGORY_SYMBOLS.index(symbol)]
        # Points in space hide each other.
        drawn["marker"]["size"] = drawn["marker"]["size"] * SHARE_IN_SPACE
        return objects.Scatter3d(**drawn)
    # Browsers give a page few WebGL contexts, so that small maps stay SVG.
    return (objects.Scatter if few else objects.Scattergl)(**drawn)


def _numbers(values: pd.Series[Any]) -> NDArray[np.float32]:
    """The column as floats; null and infinite become NaN."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32)
