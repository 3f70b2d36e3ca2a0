"""Quality of a map: whether neighbors on the map are neighbors by similarity, and vice versa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.projection import scale_for_metric
from skytells_nb.vectors.arrays import Floats

MEASURED_ROWS = 1_000
REFERENCE_ROWS = 20_000
MIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Quality:
    """Trustworthiness and preservation of ``neighbors`` neighbors, both from 0 to 1, for ``measured`` rows.

    ``trustworthiness`` (Venna and Kaski, as in scikit-learn) is lower when dissimilar rows are close on the map; it is
    about 0.5 for random points. ``preserved`` is the mean fraction of the nearest rows of a row that are also its
    nearest rows on the map.
    """

    trustworthiness: float
    preserved: float
    neighbors: int
    measured: int
    among: int

    def __str__(self) -> str:
        sample = "" if self.measured == self.among else f", measured on {self.measured:,} rows among {self.among:,}"
        return (
            f"trustworthiness {self.trustworthiness:.2f}, "
            f"{self.preserved:.0%} of the {self.neighbors} nearest rows preserved{sample}"
        )


def measure_quality(
    vectors: Floats, points: Floats, *, neighbors: int = 15, metric: str = "cosine", seed: int | None = 42
) -> Quality | None:
    """Measure the quality of ``points`` (n, 2 or 3) for ``vectors`` (n, d).

    The result is None for fewer than 5 rows and where all points coincide.

    Measured for a seeded sample of 1,000 rows, against all rows or a seeded sample of 20,000 of them.

    >>> square = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [5, 5]], dtype=np.float32)
    >>> measure_quality(square, square, neighbors=2, metric="euclidean").trustworthiness
    1.0
    """
    n = len(vectors)
    if n < MIN_ROWS or not np.ptp(points, axis=0).any():
        return None
    random = np.random.default_rng(seed)
    among = np.arange(n) if n <= REFERENCE_ROWS else np.sort(random.choice(n, REFERENCE_ROWS, replace=False))
    count = len(among)
    measured = (
        np.arange(count) if count <= MEASURED_ROWS else np.sort(random.choice(count, MEASURED_ROWS, replace=False))
    )
    k = min(neighbors, (count - 1) // 2)
    vector_distances = _distances(scale_for_metric(vectors[among], metric), measured)
    point_distances = _distances(points[among].astype(np.float32), measured)
    near_points = np.argpartition(point_distances, k - 1, axis=1)[:, :k]
    near_vectors = np.argpartition(vector_distances, k - 1, axis=1)[:, :k]
    preserved = (near_points[:, :, None] == near_vectors[:, None, :]).any(axis=2).mean()
    # The number of rows that are more similar than each neighbor on the map: its rank minus one.
    ranks = np.empty((len(measured), k), dtype=np.int64)
    for column in range(k):
        own_distances = np.take_along_axis(vector_distances, near_points[:, [column]], axis=1)
        ranks[:, column] = (vector_distances < own_distances).sum(axis=1)
    excess_ranks = float(np.clip(ranks + 1 - k, 0, None).sum())
    max_excess_ranks = len(measured) * k * (2 * count - 3 * k - 1) / 2
    return Quality(1 - excess_ranks / max_excess_ranks, float(preserved), k, len(measured), count)


KEPT_ROWS = 300
FAITHFUL, FAIR = 0.5, 0.3


def neighbors_kept(vectors: Floats, points: Floats, *, neighbors: int, metric: str, seed: int | None) -> float | None:
    """The mean share of the nearest rows of a row that are also its nearest on the map, for a sample of 300 rows.

    A fraction of the work of :func:`measure_quality`. None where there are too few rows or all points coincide.
    """
    n = len(vectors)
    k = min(neighbors, (n - 1) // 2)
    if n < MIN_ROWS or not np.ptp(points, axis=0).any():
        return None
    random = np.random.default_rng(seed)
    measured = np.arange(n) if n <= KEPT_ROWS else np.sort(random.choice(n, KEPT_ROWS, replace=False))
    distances = _cosine_distances(vectors, measured) if metric == "cosine" else _distances(vectors, measured)
    near = [
        np.argpartition(found, k - 1, axis=1)[:, :k]
        for found in (distances, _distances(points.astype(np.float32), measured))
    ]
    return float((near[0][:, :, None] == near[1][:, None, :]).any(axis=2).mean())


def trust_in_words(kept: float) -> str:
    """How far a reader may trust the distances on a map.

    >>> trust_in_words(0.2)
    'loose map: 20% of neighbors kept'
    """
    word = "faithful" if kept >= FAITHFUL else "fair" if kept >= FAIR else "loose"
    return f"{word} map: {kept:.0%} of neighbors kept"


def _cosine_distances(vectors: Floats, measured: NDArray[np.intp]) -> Floats:
    """Negative cosines (m, n) of the measured rows with all rows, each row up to a factor, infinite with itself."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    distances: Floats = vectors[measured] @ vectors.T
    # Without a copy of all vectors as unit vectors.
    distances /= -np.maximum(norms, np.float32(1e-30))
    distances[np.arange(len(measured)), measured] = np.inf
    return distances


def _distances(vectors: Floats, measured: NDArray[np.intp]) -> Floats:
    """Squared distances (m, n) from the measured rows to all rows, infinite from each row to itself."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    distances: Floats = vectors[measured] @ vectors.T
    distances *= -2
    distances += squares
    distances[np.arange(len(measured)), measured] = np.inf
    return distances
