"""The semantic map: one point for each row, near where the vectors are near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.project import SAMPLE_ABOVE_ROWS, Method, Metric, project

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_CATEGORIES = 20
SVG_MAX_POINTS = 5_000
LEGEND_CHARACTERS = 30
HOVER_CHARACTERS = 100
HOVER_CUT_ABOVE_POINTS = 10_000
SMALLEST_PX, LARGEST_PX = 4.0, 22.0

Where = NDArray[np.intp]


def semantic_map(
    frame: pd.DataFrame,
    embedding: str = "embedding",
    *,
    color: str | None = None,
    hover: str | Sequence[str] | None = None,
    size: str | None = None,
    method: Method = "umap",
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    random_state: int | None = 42,
    theme: look.Theme | None = None,
    title: str | None = None,
    max_points: int = 50_000,
) -> go.Figure:
    """A map of the rows of a frame by the meaning of their embeddings.

    ``embedding`` names a column of vectors; rows without one are left out, and the caption says how many. ``color``
    names a column: numbers become a colour bar, anything else one trace per value whose legend entry switches it on and
    off (the 20 most frequent, then "other"). ``hover`` names the columns shown at a point (default: the column of the
    longest texts; ``[]`` for none), ``size`` a column of numbers drawn as area.

    ``method="pca"`` is instant; ``"umap"`` shows neighbourhoods and compiles for 10 to 40 seconds on the first map of a
    session. Maps of the same vectors keep their points, so colouring again is instant. Above ``max_points`` a seeded
    sample is drawn. ``theme`` is ``"light"``, ``"dark"`` or None for a figure without a ground. Each point carries the
    position of its row as ``customdata``; ``plots.summary(figure)`` says the figure in words.

    Raises InputError for columns that do not exist or do not hold what is needed, MissingExtraError without plotly or
    umap-learn.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], "topic": ["a", "a", "b"]})
    >>> [trace.name for trace in semantic_map(frame, color="topic", method="pca").data]
    ['a (2)', 'b (1)']
    """
    from skytells_nb.columns import to_matrix

    shown = _columns(frame, embedding, color, hover, size)
    if max_points < 1:
        raise InputError(f"max_points is at least 1, not {max_points!r}.")
    figure = look.graph_objects().Figure()
    matrix, valid = to_matrix(frame[embedding])
    rows: Where = np.flatnonzero(valid)
    notes = []
    if len(rows) < len(frame):
        notes.append(f"{_count(len(frame) - len(rows), 'row')} without an embedding left out")
    if not len(rows):
        words = f"No embeddings to draw: column {embedding} has {_count(len(frame), 'row')} and no vector."
        return look.dress(look.say(figure, words), theme=theme, title=title, caption="", summary=words)
    # Far more rows than will be drawn are not worth laying out.
    rows, matrix = _sample(rows, matrix, max(max_points, SAMPLE_ABOVE_ROWS), random_state)
    projection = project(
        matrix,
        method=method,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        random_state=random_state,
    )
    rows, points = _sample(rows, projection.points, max_points, random_state)
    total = int(valid.sum())
    if len(rows) < total:
        notes.insert(0, f"a random {len(rows):,} of {total:,} drawn")
    view = frame.iloc[rows]
    marks = _Marks(points, rows, _hover_texts(view, shown), _sizes(view, size, len(rows)))
    if color is None:
        figure.add_trace(_trace(marks, slice(None), name="", color=look.CATEGORY_COLORS[0]))
        colored = ""
    elif _is_number(view[color]):
        colored = _add_numbers(figure, marks, view[color], color)
    else:
        colored = _add_categories(figure, marks, view[color], color)
    if size is not None:
        notes.append(f"area shows {size}")
    caption = " · ".join([_count(total, "row"), projection.how, *notes])
    figure.update_xaxes(visible=False)
    # One unit is as long on both axes: distances on the map are distances.
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(height=560, showlegend=color is not None)
    words = f"Semantic map of {embedding}: {caption}.{colored}"
    return look.dress(figure, theme=theme, title=title, caption=caption, summary=words)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What the traces of one map share: points, row positions, hover texts and sizes, all in one order."""

    points: NDArray[np.float32]
    rows: Where
    texts: NDArray[Any]
    sizes: NDArray[np.float32] | float


