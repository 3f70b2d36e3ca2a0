"""The topics of an explorer's map, as those of a semantic map: its clusters, or the dense regions of its points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.density import measure_density, peak_of, robust_view
from skytells_nb.plots.maps.topics import MIN_ROWS, cluster_column, find_topics, topics_of_clusters
from skytells_nb.widgets.explorer.rows import GRID_STEPS, Rows
from skytells_nb.widgets.safe_text import plain


def map_topics(rows: Rows, points: NDArray[np.uint16]) -> list[dict[str, Any]]:
    """Return the name, the count and the place on the grid of each named topic, the largest first.

    Fewer than ``MIN_ROWS`` points have no topics. Names are words of the texts, or the names of clusters.
    """
    if len(points) < MIN_ROWS:
        return []
    # A semantic map has its y axis upwards; so the same rows have the same topics here.
    upwards = points.astype(np.float32)
    upwards[:, 1] = GRID_STEPS - upwards[:, 1]
    view = rows.frame.iloc[rows.plotted]
    texts = None if rows.text is None else view[rows.text].tolist()
    density = measure_density(upwards, robust_view(upwards))
    clusters = cluster_column(rows.frame)
    topics = find_topics(density, texts) if clusters is None else topics_of_clusters(view[clusters], texts)
    named = []
    for number, (name, count) in enumerate(zip(topics.names, topics.sizes, strict=True)):
        if name:
            x, y = peak_of(density, topics.labels == number)
            place = [round(float(x)), round(float(GRID_STEPS - y))]
            named.append({"name": " ".join(plain(name).split()), "count": count, "place": place})
    return named
