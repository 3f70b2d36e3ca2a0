"""The topics of an explorer's map, as those of a semantic map: its clusters, or the dense regions of its points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.density import Density, measure_density, own_peak_of, peak_of, robust_view
from skytells_nb.plots.maps.topics import MIN_ROWS, MapTopics, cluster_column, find_topics, topics_of_clusters
from skytells_nb.topics.tree import parts_of_topics
from skytells_nb.widgets.explorer.rows import GRID_STEPS, Rows
from skytells_nb.widgets.safe_text import plain


class ExplorerTopics:
    """The named topics of a map and, once asked for, their parts, as names with a count and a place on the grid.

    Fewer than ``MIN_ROWS`` points have no topics. Names are words of the texts, or the names of clusters.
    """

    def __init__(self, rows: Rows, points: NDArray[np.uint16]) -> None:
        self._rows = rows
        self._found: tuple[Density, MapTopics, list[str | None] | None] | None = None
        if len(points) < MIN_ROWS:
            return
        # A semantic map has its y axis upwards; so the same rows have the same topics here.
        upwards = points.astype(np.float32)
        upwards[:, 1] = GRID_STEPS - upwards[:, 1]
        view = rows.frame.iloc[rows.plotted]
        texts = None if rows.text is None else view[rows.text].tolist()
        density = measure_density(upwards, robust_view(upwards))
        clusters = cluster_column(rows.frame)
        topics = find_topics(density, texts) if clusters is None else topics_of_clusters(view[clusters], texts)
        self._found = density, topics, texts

    def names(self) -> list[dict[str, Any]]:
        """The topics, the largest first."""
        if self._found is None:
            return []
        density, topics, _ = self._found
        return [
            _entry(name, count, peak_of(density, topics.labels == number))
            for number, (name, count) in enumerate(zip(topics.names, topics.sizes, strict=True))
            if name
        ]

    def parts(self) -> list[dict[str, Any]]:
        """The parts of topics, for a closer look than the whole map gives: as a semantic map names them."""
        if self._found is None:
            return []
        density, topics, texts = self._found
        parts = parts_of_topics(self._rows.matrix, topics.labels, texts, topics.names)
        return [
            _entry(name, count, own_peak_of(density, parts.labels == part))
            for part, (name, count) in enumerate(zip(parts.names, parts.sizes, strict=True))
            if name
        ]


def _entry(name: str, count: int, place: tuple[float, float]) -> dict[str, Any]:
    x, y = place
    return {"name": " ".join(plain(name).split()), "count": count, "place": [round(x), round(GRID_STEPS - y)]}
