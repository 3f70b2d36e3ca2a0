"""Traces of points: in one color, colored by numbers or dates, or one trace for each category."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.column_types import (
    Sort,
    category_names,
    category_order,
    is_numeric,
    on_scale,
    sorted_categories,
    value_name,
)
from skytells_nb.plots.css_colors import hex_color
from skytells_nb.plots.theme import (
    CATEGORIES_PER_SYMBOL,
    CATEGORY_COLORS,
    CATEGORY_SYMBOLS,
    GRAY,
    OUTLINE_COLOR,
    Theme,
    escape_text,
    graph_objects,
    plain_text,
    scale_colors,
    shorten,
    wrap_text,
)

if TYPE_CHECKING:
    import pandas as pd


ColorScale = Literal["linear", "log", "quantile"]

SCALE_STEPS = 9
LABEL_CHARACTERS = 30
HOVER_CHARACTERS = 100
SHORT_HOVER_ABOVE_POINTS = 10_000
TEXT_SAMPLE_ROWS = 50


def hover_texts(view: pd.DataFrame, shown: list[str]) -> NDArray[Any]:
    """The hover text of each row: its label and the chosen columns."""
    # The size of a figure is mostly that of its hover texts.
    limit = HOVER_CHARACTERS if len(view) <= SHORT_HOVER_ABOVE_POINTS else HOVER_CHARACTERS // 2
    is_number = view.index.dtype.kind in "iu"
    labels = view.index.tolist() if is_number else [escape_text(label, LABEL_CHARACTERS) for label in view.index]
    texts = np.array([f"row {label}" for label in labels], dtype=object)
    for name in shown:
        prefix = f"{escape_text(name, LABEL_CHARACTERS)}: " if len(shown) > 1 else ""
        for position, cell in enumerate(view[name].tolist()):
            texts[position] += f"<br>{prefix}{'missing' if _is_missing(cell) else wrap_text(cell, limit=limit)}"
    return texts


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


MAX_CATEGORIES = 20
SVG_MAX_POINTS = 5_000
FEW_POINTS = 100
MAX_POINT_PX, MIN_POINT_PX = 10.0, 1.4
POINT_PX = 8.0
"""The diameter of 100 points. Of more points all together cover more of the figure: texture, where one says nothing."""
DATE_TICKS = 5
MIN_SIZE_PX, MAX_SIZE_PX = 4.0, 22.0
SIZE_FACTOR_3D = 0.4
# The symbols that exist in 3D; a triangle does not.
SYMBOLS_3D = ("circle", "diamond", "square", "cross")


@dataclass(frozen=True, slots=True)
class Markers:
    """Properties of all markers of a map, in one order: points (n, 2 or 3), row positions, hover texts, diameters."""

    points: NDArray[np.float32]
    rows: NDArray[np.intp]
    texts: NDArray[Any]
    sizes: NDArray[np.float32] | float


@dataclass(frozen=True, slots=True)
class CategoryGroup:
    """The rows of one trace with its color and symbol; ``is_category`` is false for the rest and for missing values."""

    name: str
    mask: NDArray[np.bool_]
    color: str
    symbol: str
    is_category: bool = True


def uses_color_scale(values: pd.Series[Any]) -> bool:
    """Whether a column is drawn on a color scale: numbers, and dates with too many values for a legend."""
    import pandas as pd

    dates = pd.api.types.is_datetime64_any_dtype(values.dtype)
    return is_numeric(values) or (dates and values.nunique() > MAX_CATEGORIES)


def marker_sizes(values: pd.Series[Any] | None, n: int, enlarged: float = 1.0) -> NDArray[np.float32] | float:
    """Diameters in pixels: the area grows with the value; missing and negative values get the smallest.

    Without values one diameter for all, in proportion to a figure that is ``enlarged``.
    """
    if values is None:
        diameter = POINT_PX * (FEW_POINTS / max(n, 1)) ** 0.3 * enlarged
        return round(float(np.clip(diameter, MIN_POINT_PX, MAX_POINT_PX)), 1)
    clipped = np.clip(np.nan_to_num(_to_floats(values)), 0, None)
    fraction = np.sqrt(clipped / (clipped.max() or 1.0))
    return (MIN_SIZE_PX + (MAX_SIZE_PX - MIN_SIZE_PX) * fraction).astype(np.float32)


@dataclass(frozen=True, slots=True)
class CategoryStyle:
    """How a user wants categories: the color of some by the name of each, and their order."""

    colors: Mapping[str, str] = field(default_factory=dict)
    sort: Sort | None = None

    @classmethod
    def of(cls, colors: Any, sort: Any) -> CategoryStyle:
        """Check colors by value and an order; raise InputError for others."""
        if colors is None:
            return cls({}, sort)
        if not isinstance(colors, Mapping):
            raise InputError(f"colors must be a dict of values and their colors, got {type(colors).__name__}.")
        return cls({value_name(value): hex_color(color) for value, color in colors.items()}, sort)

    def __bool__(self) -> bool:
        return bool(self.colors) or self.sort is not None

    def check(self, names: Iterable[str]) -> None:
        """Raise InputError if colors are given and none of them is for any of the categories."""
        names = list(names)
        if self.colors and names and not set(names).intersection(self.colors):
            raise InputError(
                f"colors must have values of the column, such as {names[0]!r}, got {list(self.colors)[:3]!r}."
            )


PLAIN = CategoryStyle()


def category_groups(values: pd.Series[Any], column: str, style: CategoryStyle = PLAIN) -> list[CategoryGroup]:
    """The categories of a column, then the rest and missing values.

    The most frequent come first, so that the points of rare categories are on top. Ordered categories keep their order,
    with colors from a sequential scale; of more than 20 those with a color or a place of their own are shown, then the
    most frequent.
    """
    import pandas as pd

    missing = values.isna().to_numpy()
    names = pd.Series(category_names(values), dtype=object)
    codes, categories = pd.factorize(names)
    codes[missing] = -1
    counts = np.bincount(codes[~missing], minlength=len(categories))
    code_of = {str(categories[code]): int(code) for code in np.argsort(-counts, kind="stable") if counts[code]}
    style.check(code_of)
    order = sorted_categories(values, {name: int(counts[code]) for name, code in code_of.items()}, style.sort)
    own = [*style.colors, *([] if style.sort is None or isinstance(style.sort, str) else map(value_name, style.sort))]
    chosen = set([name for name in dict.fromkeys([*own, *code_of]) if name in code_of][:MAX_CATEGORIES])
    shown = [name for name in order if name in chosen]
    ranked = category_order(values)
    if ranked is None:
        taken = set(style.colors.values())
        free = [color for color in CATEGORY_COLORS if color.lower() not in taken]
        automatic = itertools.cycle(free or CATEGORY_COLORS)
        shades = {name: style.colors.get(name) or next(automatic) for name in shown}
    else:
        in_order = [name for name in ranked if name in chosen]
        shades = dict(zip(in_order, scale_colors(len(in_order)), strict=True)) | dict(style.colors)
    groups = [
        CategoryGroup(
            name,
            codes == code_of[name],
            shades[name],
            CATEGORY_SYMBOLS[0]
            if ranked is not None
            else CATEGORY_SYMBOLS[index // CATEGORIES_PER_SYMBOL % len(CATEGORY_SYMBOLS)],
        )
        for index, name in enumerate(shown)
    ]
    if len(order) > len(shown):
        rest = ~np.isin(codes, [code_of[name] for name in shown]) & ~missing
        groups.append(
            CategoryGroup(f"other, {len(order) - len(shown)} values", rest, GRAY, "circle-open", is_category=False)
        )
    if missing.any():
        groups.append(CategoryGroup(f"no {column}", missing, GRAY, "square-open", is_category=False))
    return groups


def category_colors(values: pd.Series[Any], style: CategoryStyle = PLAIN) -> dict[str, str]:
    """The color of each category; empty for a column that is drawn on a color scale."""
    if uses_color_scale(values) and not style:
        return {}
    return {group.name: group.color for group in category_groups(values, "", style) if group.is_category}


def add_points(
    figure: Any,
    markers: Markers,
    values: pd.Series[Any] | None,
    color: str | None,
    *,
    scale: ColorScale = "linear",
    theme: Theme | None = None,
    style: CategoryStyle = PLAIN,
) -> str:
    """Add all rows to a figure, in one color or colored by a column; return a description of the colors.

    ``scale`` is how numbers go to colors. Raises InputError if it does not fit the column. Numbers and dates whose
    values have colors or an order are categories.
    """
    if color is None or values is None:
        figure.add_trace(point_trace(markers, slice(None), name="", color=CATEGORY_COLORS[0]))
        return ""
    if style:
        if scale != "linear":
            raise InputError(f"color_scale={scale!r} is for numbers on a scale; colors= and sort= are for categories.")
        return _add_categories(figure, markers, category_groups(values, color, style), color)
    given, values = values, on_scale(values, MAX_CATEGORIES)
    if scale != "linear" and not is_numeric(values):
        raise InputError(f"color_scale={scale!r} is for numbers, got column {color!r} of dtype {given.dtype}.")
    if is_numeric(values):
        seconds = values is not given and values.name != given.name
        title = f"{color}, seconds" if seconds else color
        texts = _number_texts(values) if values is given else [str(value) for value in given.tolist()]
        return _add_numbers(figure, markers, _to_floats(values), title, texts, scale=scale, theme=theme)
    if uses_color_scale(values):
        return _add_dates(figure, markers, values, color, theme)
    return _add_categories(figure, markers, category_groups(values, color), color)


# An open symbol, which no color scale has, for rows that have no value.
_OPEN_LINE = {"line": {"color": GRAY, "width": 1.2}}


def _number_texts(values: pd.Series[Any]) -> list[str]:
    """The numbers as text: whole ones of an integer column with all their digits."""
    import pandas as pd

    if pd.api.types.is_integer_dtype(values.dtype):
        return [str(value) for value in values.tolist()]
    return [f"{number:g}" for number in _to_floats(values).tolist()]


def _add_numbers(
    figure: Any,
    markers: Markers,
    numbers: NDArray[np.float32],
    color: str,
    texts: list[str] | None = None,
    *,
    scale: ColorScale = "linear",
    theme: Theme | None = None,
) -> str:
    known = np.isfinite(numbers)
    title = escape_text(color, LABEL_CHARACTERS)
    if not known.all():
        name = f"no {title} ({int((~known).sum()):,})"
        figure.add_trace(point_trace(markers, ~known, name=name, color=GRAY, symbol="square-open", marker=_OPEN_LINE))
    if not known.any():
        return f" Color: {color}, no values."
    written = [f"{number:g}" for number in numbers.tolist()] if texts is None else texts
    markers.texts[known] += [f"<br>{title}: {written[at]}" for at in np.flatnonzero(known).tolist()]
    shades, ticks = _on_color_scale(numbers[known], scale, color)
    colorbar = {"title": {"text": title}, "outlinewidth": 0, "thickness": 14, **ticks}
    marker = {"colorscale": scale_colors(SCALE_STEPS, theme), "showscale": True, "colorbar": colorbar}
    figure.add_trace(point_trace(markers, known, name="", color=shades, showlegend=False, marker=marker))
    figure.update_layout(legend={"x": 0, "y": 1})
    return f" Color: {color}, from {numbers[known].min():g} to {numbers[known].max():g}."


def _on_color_scale(
    numbers: NDArray[np.float32], scale: ColorScale, color: str
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return where finite numbers lie on a color scale, and the ticks of its bar, which show the numbers."""
    if scale == "linear":
        return numbers, {}
    if scale == "log":
        if numbers.min() <= 0:
            raise InputError(
                f"color_scale='log' needs numbers greater than 0, got {numbers.min():g} in column {color!r}. "
                "Use color_scale='quantile', or leave these rows out."
            )
        shades = np.log10(numbers)
        first, last = float(shades.min()), float(shades.max())
        whole = np.arange(math.ceil(first), math.floor(last) + 1, max(1, round((last - first) / DATE_TICKS)))
        places = whole if len(whole) > 1 else np.linspace(first, last, DATE_TICKS)
        values = 10.0**places
    else:
        ranked = np.sort(numbers)
        # Equal numbers have one color, that of the middle of their ranks.
        ranks = np.searchsorted(ranked, numbers) + np.searchsorted(ranked, numbers, side="right") - 1
        shades = (ranks / (2 * max(len(numbers) - 1, 1))).astype(np.float32)
        places = np.linspace(0, 1, DATE_TICKS)
        values = np.quantile(ranked, places)
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": [f"{value:.3g}" for value in values.tolist()]}
    return shades, ticks


