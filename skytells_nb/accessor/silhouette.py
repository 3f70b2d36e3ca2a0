"""How many clusters: the number whose silhouette is highest."""

from __future__ import annotations

import numpy as np

from skytells_nb.accessor.kmeans import SEED, kmeans, sample_rows
from skytells_nb.accessor.vectors import Floats, Places

MOST_CLUSTERS = 20
SAMPLE_ROWS = 2000


def number_of_clusters(matrix: Floats) -> int:
    """The number from 2 to 20 whose clusters have the highest mean silhouette on a sample of 2,000 unit vectors.

    1 where none is above zero: fewer than three vectors, or all alike.
    """
    sample = sample_rows(matrix, SAMPLE_ROWS, np.random.default_rng(SEED))
    best, number = 0.0, 1
    apart = np.clip(1 - sample @ sample.T, 0, None)
    np.fill_diagonal(apart, 0)
    for n in range(2, min(MOST_CLUSTERS, len(sample) - 1) + 1):
        found = silhouette(apart, kmeans(sample, n, starts=2).label)
        if found > best:
            best, number = found, n
    return number


def silhouette(apart: Floats, label: Places) -> float:
    """The mean silhouette of labels from 0 on, by the distances (n, n) of all pairs.

    That of a vector is (b - a) / max(a, b): a is its mean distance to the others of its cluster, b that to the nearest
    other cluster. A vector alone in its cluster counts 0.

    Rousseeuw, P. J. (1987), Silhouettes, J. Comput. Appl. Math. 20, 53-65.
    """
    members = (label[:, None] == np.arange(label.max() + 1)).astype(np.float32)
    sizes = members.sum(axis=0)
    if len(sizes) < 2:
        return 0.0
    sums = (apart @ members).astype(np.float64)
    rows = np.arange(len(label))
    own = sizes[label]
    a = sums[rows, label] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, label] = np.inf
    b = means.min(axis=1)
    widest = np.maximum(a, b)
    value = np.where((own > 1) & (widest > 0), (b - a) / np.where(widest > 0, widest, 1), 0)
    return float(value.mean())
