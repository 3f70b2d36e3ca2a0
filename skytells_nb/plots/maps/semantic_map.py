"""The semantic map: one point for each row, near where the vectors are near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots import theme as look
from skytells_nb.plots.maps.clusters import add_hulls, add_names
from skytells_nb.plots.maps.points import Marks, add_points, colors, diameters, hover_texts, is_number, longest_text
from skytells_nb.plots.maps.progress import StageCallback, progress_line
from skytells_nb.plots.maps.projection import (
    SAMPLE_ABOVE_ROWS,
    Dimensions,
    Method,
    Metric,
    Projection,
    given_points,
    project,
)
from skytells_nb.plots.maps.quality import measure

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
    progress: bool | StageCallback = True,
) -> go.Figure:
    """Draw a map of the rows of a frame by the meaning of their embeddings.

    Each point carries the position of its row as ``customdata``; rows without an embedding are left out, and the
    caption says how many. Maps of the same vectors keep their points, in the next process too, so that other colors are
    instant.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows.
    embedding : str, default "embedding"
        The column of vectors.
    color : str, optional
        A column: numbers, and dates with more than 20 values, become a color bar, anything else one trace for each
        value (the 20 most frequent, then "other").
    label : str, optional
        A column of cluster names, which are written at the medians of their points; colors by it unless ``color`` is
        given.
    hover : str or sequence of str, optional
        The columns shown at a point; by default the one with the longest texts, ``[]`` for none. Left out above 50,000
        points.
    size : str, optional
        A column of numbers, drawn as area.
    method : {"umap", "pca"}, default "umap"
        UMAP shows neighborhoods and compiles for 10 to 40 seconds on the first map of a process; PCA is instant.
    dimensions : {2, 3}, default 2
        A flat map, or one in space.
    n_neighbors : int, default 15
        UMAP's number of neighbors: larger shows the whole, smaller the details.
    min_dist : float, default 0.1
        UMAP's smallest distance of points.
    metric : {"cosine", "euclidean"}, default "cosine"
        UMAP's distance of vectors.
    random_state : int or None, default 42
        UMAP's seed.
    basis : pandas.DataFrame, optional
        The frame whose map is kept: other rows are placed among its points and move none of them. For rows about
        subjects that it does not have, draw a new map.
    coordinates : tuple of two str, optional
        Two columns with the places of the points, instead of a layout.
    quality : bool, default False
        Whether to measure how far the map can be trusted: in the caption and in ``figure.layout.meta["quality"]``.
    hulls : bool, default False
        Whether to outline the clusters of ``label``.
    theme : {"light", "dark"}, optional
        Colors of the background; by default it is transparent.
    title : str, optional
        Title of the figure.
    max_points : int, optional
        Points at most, of which more are sampled with a seed; by default 100,000, or 50,000 in space.
    progress : bool or callable, default True
        Whether to show a line during a long layout; a function is called with the stage, how much is done, and of how
        much.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` describes it in words.

    Raises
    ------
    InputError
        If a column does not exist or does not hold what is needed.
    MissingExtraError
        If plotly or umap-learn is not installed.

    Examples
    --------
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
        return look.apply_theme(look.empty_figure(figure, words), theme=theme, title=title, caption="", summary=words)
    limit = max_points or MAX_POINTS.get(dimensions, MAX_POINTS[2])
    # Far more rows than will be drawn are not worth laying out.
    rows, matrix = _sample(rows, matrix, max(limit, SAMPLE_ABOVE_ROWS), random_state)
    with progress_line(progress, f"Map of {_count(len(rows), 'row')}") as tell:
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
    look.apply_theme(figure, theme=theme, title=title, caption=caption, summary=words)
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