def _add_dates(figure: Any, markers: Markers, values: pd.Series[Any], color: str, theme: Theme | None) -> str:
    """Add dates on the scale of numbers, as the fraction of the time between the first and the last."""
    first, last = values.min(), values.max()
    fraction = ((values - first) / (last - first)).to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    known = np.isfinite(fraction)
    # Times of day are shown where dates alone could not distinguish the ticks.
    date_format = "%Y-%m-%d" if (last - first).days > DATE_TICKS else "%m-%d %H:%M"
    tick_positions = np.linspace(0, 1, DATE_TICKS)
    tick_texts = [(first + (last - first) * float(tick)).strftime(date_format) for tick in tick_positions]
    previous_texts = markers.texts.copy()
    _add_numbers(figure, markers, fraction, color, theme=theme)
    markers.texts[known] = previous_texts[known]
    title = escape_text(color, LABEL_CHARACTERS)
    markers.texts[known] += [f"<br>{title}: {moment}" for moment in values[known].astype(str)]
    colorbar = {"tickmode": "array", "tickvals": tick_positions, "ticktext": tick_texts}
    figure.data[-1].update(hovertext=markers.texts[known], marker_colorbar=colorbar)
    return f" Color: {color}, from {first} to {last}."


def _add_categories(figure: Any, markers: Markers, groups: list[CategoryGroup], color: str) -> str:
    # The rest and missing values are drawn below the categories and come last in the legend.
    for rank, group in sorted(enumerate(groups, start=1), key=lambda ranked: ranked[1].is_category):
        label = shorten(group.name, LABEL_CHARACTERS)
        markers.texts[group.mask] += f"<br>{label}"
        line = _OPEN_LINE if group.symbol.endswith("open") else {}
        name = f"{label} ({int(group.mask.sum()):,})"
        settings: dict[str, Any] = {"color": group.color, "symbol": group.symbol, "legendrank": rank}
        settings["legendgroup"] = escape_text(group.name)
        figure.add_trace(point_trace(markers, group.mask, name=name, marker=line, **settings))
    figure.update_layout(legend={"title": {"text": escape_text(color, LABEL_CHARACTERS)}})
    counts = ", ".join(f"{plain_text(group.name, LABEL_CHARACTERS)} {int(group.mask.sum()):,}" for group in groups)
    return f" Color: {color} ({counts})."


