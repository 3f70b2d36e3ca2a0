"""The topics of a map: the dense regions of its points, named by the words that set their texts apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.density import Density, find_regions, glow_image, own_peak_of, peak_of
from skytells_nb.plots.maps.hues import place_colors, text_color
from skytells_nb.plots.maps.labels import WrittenName, write_names
from skytells_nb.plots.maps.points import PLAIN, CategoryStyle, Markers, point_trace
from skytells_nb.plots.pages.rows import ZoomName
from skytells_nb.plots.theme import GRAY, Theme, escape_text, plain_text, with_opacity
from skytells_nb.topics.tree import TopicParts, parts_of_topics, short_name
from skytells_nb.topics.words import distinctive_words
from skytells_nb.vectors.arrays import Floats

if TYPE_CHECKING:
    import pandas as pd

MIN_ROWS = 60
"""Fewer rows make no topics, only points."""
MAX_TOPICS = 22
UNCLUSTERED_OPACITY = 0.4
GLOW: dict[Theme | None, float] = {"light": 0.4, "print": 0.36, "dark": 0.4, None: 0.32}


@dataclass(frozen=True, slots=True, eq=False)
class MapTopics:
    """The topic (n,) of each point, negative for none, and the names of the topics, the largest first."""

    labels: NDArray[np.int64]
    names: list[str]

    @property
    def sizes(self) -> list[int]:
        """The points of each topic."""
        counts: list[int] = np.bincount(self.labels[self.labels >= 0], minlength=len(self.names)).tolist()
        return counts


def most_topics(n: int) -> int:
    """A number of topics that a reader can take in: 5 for hundreds of rows, 16 for thousands.

    >>> [most_topics(n) for n in (100, 1_000, 3_000, 100_000)]
    [4, 9, 16, 22]
    """
    return int(np.clip(round(n**0.5 * 0.3), 4, MAX_TOPICS))


def cluster_column(frame: pd.DataFrame) -> Hashable | None:
    """The newest column that ``cluster`` made: categories, with their similarities beside them."""
    import pandas as pd

    for name in reversed(frame.columns.tolist()):
        scores = (*name[:-1], f"{name[-1]}_score") if isinstance(name, tuple) and name else f"{name}_score"
        if scores in frame.columns and isinstance(frame.dtypes[name], pd.CategoricalDtype):
            found: Hashable = name
            return found
    return None


def topics_of_clusters(clusters: pd.Series[Any], texts: Sequence[str | None] | None) -> MapTopics:
    """The clusters of the rows as topics, the largest first; those that are only numbered get words as names."""
    codes = clusters.cat.codes.to_numpy().astype(np.int64)
    sizes = np.bincount(codes[codes >= 0], minlength=len(clusters.cat.categories))
    order = [code for code in np.argsort(-sizes, kind="stable").tolist() if sizes[code]][:MAX_TOPICS]
    rank = np.full(len(sizes) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    labels = rank[codes]
    names = [plain_text(clusters.cat.categories[code], 60) for code in order]
    if texts is not None and clusters.cat.categories.dtype.kind in "iu":
        names = [short_name(words) for words in distinctive_words(texts, labels, len(order))]
    return MapTopics(labels, names)


def find_topics(density: Density, texts: Sequence[str | None] | None) -> MapTopics:
    """Find the dense regions of a map, and name them by the words of their texts where there are texts."""
    labels = find_regions(density, most_topics(len(density.cells)))
    # Islands that nothing connects to the others may be more than a reader can take in.
    labels = np.where(labels < MAX_TOPICS, labels, -1)
    count = int(labels.max(initial=-1)) + 1
    if texts is None or count < 2:
        return MapTopics(labels, [""] * count)
    return MapTopics(labels, [short_name(words) for words in distinctive_words(texts, labels, count)])


@dataclass(frozen=True, slots=True, eq=False)
class TopicPlaces:
    """The place of each topic on a map, and its colors for points and for text."""

    peaks: list[tuple[float, float]]
    colors: list[tuple[str, str]]


def place_topics(density: Density, topics: MapTopics, theme: Theme | None, style: CategoryStyle = PLAIN) -> TopicPlaces:
    """Each topic at the densest place of its points, in the color that the user has for its name or one by its place.

    Raises InputError if there are colors, and none is for a topic.
    """
    style.check(topics.names)
    peaks = [peak_of(density, topics.labels == topic) for topic in range(len(topics.names))]
    colors = [
        (style.colors[name], text_color(style.colors[name], theme)) if name in style.colors else by_place
        for name, by_place in zip(topics.names, place_colors(peaks, topics.sizes, theme), strict=True)
    ]
    return TopicPlaces(peaks, colors)


def zoom_names(
    density: Density,
    topics: MapTopics,
    places: TopicPlaces,
    vectors: Callable[[], Floats],
    texts: Sequence[str | None] | None,
) -> list[ZoomName]:
    """The names of topics and of their parts by their vectors, for a closer look than the map gives."""
    names = [
        ZoomName(name, *peak, rows, ink)
        for name, peak, rows, (_, ink) in zip(topics.names, places.peaks, topics.sizes, places.colors, strict=True)
    ]
    parts: TopicParts = parts_of_topics(vectors(), topics.labels, texts, topics.names)
    for part, (topic, name, rows) in enumerate(zip(parts.topics, parts.names, parts.sizes, strict=True)):
        if name:
            place = own_peak_of(density, parts.labels == part)
            names.append(ZoomName(name, *place, rows, places.colors[topic][1], level=2))
    return names


def add_topics(
    figure: Any,
    markers: Markers,
    density: Density,
    topics: MapTopics,
    plot_size: tuple[float, float],
    theme: Theme | None,
    places: TopicPlaces,
) -> int:
    """Draw points in the colors of their topics over a glow of their density; return the number of names without space.

    One trace has all points, in the order of the rows.
    """
    peaks, colors = places.peaks, places.colors
    none = len(colors)
    codes = np.where(topics.labels >= 0, topics.labels, none)
    left, right, bottom, top = density.view
    shades = np.array([list(bytes.fromhex(color[1:])) for color in [*(fill for fill, _ in colors), GRAY]], np.uint8)
    figure.add_layout_image(
        source=glow_image(density, shades[codes], strength=GLOW[theme]),
        **{"x": left, "y": top, "sizex": right - left, "sizey": top - bottom, "xref": "x", "yref": "y"},
        **{"xanchor": "left", "yanchor": "top", "sizing": "stretch", "layer": "below", "name": "density"},
    )
    for topic, name in enumerate(topics.names):
        if name:
            markers.texts[topics.labels == topic] += f"<br>topic: {escape_text(name, 60)}"
    steps = [fill for fill, _ in colors] + [with_opacity(GRAY, UNCLUSTERED_OPACITY)]
    scale = [[edge / len(steps), color] for at, color in enumerate(steps) for edge in (at, at + 1)]
    marker = {"colorscale": scale, "cmin": -0.5, "cmax": none + 0.5, "showscale": False}
    figure.add_trace(point_trace(markers, slice(None), name="", color=codes.astype(np.int8), marker=marker))
    names = [
        WrittenName(name, colors[topic][1], peaks[topic], topics.labels == topic, with_count=True)
        for topic, name in enumerate(topics.names)
        if name
    ]
    return write_names(figure, names, markers.points.astype(np.float64), density.view, plot_size, theme)
