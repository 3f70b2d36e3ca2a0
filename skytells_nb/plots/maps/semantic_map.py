"""The semantic map: one point for each row, with similar rows close together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError, warn
from skytells_nb.plots.column_types import Sort, is_numeric
from skytells_nb.plots.maps.clusters import add_hulls, add_labels, label_names
from skytells_nb.plots.maps.density import measure_density, robust_view
from skytells_nb.plots.maps.labels import HEIGHT_PX, SIDE_PX, WIDTH_PX
from skytells_nb.plots.maps.points import (
    CategoryStyle,
    ColorScale,
    Markers,
    add_points,
    category_colors,
    hover_texts,
    marker_sizes,
)
from skytells_nb.plots.maps.progress import Listener, progress_line
from skytells_nb.plots.maps.projection import (
    SAMPLE_ABOVE_ROWS,
    Dimensions,
    Method,
    Metric,
    Projection,
    points_from_columns,
    project,
)
from skytells_nb.plots.maps.quality import measure_quality, neighbors_kept, trust_in_words
from skytells_nb.plots.maps.topics import (
    MIN_ROWS,
    MapTopics,
    add_topics,
    cluster_column,
    find_topics,
    place_topics,
    topics_of_clusters,
    zoom_names,
)
from skytells_nb.plots.pages.rows import PageRows, PageTopics, ZoomName, attach_rows
from skytells_nb.plots.theme import Theme, apply_theme, empty_figure, format_count, graph_objects, plain_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_POINTS: dict[int, int] = {2: 100_000, 3: 50_000}
"""By dimensions, for a browser without a graphics card: headless Chromium redraws 100,000 points within 0.7 s after
a zoom, and 500,000 within 4 s. In 3D, 50,000 points take 6 to 7 s to appear and 100,000 take 9 to 15 s."""
HOVER_MAX_POINTS = 50_000
TITLE_FONT_PX = 21
TEXTS_PX = 150
"""The height of title, subtitle and caption."""

Indices = NDArray[np.intp]
OnError = Literal["warn", "null", "raise"]


def semantic_map(
    frame: pd.DataFrame,
    embedding: str = "embedding",
    *,
    color: str | Sequence[Any] | pd.Series[Any] | None = None,
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
    theme: Theme | None = None,
    title: str | None = None,
    color_scale: ColorScale = "linear",
    colors: Mapping[Any, str] | None = None,
    sort: Sort | None = None,
    on_error: OnError = "warn",
    max_points: int | None = None,
    topics: bool = True,
    width: int | None = None,
    height: int | None = None,
    progress: bool | Listener = True,
) -> go.Figure:
    """Draw a map of the rows of a frame by the meaning of their embeddings.

    Without ``color`` and ``label`` the map shows topics: the clusters of ``cluster`` where the frame has them, else the
    dense regions of its points, named by the words that set their texts apart (class TF-IDF, no model). Their hues are
    by place, over a glow of the density. The subtitle says in a sentence what is seen, the caption how far distances
    can be trusted. The view leaves out rows far from all others, which the caption counts and a double click shows. A
    layout fills the plot: the axes of UMAP and PCA are stretched.

    Each point has the position of its row as ``customdata``. Rows without an embedding, or with one that has no
    direction, are omitted; the caption counts them. Points are cached by their vectors, for later processes too, so
    that the same map in other colors is fast.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows.
    embedding : str, default "embedding"
        The column of vectors.
    color : str, Series or sequence, optional
        A column, or one value for each row; a Series with the frame's labels in another order is read by label.
        Numbers, durations, and dates and periods with more than 20 values get a color bar; other columns get one trace
        for each of the 20 most frequent values, and one for all others. Ordered categories keep their order, in the
        colors of the scale.
    label : str, optional
        A column of cluster names, shown at the medians of their points; also the colors, unless ``color`` is passed.
    hover : str or sequence of str, optional
        The columns shown on hover; by default the one with the longest texts, ``[]`` for none. Omitted above 50,000
        points.
    size : str, optional
        A numeric column, shown as the area of the points.
    method : {"umap", "pca"}, default "umap"
        UMAP shows neighborhoods; its first map in a process takes 10 to 40 seconds to compile. PCA is fast.
    dimensions : {2, 3}, default 2
        Dimensions of the map.
    n_neighbors : int, default 15
        Neighbors of each row for UMAP: large values show global structure, small values details.
    min_dist : float, default 0.1
        Smallest distance between points for UMAP.
    metric : {"cosine", "euclidean"}, default "cosine"
        Distance between vectors; with "cosine", PCA is of unit vectors.
    random_state : int or None, default 42
        Seed of the layout and of samples; None for a different map each time.
    basis : pandas.DataFrame, optional
        A frame whose map is reused: new rows are placed among its points without moving them. Draw a new map for rows
        about new subjects.
    coordinates : tuple of two str, optional
        Two numeric columns with the coordinates of the points, instead of a layout.
    quality : bool, default False
        Whether to measure the quality of the map, for the caption and ``figure.layout.meta["quality"]``.
    hulls : bool, default False
        Whether to outline the clusters of ``label``.
    theme : {"light", "dark", "print"}, optional
        Colors of the background; by default it is transparent. ``plots.save`` writes "print" with 300 dots per inch.
    title : str, optional
        Title of the figure; a map with topics has one by default.
    color_scale : {"linear", "log", "quantile"}, default "linear"
        How the numbers of ``color`` go to colors: "log" for amounts over several powers of ten, "quantile" gives each
        part of the scale as many rows. The ticks of the color bar are the numbers.
    colors : dict, optional
        Colors by the values of ``color``, ``label`` or, without both, the names of topics: ``{"praise": "#009e73"}``.
        Other values get colors of their own; numbers with colors are categories.
    sort : {"count", "value"} or list, optional
        Order of the categories of ``color`` in the legend: by their rows, by value, or those of a list first. By
        default ordered categories keep their order, and others are sorted by their rows.
    on_error : {"warn", "null", "raise"}, default "warn"
        What to do about embeddings with NaN or infinite numbers: leave their rows out and count them in the caption,
        with a warning or without one, or raise InputError; "raise" does so for embeddings of zeros too.
    max_points : int, optional
        Maximum number of points; of more rows a seeded sample is drawn. By default 100,000, or 50,000 in 3D.
    topics : bool, default True
        Whether to find and name topics where neither ``color`` nor ``label`` is passed, on maps in 2D of 60 or more
        rows. Where the frame has a column that ``cluster`` made, its clusters are the topics.
    width, height : int, optional
        Size of the figure in pixels; by default it is as wide as its place and 560 or, with topics, 620 high. Names
        are laid out for a width of 860, or this one.
    progress : bool or callable, default True
        Whether to show progress during a long layout; a function of one argument is called with the events of the
        other long steps, one of three with the stage, the completed amount and the total.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure; ``plots.summary(figure)`` describes it in summary.

    Raises
    ------
    InputError
        If a column does not exist or has the wrong type, or an option is invalid.
    MissingExtraError
        If plotly or umap-learn is not installed.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"embedding": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], "topic": ["a", "a", "b"]})
    >>> [trace.name for trace in semantic_map(frame, color="topic", method="pca").data]
    ['a (2)', 'b (1)']
    """
    from skytells_nb.columns import longest_text_column

    given = frame
    frame, color = _with_color(frame, color if color is not None else label)
    shown = _check_columns(frame, embedding, color, label, hover, size)
    if hulls and label is None:
        raise InputError("hulls=True outlines the clusters of label=. Pass label= too.")
    for name, value, known in (("color_scale", color_scale, ColorScale), ("on_error", on_error, OnError)):
        if value not in get_args(known):
            raise InputError(f"{name} must be one of {', '.join(map(repr, get_args(known)))}, got {value!r}.")
    if max_points is not None and max_points < 1:
        raise InputError(f"max_points must be at least 1, got {max_points!r}.")
    figure = graph_objects().Figure()
    style = CategoryStyle.of(colors, sort)
    if sort is not None and color is None:
        raise InputError("sort= is the order of the categories of color=. Pass color= too.")
    by_direction = metric == "cosine" and coordinates is None
    matrix, has_vector, notes = _read_vectors(given, embedding, by_direction=by_direction, on_error=on_error)
    rows: Indices = np.flatnonzero(has_vector)
    if not len(rows):
        reason = f"column {embedding} has {format_count(len(frame), 'row')} and no vectors"
        if not frame[embedding].isna().all():
            only = "nothing but zeros" if len(notes) == 1 and "zero" in notes[0] else "no vector with a direction"
            reason = "; ".join([f"column {embedding} has {format_count(len(frame), 'row')} and {only}", *notes])
        return empty_figure(f"No embeddings to draw: {reason}.", theme=theme, title=title)
    limit = max_points or MAX_POINTS.get(dimensions, MAX_POINTS[2])
    # Do not lay out far more rows than will be drawn.
    rows, matrix = _sample(rows, matrix, max(limit, SAMPLE_ABOVE_ROWS), random_state)
    with progress_line(progress, f"Map of {format_count(len(rows), 'row')}") as on_progress:
        if coordinates is not None:
            projection = _projection_from_columns(frame.iloc[rows], coordinates, dimensions, basis)
        else:
            projection = project(
                matrix,
                method=method,
                dimensions=dimensions,
                n_neighbors=n_neighbors,
                min_dist=min_dist,
                metric=metric,
                random_state=random_state,
                basis=None if basis is None else _basis_matrix(basis, embedding, metric),
                on_progress=on_progress,
            )
    map_quality = None
    if quality:
        points = projection.points
        map_quality = measure_quality(matrix, points, neighbors=n_neighbors, metric=metric, seed=random_state)
    laid_out = rows
    rows, points = _sample(rows, projection.points, limit, random_state)
    total = int(has_vector.sum())
    if len(rows) < total:
        notes.insert(0, f"random sample of {len(rows):,} of {total:,}")
    page_columns = [name for name in dict.fromkeys([*shown, color, label, size]) if name is not None]
    if shown and len(rows) > HOVER_MAX_POINTS:
        shown = []
        notes.append(f"hover texts omitted above {HOVER_MAX_POINTS:,} points")
    view = frame.iloc[rows]
    is_flat = points.shape[1] == 2
    with_topics = topics and is_flat and color is None and label is None and len(rows) >= MIN_ROWS
    figure.update_layout(width=width, height=height or (HEIGHT_PX if with_topics else 560))
    plot_size = ((width or WIDTH_PX) - 2.0 * SIDE_PX, figure.layout.height - TEXTS_PX)
    if hulls and label is not None:
        add_hulls(figure, points, view[label], category_colors(view[label], style) if color == label else {})
    enlarged = (plot_size[0] / (WIDTH_PX - 2.0 * SIDE_PX)) ** 0.5
    sizes = marker_sizes(None if size is None else view[size], len(rows), enlarged)
    markers = Markers(points, rows, hover_texts(view, shown), sizes)
    subtitle = color_description = ""
    page_topics: PageTopics | None = None
    page_names: Callable[[], list[ZoomName]] = list
    if with_topics:
        density = measure_density(points, robust_view(points))
        text = longest_text_column(frame, exclude=(embedding,))
        texts = None if text is None else view[text].tolist()
        clusters = cluster_column(frame)
        found = find_topics(density, texts) if clusters is None else topics_of_clusters(view[clusters], texts)
        places = place_topics(density, found, theme, style)
        omitted = add_topics(figure, markers, density, found, plot_size, theme, places)
        page_topics = PageTopics(found.names, [fill for fill, _ in places.colors], found.labels)
        drawn = np.searchsorted(laid_out, rows)
        page_names = partial(zoom_names, density, found, places, lambda: matrix[drawn], texts)
        kept = _neighbors_kept(matrix, projection, n_neighbors, metric, random_state)
        if kept is not None and coordinates is None and not quality:
            notes.insert(0, trust_in_words(kept))
        if omitted:
            notes.append(f"{omitted:,} names of topics omitted for lack of space")
        title = title or f"{format_count(total, 'row')} by the meaning of their {text or 'embeddings'}"
        subtitle = _say_topics(found, text)
        color_description = f" {subtitle} {_list_topics(found)}".rstrip()
    else:
        color_description = add_points(
            figure, markers, None if color is None else view[color], color, scale=color_scale, theme=theme, style=style
        )
    if label is not None:
        label_colors = category_colors(view[label], style)
        notes.append(add_labels(figure, points, view[label], theme, colors=label_colors, plot_size=plot_size))
        page_names = partial(label_names, points, view[label], theme, label_colors)
    if size is not None:
        notes.append(f"area shows {size}")
    if quality:
        notes.append(str(map_quality) if map_quality is not None else "too few distinct rows to measure the quality")
    caption = " · ".join([format_count(total, "row"), projection.description, *filter(None, notes)])
    outside = _set_axes(figure, points, legend=color is not None, same_scale=coordinates is not None)
    if outside:
        caption += f" · {format_count(outside, 'row')} far from all others outside of the view (double-click shows all)"
    summary = f"Semantic map of {embedding}: {caption}.{color_description}"
    apply_theme(figure, theme=theme, title=title, subtitle=subtitle, caption=caption, summary=summary)
    if with_topics:
        figure.update_layout(title={"font": {"size": TITLE_FONT_PX, "weight": "bold"}})
    if map_quality is not None:
        figure.update_layout(meta={"summary": summary, "quality": asdict(map_quality)})
    if is_flat:
        attach_rows(figure, PageRows(rows, view[page_columns], page_topics, page_names, plot_size[0]))
    return figure


def _read_vectors(
    frame: Any, embedding: str, *, by_direction: bool, on_error: OnError
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """Return the vectors to lay out, which rows have one, and how many rows are omitted for which reason.

    ``by_direction`` they are unit vectors, and vectors of zeros are omitted.
    """
    from skytells_nb.columns import to_matrix
    from skytells_nb.embedding_columns import unit_vectors_of

    nonfinite: Literal["raise", "missing"] = "raise" if on_error == "raise" else "missing"
    if by_direction:
        vectors = unit_vectors_of(frame, embedding, nonfinite=nonfinite)
        matrix, has_vector = vectors.matrix, np.zeros(len(frame), dtype=np.bool_)
        has_vector[vectors.rows] = True
    else:
        matrix, has_vector = to_matrix(frame[embedding], nonfinite=nonfinite)
    missing = frame[embedding].isna().to_numpy(dtype=np.bool_)
    broken = int((~has_vector & ~missing).sum())
    zero = 0
    has_direction: NDArray[np.bool_] = np.asarray(matrix.any(axis=1))
    if by_direction and not has_direction.all():
        zero = int((~has_direction).sum())
        has_vector = has_vector.copy()
        has_vector[np.flatnonzero(has_vector)[~has_direction]] = False
        matrix = matrix[has_direction]
    notes = [
        f"{format_count(count, 'row')} {what} omitted"
        for count, what in (
            (int(missing.sum()), "without an embedding"),
            (broken, "with NaN or infinite numbers in the embedding"),
            (zero, "with all-zero embeddings"),
        )
        if count
    ]
    if zero and on_error == "raise":
        raise InputError(
            f"{notes[-1].removesuffix(' omitted')}: column {embedding!r} must hold vectors with a direction."
        )
    if broken and on_error == "warn":
        warn(f"The map leaves out {format_count(broken, 'row')} with NaN or infinite numbers in {embedding!r}.")
    return matrix, has_vector, notes


_kept_of: WeakKeyDictionary[Projection, dict[tuple[Any, ...], float | None]] = WeakKeyDictionary()
"""What was measured of the projections in memory: a projection is of one matrix."""


def _neighbors_kept(
    matrix: NDArray[np.float32], projection: Projection, neighbors: int, metric: Metric, seed: int | None
) -> float | None:
    """The share of neighbors that the map keeps, measured once as long as the projection is in memory."""
    measured = _kept_of.setdefault(projection, {})
    key = (len(matrix), neighbors, metric, seed)
    if key not in measured:
        measured[key] = neighbors_kept(matrix, projection.points, neighbors=neighbors, metric=metric, seed=seed)
    return measured[key]


def _say_topics(topics: MapTopics, text: str | None) -> str:
    """What the map shows, in one sentence."""
    near = f"Near means similar {plain_text(text, 40)}" if text is not None else "Near means similar"
    named = [(name, size) for name, size in zip(topics.names, topics.sizes, strict=True) if name]
    if not named:
        return f"{near}."
    name, size = max(named, key=lambda topic: topic[1])
    share = format(size / len(topics.labels), ".0%")
    return f"{near}; the largest of {len(named):,} topics is “{plain_text(name, 60)}” ({share} of the rows)."


def _list_topics(topics: MapTopics) -> str:
    named = [f"{plain_text(name, 60)} {size:,}" for name, size in zip(topics.names, topics.sizes, strict=True) if name]
    return f"Topics: {'; '.join(named)}." if named else ""


def _set_axes(figure: Any, points: Any, *, legend: bool, same_scale: bool) -> int:
    """Hide the axes and show the part of the map where nearly all points are; return the number of the others."""
    figure.update_layout(showlegend=legend)
    if points.shape[1] == 3:
        hidden = {"visible": False}
        figure.update_scenes(xaxis=hidden, yaxis=hidden, zaxis=hidden, aspectmode="data")
        return 0
    left, right, bottom, top = robust_view(points)
    figure.update_xaxes(visible=False, range=[left, right])
    # Columns of the frame may be places in the world, whose distances are comparable in all directions.
    figure.update_yaxes(visible=False, range=[bottom, top], scaleanchor="x" if same_scale else None)
    x, y = points.T
    return int(((x < left) | (x > right) | (y < bottom) | (y > top)).sum())


def _with_color(frame: Any, color: Any) -> tuple[Any, str | None]:
    """Return the frame with a column for a color that is passed as values, and the name of the column of the color."""
    import pandas as pd

    if color is None or isinstance(color, (str, tuple)) or not hasattr(color, "__len__"):
        return frame, color
    if not isinstance(frame, pd.DataFrame):
        return frame, None
    if len(color) != len(frame):
        raise InputError(
            f"color must be the name of a column or one value for each of the {len(frame):,} rows, "
            f"got {len(color):,} values."
        )
    if not isinstance(color, pd.Series):
        # Arrays, indexes and categoricals keep their dtype, and with it their order.
        values = color if hasattr(color, "dtype") else list(color)
        color = pd.Series(values, name=getattr(color, "name", None)).set_axis(frame.index)
    elif not color.index.equals(frame.index):
        by_label = color.index.is_unique and frame.index.isin(color.index).all()
        color = color.reindex(frame.index) if by_label else color.set_axis(frame.index)
    name = "color" if color.name is None else str(color.name)
    while name in frame.columns:
        name += " "
    return frame.assign(**{name: color}), name


def _check_columns(
    frame: Any,
    embedding: str,
    color: str | None,
    label: str | None,
    hover: str | Sequence[str] | None,
    size: str | None,
) -> list[str]:
    """Check all named columns and return those for hover texts."""
    import pandas as pd

    from skytells_nb.columns import column_of, longest_text_column

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"A semantic map needs a DataFrame, got {type(frame).__name__}.")
    if hover is None:
        text = longest_text_column(frame, exclude=(embedding, color, label))
        shown = [] if text is None else [text]
    else:
        shown = [hover] if isinstance(hover, str) else list(hover)
    for name in [embedding, color, label, size, *shown]:
        if name is None:
            continue
        column_of(frame, name, hint=" Create one with frame.skytells.embed(...)." if name == embedding else "")
    if size is not None and not is_numeric(frame[size]):
        raise InputError(f"size must be a numeric column, got {size!r} of dtype {frame[size].dtype}.")
    return shown


def _basis_matrix(basis: Any, embedding: str, metric: Metric) -> NDArray[np.float32]:
    """The vectors of the frame whose map is reused, in the form of those that are placed."""
    _check_columns(basis, embedding, None, None, [], None)
    return _read_vectors(basis, embedding, by_direction=metric == "cosine", on_error="null")[0]


def _projection_from_columns(view: Any, coordinates: Any, dimensions: int, basis: Any) -> Projection:
    """The points from two columns of the frame."""
    if dimensions != 2 or basis is not None:
        raise InputError("coordinates= are the points of a map in 2D. Pass neither dimensions=3 nor basis=.")
    points, description = points_from_columns(view, coordinates)
    return Projection(points.astype(np.float32), "pca", description)


def _sample(rows: Indices, data: Any, limit: int, seed: int | None) -> tuple[Indices, Any]:
    if len(rows) <= limit:
        return rows, data
    sampled = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    return rows[sampled], data[sampled]