def point_trace(
    markers: Markers,
    mask: Any,
    *,
    name: str,
    color: Any,
    symbol: str = "circle",
    marker: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    n, dimensions = markers.points.shape
    few = n <= SVG_MAX_POINTS
    trace = {
        "mode": "markers",
        "name": name,
        "hovertext": markers.texts[mask],
        # hovertext is shown literally; hovertemplate would resolve references in it.
        "hoverinfo": "text",
        "customdata": markers.rows[mask].astype(np.int32),
        "marker": {
            "color": color,
            "symbol": symbol,
            "size": markers.sizes if isinstance(markers.sizes, float) else markers.sizes[mask],
            "opacity": round(float(np.clip(1.0 - 0.11 * np.log10(max(n, 1) / FEW_POINTS), 0.5, 0.9)), 2),
            # An outline would hide the color of a point that is hardly larger than it.
            "line": {"width": 0.6 if n <= FEW_POINTS else 0, "color": OUTLINE_COLOR},
            **(marker or {}),
        },
        **settings,
        **dict(zip("xyz", markers.points[mask].T, strict=False)),
    }
    objects = graph_objects()
    if dimensions == 3:
        if symbol in CATEGORY_SYMBOLS:
            trace["marker"]["symbol"] = SYMBOLS_3D[CATEGORY_SYMBOLS.index(symbol)]
        # Points in 3D hide each other.
        trace["marker"]["size"] = trace["marker"]["size"] * SIZE_FACTOR_3D
        return objects.Scatter3d(**trace)
    # Browsers limit the number of WebGL contexts of a page, so small maps are drawn as SVG.
    return (objects.Scatter if few else objects.Scattergl)(**trace)


def _to_floats(values: pd.Series[Any]) -> NDArray[np.float32]:
    """The column as floats; missing and infinite values become NaN."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32)
