"""Spherical k-means: each vector belongs to the center with which its cosine similarity is highest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skytells_nb.vectors.arrays import Floats, Indices, row_blocks, unit_vectors
from skytells_nb.vectors.neighbors import cosines

SEED = 42
SAMPLE_ROWS = 10_000
SAMPLE_ROWS_PER_CLUSTER = 10
"""Sampled vectors for each cluster, if that is more than ``SAMPLE_ROWS``."""
N_INIT = 4
DRAWS_PER_INIT = 3
"""Sets of initial centers drawn for each run; those with the smallest total distance nearly always end best."""
MAX_ITERATIONS = 60
TOLERANCE = 1e-5
"""Relative decrease of the total distance below which the centers have converged."""
ZERO_DISTANCE = 1e-6
"""Distances below this are rounding errors of float32 between equal vectors."""


@dataclass(frozen=True)
class Clusters:
    """Index (n,) of the center of each vector, its cosine with that center, float32 (n,), and the centers (k, d)."""

    labels: Indices
    similarity: Floats
    centers: Floats


def kmeans(
    matrix: Floats, n: int, *, n_init: int = N_INIT, on_progress: Callable[[int], None] = lambda done: None
) -> Clusters:
    """Cluster unit vectors into ``n`` clusters, fewer if there are fewer distinct vectors. Deterministic.

    The initial centers (greedy k-means++, the best of ``n_init`` runs) are fitted on a sample of 10,000 vectors, or
    ten for each cluster; then the centers are updated on all vectors. Clusters are ordered by size, the largest first;
    of equal sizes, the one that occurs first comes first. ``on_progress`` is called with the number of passes over the
    sample or all vectors.
    """
    passes = itertools.count(1)

    def tell() -> None:
        on_progress(next(passes))

    rng = np.random.default_rng(SEED)
    sample = sample_rows(matrix, max(SAMPLE_ROWS, n * SAMPLE_ROWS_PER_CLUSTER), rng)
    n = min(n, len(sample))
    candidates = sorted(
        (_initial_centers(sample, n, rng, tell) for _ in range(DRAWS_PER_INIT * n_init)),
        key=lambda centers: _total_distance(sample, centers),
    )
    runs = [_lloyd(sample, centers, tell) for centers in candidates[:n_init]]
    best = max(runs, key=lambda clusters: float(clusters.similarity.sum(dtype=np.float64)))
    clusters = best if len(sample) == len(matrix) else _lloyd(matrix, best.centers, tell)
    return _order_by_size(matrix, clusters)


def fit_centers(sample: Floats, n: int, rng: np.random.Generator, *, iterations: int = 8) -> Floats:
    """Return up to ``n`` centers that a few iterations fit to sampled unit vectors; for a partition, not for clusters.

    The initial centers are drawn at random: for hundreds of centers the greedy draw takes longer than all the rest.
    """
    centers = np.unique(sample[rng.choice(len(sample), min(n, len(sample)), replace=False)], axis=0)
    for _ in range(iterations):
        centers = _update_centers(sample, _assign(sample, centers))
    return centers


def sample_rows(matrix: Floats, max_rows: int, rng: np.random.Generator) -> Floats:
    """Return the matrix, or ``max_rows`` sampled rows of it in their order."""
    if len(matrix) <= max_rows:
        return matrix
    return matrix[np.sort(rng.choice(len(matrix), max_rows, replace=False))]


def _initial_centers(matrix: Floats, n: int, rng: np.random.Generator, tell: Callable[[], None]) -> Floats:
    """Return initial centers by greedy k-means++: at most ``n``, no two of them equal.

    Each step draws 2 + log(n) candidates with a probability proportional to their distance from the previous centers,
    and takes the one that leaves the smallest total distance, as scikit-learn's ``kmeans_plusplus`` does.
    """
    trials = 2 + int(np.log(n))
    chosen = [int(rng.integers(len(matrix)))]
    distances = _distances(matrix, chosen)[:, 0]
    while len(chosen) < n and distances.any():
        drawn = rng.choice(len(matrix), trials, p=distances / distances.sum(dtype=np.float64))
        new_distances = np.minimum(distances[:, None], _distances(matrix, drawn))
        best = int(new_distances.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        distances = new_distances[:, best]
    tell()
    return matrix[chosen]


def _total_distance(matrix: Floats, centers: Floats) -> float:
    """Return the sum of the distances of all vectors to their nearest center."""
    return len(matrix) - float(_assign(matrix, centers).similarity.sum(dtype=np.float64))


def _distances(matrix: Floats, rows: Sequence[int] | Indices) -> Floats:
    """Return the cosine distances (n, r) of all vectors to those of ``rows``; 0 between equal ones."""
    distances = 1 - matrix @ matrix[rows].T
    distances[distances < ZERO_DISTANCE] = 0
    return distances


def _lloyd(matrix: Floats, centers: Floats, tell: Callable[[], None]) -> Clusters:
    """Assign the vectors and update the centers until these converge."""
    previous = np.inf
    for _ in range(MAX_ITERATIONS):
        clusters = _assign(matrix, centers)
        tell()
        total = len(matrix) - float(clusters.similarity.sum(dtype=np.float64))
        if total >= previous * (1 - TOLERANCE):
            break
        previous = total
        centers = _update_centers(matrix, clusters)
    return clusters


def _assign(matrix: Floats, centers: Floats) -> Clusters:
    labels = np.empty(len(matrix), dtype=np.int64)
    similarity = np.empty(len(matrix), dtype=np.float32)
    for block in row_blocks(matrix):
        products = matrix[block] @ centers.T
        labels[block] = products.argmax(axis=1)
        similarity[block] = products.max(axis=1)
    return Clusters(labels, similarity, centers)


def _update_centers(matrix: Floats, clusters: Clusters) -> Floats:
    """Return the directions of the sums of the members; an empty cluster moves to the vector farthest from its own."""
    numbers = np.arange(len(clusters.centers))
    sums = np.zeros_like(clusters.centers)
    for block in row_blocks(matrix):
        order = np.argsort(clusters.labels[block], kind="stable")
        present, firsts = np.unique(clusters.labels[block][order], return_index=True)
        sums[present] += np.add.reduceat(matrix[block][order], firsts, axis=0)
    empty = np.flatnonzero(np.bincount(clusters.labels, minlength=len(numbers)) == 0)
    sums[empty] = matrix[np.argsort(clusters.similarity, kind="stable")[: len(empty)]]
    return unit_vectors(sums)


def _order_by_size(matrix: Floats, clusters: Clusters) -> Clusters:
    """Number the clusters by size, the largest 0, and leave out empty ones."""
    sizes = np.bincount(clusters.labels, minlength=len(clusters.centers))
    used, first_rows = np.unique(clusters.labels, return_index=True)
    order = used[np.lexsort((first_rows, -sizes[used]))]
    number = np.empty(len(sizes), dtype=np.int64)
    number[order] = np.arange(len(order))
    # Equal vectors have equal cosines, which those from the products of blocks are not to the last bit.
    similarity = np.concatenate(
        [cosines(matrix[block], clusters.centers[clusters.labels[block]]) for block in row_blocks(matrix)]
    )
    return Clusters(number[clusters.labels], similarity, clusters.centers[order])


MAX_CLUSTERS = 20
SILHOUETTE_ROWS = 2000
SILHOUETTE_COST = 8
"""Clusters that take as long as what does not depend on their number."""


def choose_n_clusters(
    matrix: Floats,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_share: Callable[[float], None] = lambda share: None,
) -> int:
    """Return the number from 2 to 20 whose clusters have the highest mean silhouette on a sample of 2,000 unit vectors.

    1 if no silhouette is above zero: fewer than three vectors, or all alike. ``on_progress`` is called with how many
    numbers are compared, of how many; before that ``on_share`` with the share of the work: of many clusters it takes
    longer.
    """
    sample = sample_rows(matrix, SILHOUETTE_ROWS, np.random.default_rng(SEED))
    best_value, best_n = 0.0, 1
    distances = np.clip(1 - sample @ sample.T, 0, None)
    np.fill_diagonal(distances, 0)
    numbers = range(2, min(MAX_CLUSTERS, len(sample) - 1) + 1)
    costs = [SILHOUETTE_COST + n for n in numbers]
    for place, n in enumerate(numbers):
        value = silhouette(distances, kmeans(sample, n, n_init=2).labels)
        if value > best_value:
            best_value, best_n = value, n
        on_share(sum(costs[: place + 1]) / sum(costs))
        on_progress(place + 1, len(numbers))
    return best_n


def silhouette(distances: Floats, labels: Indices) -> float:
    """Return the mean silhouette of labels, which count from 0, by the distances (n, n) of all pairs.

    That of a vector is (b - a) / max(a, b): a is its mean distance to the others of its cluster, b that to the nearest
    other cluster. A vector alone in its cluster counts 0.

    Rousseeuw, P. J. (1987), Silhouettes, J. Comput. Appl. Math. 20, 53-65.
    """
    members = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float32)
    sizes = members.sum(axis=0)
    if len(sizes) < 2:
        return 0.0
    sums = (distances @ members).astype(np.float64)
    rows = np.arange(len(labels))
    own_size = sizes[labels]
    a = sums[rows, labels] / np.maximum(own_size - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    b = means.min(axis=1)
    larger = np.maximum(a, b)
    value = np.where((own_size > 1) & (larger > 0), (b - a) / np.where(larger > 0, larger, 1), 0)
    return float(value.mean())