def _columns(
    frame: Any, embedding: str, color: str | None, hover: str | Sequence[str] | None, size: str | None
) -> list[str]:
    """The hover columns, after every named column was found."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"A semantic map is drawn from a DataFrame, not from a {type(frame).__name__}.")
    if hover is None:
        lengths = {name: _text_length(frame[name]) for name in frame.columns if name not in (embedding, color)}
        longest = max(lengths, key=lambda name: lengths[name], default=None)
        shown = [longest] if longest is not None and lengths[longest] else []
    else:
        shown = [hover] if isinstance(hover, str) else list(hover)
    for name in [embedding, color, size, *shown]:
        if name is None:
            continue
        if name not in frame.columns:
            have = ", ".join(str(c) for c in frame.columns)[:200] or "no columns"
            make = " Make one with frame.skytells.embed(...)." if name == embedding else ""
            raise InputError(f"There is no column {name!r}; the frame has {have}.{make}")
        if isinstance(frame[name], pd.DataFrame):
            raise InputError(f"There is more than one column {name!r}. Rename them first.")
    if size is not None and not _is_number(frame[size]):
        raise InputError(f"size= takes a column of numbers; {size!r} is {frame[size].dtype}.")
    return shown


def _sample(rows: Where, data: Any, limit: int, seed: int | None) -> tuple[Where, Any]:
    if len(rows) <= limit:
        return rows, data
    kept = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    return rows[kept], data[kept]


def _is_number(values: pd.Series[Any]) -> bool:
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(values.dtype) and not kinds.is_bool_dtype(values.dtype)


def _text_length(values: Any) -> int:
    """Characters in the first cells of a column of text, 0 for a column of something else."""
    import pandas as pd

    if not isinstance(values, pd.Series) or _is_number(values):
        return 0
    head = values.head(50).dropna().tolist()
    return sum(map(len, head)) if all(isinstance(value, str) for value in head) else 0


def _numbers(values: pd.Series[Any]) -> NDArray[np.float32]:
    """The column as floats; null and infinite become NaN."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32)


def _sizes(view: pd.DataFrame, size: str | None, n: int) -> NDArray[np.float32] | float:
    """Diameters in pixels: the area grows with the value; what has none, or a negative one, is smallest."""
    if size is None:
        return 10.0 if n <= 200 else 7.0 if n <= SVG_MAX_POINTS else 4.5
    values = np.clip(np.nan_to_num(_numbers(view[size])), 0, None)
    share = np.sqrt(values / (values.max() or 1.0))
    return (SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * share).astype(np.float32)


def _hover_texts(view: pd.DataFrame, shown: list[str]) -> NDArray[Any]:
    """For each row its label and the named columns, escaped, wrapped and cut."""
    # Hover text, not points, makes a figure large.
    limit = HOVER_CHARACTERS if len(view) <= HOVER_CUT_ABOVE_POINTS else HOVER_CHARACTERS // 2
    texts = np.array([f"row {look.escaped(label, LEGEND_CHARACTERS)}" for label in view.index], dtype=object)
    for name in shown:
        head = f"{look.escaped(name, LEGEND_CHARACTERS)}: " if len(shown) > 1 else ""
        for at, cell in enumerate(view[name].tolist()):
            texts[at] += f"<br>{head}{'null' if _is_null(cell) else look.wrapped(cell, limit=limit)}"
    return texts


