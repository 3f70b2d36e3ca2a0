"""k-means on directions: every vector belongs to the centre with which its cosine is highest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skytells_nb.vectors.arrays import BLOCK_NUMBERS, Floats, Indices, unit_vectors
from skytells_nb.vectors.neighbors import cosines

SEED = 42
SAMPLE_ROWS = 10_000
MEMBERS_IN_SAMPLE = 10
"""Vectors of the sample for each cluster, where that is more."""
STARTS = 4
DRAWS = 3
"""Initial centers that are drawn for each start; those with the smallest distances are nearly always better."""
MOST_ROUNDS = 60
ENOUGH = 1e-5
"""Gain of a round, as a share of what is left, below which the centres stay."""
SAME = 1e-6
"""A distance that is none in float32."""


@dataclass(frozen=True)
class Clusters:
    """For each vector the number (n,) of its centre and its cosine with it, float32 (n,); the centres (k, d)."""

    labels: Indices
    similarity: Floats
    centers: Floats


def kmeans(matrix: Floats, n: int, *, starts: int = STARTS) -> Clusters:
    """``n`` clusters of unit vectors, fewer where there are fewer different ones; the same input gives the same.

    The start (greedy k-means++, the best of ``starts``) is found on a sample of 10,000 vectors or ten a cluster, then
    all of them move the centres. Clusters are numbered by size, the largest 0; of equal ones the earlier is first.
    """
    rng = np.random.default_rng(SEED)
    sample = sample_rows(matrix, max(SAMPLE_ROWS, n * MEMBERS_IN_SAMPLE), rng)
    n = min(n, len(sample))
    drawn = sorted((_start(sample, n, rng) for _ in range(DRAWS * starts)), key=lambda centres: _apart(sample, centres))
    tries = [_moved(sample, centres) for centres in drawn[:starts]]
    best = max(tries, key=lambda found: float(found.similarity.sum(dtype=np.float64)))
    found = best if len(sample) == len(matrix) else _moved(matrix, best.centers)
    return _by_size(matrix, found)


def sample_rows(matrix: Floats, most: int, rng: np.random.Generator) -> Floats:
    """The vectors, or ``most`` of them in their order."""
    if len(matrix) <= most:
        return matrix
    return matrix[np.sort(rng.choice(len(matrix), most, replace=False))]


def _start(matrix: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Initial centers by greedy k-means++, at most ``n`` and no two of them equal.

    Each step draws 2 + log(n) candidates in proportion to their distance from the centers before, and takes the one
    that leaves the smallest sum of distances, as scikit-learn's ``kmeans_plusplus`` does.
    """
    trials = 2 + int(np.log(n))
    chosen = [int(rng.integers(len(matrix)))]
    apart = _distances(matrix, chosen)[:, 0]
    while len(chosen) < n and apart.any():
        drawn = rng.choice(len(matrix), trials, p=apart / apart.sum(dtype=np.float64))
        left = np.minimum(apart[:, None], _distances(matrix, drawn))
        best = int(left.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        apart = left[:, best]
    return matrix[chosen]


def _apart(matrix: Floats, centres: Floats) -> float:
    """The sum of the distances of all vectors to the nearest of these centers."""
    return len(matrix) - float(_assigned(matrix, centres).similarity.sum(dtype=np.float64))


def _distances(matrix: Floats, rows: Sequence[int] | Indices) -> Floats:
    """The cosine distances (n, r) of all vectors to those of these rows; 0 between equal ones."""
    apart = 1 - matrix @ matrix[rows].T
    apart[apart < SAME] = 0
    return apart


def _moved(matrix: Floats, centres: Floats) -> Clusters:
    """The clusters once centres no longer move much."""
    left = np.inf
    for _ in range(MOST_ROUNDS):
        found = _assigned(matrix, centres)
        apart = len(matrix) - float(found.similarity.sum(dtype=np.float64))
        if apart >= left * (1 - ENOUGH):
            break
        left = apart
        centres = _means(matrix, found)
    return found


def _assigned(matrix: Floats, centres: Floats) -> Clusters:
    label = np.empty(len(matrix), dtype=np.int64)
    score = np.empty(len(matrix), dtype=np.float32)
    for here in _blocks(matrix):
        products = matrix[here] @ centres.T
        label[here] = products.argmax(axis=1)
        score[here] = products.max(axis=1)
    return Clusters(label, score, centres)


def _means(matrix: Floats, found: Clusters) -> Floats:
    """The directions of the sums of the members; a centre without any moves to the vector farthest from its own."""
    numbers = np.arange(len(found.centers))
    sums = np.zeros_like(found.centers)
    for here in _blocks(matrix):
        sums += (found.labels[here, None] == numbers).T.astype(np.float32) @ matrix[here]
    empty = np.flatnonzero(np.bincount(found.labels, minlength=len(numbers)) == 0)
    sums[empty] = matrix[np.argsort(found.similarity, kind="stable")[: len(empty)]]
    return unit_vectors(sums)


def _blocks(matrix: Floats) -> Iterator[slice]:
    step = max(1, BLOCK_NUMBERS // max(matrix.shape[1], 1))
    return (slice(start, start + step) for start in range(0, len(matrix), step))


def _by_size(matrix: Floats, found: Clusters) -> Clusters:
    sizes = np.bincount(found.labels, minlength=len(found.centers))
    used, firsts = np.unique(found.labels, return_index=True)
    order = used[np.lexsort((firsts, -sizes[used]))]
    number = np.empty(len(sizes), dtype=np.int64)
    number[order] = np.arange(len(order))
    # Equal vectors have equal cosines, which those from the products of blocks are not to the last bit.
    score = np.concatenate([cosines(matrix[here], found.centers[found.labels[here]]) for here in _blocks(matrix)])
    return Clusters(number[found.labels], score, found.centers[order])


MOST_CLUSTERS = 20
SILHOUETTE_ROWS = 2000


def choose_n_clusters(matrix: Floats) -> int:
    """The number from 2 to 20 whose clusters have the highest mean silhouette on a sample of 2,000 unit vectors.

    1 where none is above zero: fewer than three vectors, or all alike.
    """
    sample = sample_rows(matrix, SILHOUETTE_ROWS, np.random.default_rng(SEED))
    best, number = 0.0, 1
    apart = np.clip(1 - sample @ sample.T, 0, None)
    np.fill_diagonal(apart, 0)
    for n in range(2, min(MOST_CLUSTERS, len(sample) - 1) + 1):
        found = silhouette(apart, kmeans(sample, n, starts=2).labels)
        if found > best:
            best, number = found, n
    return number


def silhouette(apart: Floats, label: Indices) -> float:
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
