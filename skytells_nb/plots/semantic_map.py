"""The semantic map: one point for each row, near where the vectors are near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.clusters import add_hulls, add_names
from skytells_nb.plots.coordinates import given_points
from skytells_nb.plots.hover import hover_texts, longest_text
from skytells_nb.plots.points import Marks, add_points, colors, diameters, is_number
from skytells_nb.plots.project import SAMPLE_ABOVE_ROWS, Dimensions, Metric, project
from skytells_nb.plots.projection import Method, Projection
from skytells_nb.plots.quality import measure
from skytells_nb.plots.stages import Tell, telling

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_POINTS: dict[int, int] = {2: 100_000, 3: 50_000}
"""By dimensions, for a browser without a graphics card: headless Chromium redraws 100,000 points 0.7 s after
a zoom at most, 500,000 in up to 4 s. In space 50,000 points take 6 to 7 s to appear and 100,000 take 9 to 15 s."""
HOVER_MAX_POINTS = 50_000

Where = NDArray[np.intp]


def semantic_map(
    frame: pd.DataFrame,
    embedding: str = "embedding",
    *,
    color: str | None = None,
    label: str | None = None,
    hover: str | Sequence[str] | None = None,
    size: str | None = None,
    method: Method = "umap",
    dimensions: Dimensions = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    random_state: int | None = 42,
    basis: pd.DataFrame | None = None,
    coordinates: tuple[str, str] | None = None,
    quality: bool = False,
    hulls: bool = False,
    theme: look.Theme | None = None,
    title: str | None = None,
    max_points: int | None = None,
    progress: bool | Tell = True,
) -> go.Figure:
    """A map of the rows of a frame by the meaning of their embeddings.

    ``embedding`` names a column of vectors; rows without one are left out, and the caption says how many. ``color``
    names a column: numbers, and dates of more than 20 kinds, become a colour bar, anything else one trace per value
    whose legend entry switches it on and off (the 20 most frequent, then "other"). ``label`` names a column of cluster
    names, which are written at the medians of their points, and colours by it unless ``color`` is given; ``hulls``
    outlines the clusters. ``hover`` names the columns shown at a point (default: the column of the longest texts;
    ``[]`` for none), ``size`` a column of numbers drawn as area. ``dimensions=3`` gives a map in space.

    ``method="pca"`` is instant; ``"umap"`` shows neighbourhoods and compiles for 10 to 40 seconds on the first map of a
    process. Maps of the same vectors keep their points, in the next process too, so colouring again is instant.
    ``basis`` is the frame whose map is kept: rows of ``frame`` that are not in it are placed among its points and move
    none of them; for rows about subjects that it does not have, draw a new map. ``coordinates=("x", "y")`` takes the
    places from two columns instead, for rows that have a vector. ``quality`` measures how far the map
    can be trusted and puts it in the caption and, as numbers, in ``figure.layout.meta["quality"]``. ``progress`` shows
    a line during long fits; a function in its place is called with the stage, how much is done, and of how much.

    Above ``max_points`` (100,000, or 50,000 in space) a seeded sample is drawn; above 50,000 points the columns of
    ``hover`` are left out. ``theme`` is ``"light"``, ``"dark"`` or None for a figure without a ground. Each point
    carries the position of its row as ``customdata``; ``plots.summary(figure)`` says the figure in words.

    Raises InputError for columns that do not exist or do not hold what is needed, MissingExtraError without plotly or
    umap-learn.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], "topic": ["a", "a", "b"]})
    >>> [trace.name for trace in semantic_map(frame, color="topic", method="pca").data]
    ['a (2)', 'b (1)']
    """
    from skytells_nb.columns import to_matrix

    color = color if color is not None else label
    shown = _columns(frame, embedding, color, label, hover, size)
    if hulls and label is None:
        raise InputError("hulls=True outlines the clusters that label= names; pass label= too.")
    if max_points is not None and max_points < 1:
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
    limit = max_points or MAX_POINTS.get(dimensions, MAX_POINTS[2])
    # Far more rows than will be drawn are not worth laying out.
    rows, matrix = _sample(rows, matrix, max(limit, SAMPLE_ABOVE_ROWS), random_state)
    with telling(progress, f"Map of {_count(len(rows), 'row')}") as tell:
        if coordinates is not None:
            projection = _given(frame.iloc[rows], coordinates, dimensions, basis)
        else:
            projection = project(
                matrix,
                method=method,
                dimensions=dimensions,
                n_neighbors=n_neighbors,
                min_dist=min_dist,
                metric=metric,
                random_state=random_state,
                basis=None if basis is None else _basis_matrix(basis, embedding),
                tell=tell,
            )
    trust = None
    if quality:
        trust = measure(matrix, projection.points, neighbors=n_neighbors, metric=metric, seed=random_state)
    rows, points = _sample(rows, projection.points, limit, random_state)
    total = int(valid.sum())
    if len(rows) < total:
        notes.insert(0, f"a random {len(rows):,} of {total:,} drawn")
    if shown and len(rows) > HOVER_MAX_POINTS:
        shown = []
        notes.append(f"hover texts left out above {HOVER_MAX_POINTS:,} points")
    view = frame.iloc[rows]
    if hulls and label is not None:
        add_hulls(figure, points, view[label], colors(view[label]) if color == label else {})
    sizes = diameters(None if size is None else view[size], len(rows))
    marks = Marks(points, rows, hover_texts(view, shown), sizes)
    colored = add_points(figure, marks, None if color is None else view[color], color)
    if label is not None:
        notes.append(add_names(figure, points, view[label], theme))
    if size is not None:
        notes.append(f"area shows {size}")
    if quality:
        notes.append(str(trust) if trust is not None else "too few different rows to measure the quality")
    caption = " · ".join([_count(total, "row"), projection.how, *filter(None, notes)])
    _set_axes(figure, dimensions, legend=color is not None)
    words = f"Semantic map of {embedding}: {caption}.{colored}"
    look.dress(figure, theme=theme, title=title, caption=caption, summary=words)
    if trust is not None:
        figure.update_layout(meta={"summary": words, "quality": asdict(trust)})
    return figure


def _set_axes(figure: Any, dimensions: int, *, legend: bool) -> None:
    figure.update_layout(height=560, showlegend=legend)
    if dimensions == 3:
        hidden = {"visible": False}
        figure.update_scenes(xaxis=hidden, yaxis=hidden, zaxis=hidden, aspectmode="data")
        return
    figure.update_xaxes(visible=False)
    # One unit is as long on both axes: distances on the map are distances.
    figure.update_yaxes(visible=False, scaleanchor="x")


def _columns(
    frame: Any,
    embedding: str,
    color: str | None,
    label: str | None,
    hover: str | Sequence[str] | None,
    size: str | None,
) -> list[str]:
    """The hover columns, after every named column was found."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"A semantic map is drawn from a DataFrame, not from a {type(frame).__name__}.")
    if hover is None:
        shown = longest_text(frame, {embedding, color, label})
    else:
        shown = [hover] if isinstance(hover, str) else list(hover)
    for name in [embedding, color, label, size, *shown]:
        if name is None:
            continue
        if name not in frame.columns:
            have = ", ".join(str(c) for c in frame.columns)[:200] or "no columns"
            make = " Make one with frame.skytells.embed(...)." if name == embedding else ""
            raise InputError(f"There is no column {name!r}; the frame has {have}.{make}")
        if isinstance(frame[name], pd.DataFrame):
            raise InputError(f"There is more than one column {name!r}. Rename them first.")
    if size is not None and not is_number(frame[size]):
        raise InputError(f"size= takes a column of numbers; {size!r} is {frame[size].dtype}.")
    return shown


def _basis_matrix(basis: Any, embedding: str) -> NDArray[np.float32]:
    """The vectors of the frame whose map is kept."""
    from skytells_nb.columns import to_matrix

    _columns(basis, embedding, None, None, [], None)
    matrix, _ = to_matrix(basis[embedding])
    return matrix


def _given(view: Any, coordinates: Any, dimensions: int, basis: Any) -> Projection:
    """Places that columns give."""
    if dimensions != 2 or basis is not None:
        raise InputError("coordinates= are the places of a map in the plane; pass neither dimensions=3 nor basis=.")
    points, how = given_points(view, coordinates)
    return Projection(points.astype(np.float32), "pca", how)


def _sample(rows: Where, data: Any, limit: int, seed: int | None) -> tuple[Where, Any]:
    if len(rows) <= limit:
        return rows, data
    kept = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    return rows[kept], data[kept]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