def _is_null(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _trace(marks: _Marks, where: Any, *, name: str, color: Any, symbol: str = "circle", **marker: Any) -> Any:
    objects = look.graph_objects()
    n = len(marks.points)
    # Browsers give a page few WebGL contexts, so that small maps stay SVG.
    kind = objects.Scattergl if n > SVG_MAX_POINTS else objects.Scatter
    line = {"width": 0.6 if n <= SVG_MAX_POINTS else 0.3, "color": look.OUTLINE}
    sizes = marks.sizes if isinstance(marks.sizes, float) else marks.sizes[where]
    return kind(
        x=marks.points[where, 0],
        y=marks.points[where, 1],
        mode="markers",
        name=name,
        hovertext=marks.texts[where],
        # Not a template: hovertext is shown as it is, a template would look for references in it.
        hoverinfo="text",
        customdata=marks.rows[where].astype(np.int32),
        marker={
            "color": color,
            "symbol": symbol,
            "size": sizes,
            "opacity": 0.85 if n <= SVG_MAX_POINTS else 0.7,
            "line": line,
            **marker,
        },
    )


def _add_numbers(figure: Any, marks: _Marks, values: pd.Series[Any], color: str) -> str:
    numbers = _numbers(values)
    known = np.isfinite(numbers)
    if not known.all():
        name = f"no {look.escaped(color, LEGEND_CHARACTERS)} ({int((~known).sum()):,})"
        figure.add_trace(_trace(marks, ~known, name=name, color=look.GREY, symbol="square"))
    if not known.any():
        return f" Colour: {color}, no value."
    marks.texts[known] += [f"<br>{look.escaped(color, LEGEND_CHARACTERS)}: {number:g}" for number in numbers[known]]
    bar = {"title": {"text": look.escaped(color, LEGEND_CHARACTERS)}, "outlinewidth": 0, "thickness": 14}
    figure.add_trace(
        _trace(marks, known, name="", color=numbers[known], colorscale=look.NUMBER_SCALE, showscale=True, colorbar=bar)
    )
    figure.data[-1].showlegend = False
    figure.update_layout(legend={"x": 0, "y": 1})
    return f" Colour: {color}, from {numbers[known].min():g} to {numbers[known].max():g}."


def _add_categories(figure: Any, marks: _Marks, values: pd.Series[Any], color: str) -> str:
    """One trace a category, the frequent ones first so that the rare ones lie on top; their counts in words."""
    import pandas as pd

    null = values.isna().to_numpy()
    names = pd.Series([str(value) for value in values.tolist()], dtype=object)
    counts = names[~null].value_counts()
    kept = counts.index[:MAX_CATEGORIES].tolist()
    groups: list[tuple[str, NDArray[np.bool_], str, str]] = []
    for at, name in enumerate(kept):
        shade = look.CATEGORY_COLORS[at % len(look.CATEGORY_COLORS)]
        symbol = look.CATEGORY_SYMBOLS[at // look.CATEGORIES_A_SYMBOL]
        groups.append((name, (names == name).to_numpy() & ~null, shade, symbol))
    if len(counts) > len(kept):
        rest = ~names.isin(kept).to_numpy() & ~null
        groups.append((f"other, {len(counts) - len(kept)} values", rest, look.GREY, "circle-open"))
    if null.any():
        groups.append((f"no {color}", null, look.GREY, "square-open"))
    for name, where, shade, symbol in groups:
        label = f"{look.escaped(name, LEGEND_CHARACTERS)} ({int(where.sum()):,})"
        line = {"color": shade, "width": 1.2} if symbol.endswith("open") else None
        trace = _trace(marks, where, name=label, color=shade, symbol=symbol, **({"line": line} if line else {}))
        trace.hovertext = [f"{text}<br>{label.rpartition(' (')[0]}" for text in trace.hovertext]
        figure.add_trace(trace)
    figure.update_layout(legend={"title": {"text": look.escaped(color, LEGEND_CHARACTERS)}})
    said = ", ".join(f"{look.plain(name, LEGEND_CHARACTERS)} {int(where.sum()):,}" for name, where, _, _ in groups)
    return f" Colour: {color} ({said})."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
