"""Exact nearest neighbors by matrix products, and points interpolated between those of neighbors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from skytells_nb.vectors.arrays import BLOCK_ELEMENTS, Floats, Indices

SPARE_CANDIDATES = 5
INTERPOLATION_NEIGHBORS = 5
PRODUCT_TOLERANCE = 1e-5
"""Upper bound of the rounding error of a cosine that comes from a float32 matrix product."""
COSINE_TOLERANCE = 2e-6
"""Upper bound of the difference from 1 of the cosine of equal vectors in float32."""
MAX_TIES = 1000
"""Candidates beyond ``k`` that are compared exactly."""
GROUPS_PER_NEIGHBOR = 32
MIN_GROUPS = 512
"""Groups of products of which the highest is taken: with 32 for each neighbor hardly a group holds two of them."""


def nearest_by_distance(
    queries: Floats,
    known: Floats,
    k: int,
    *,
    self_first: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Indices, Floats]:
    """Return the positions (q, k) of the ``k`` nearest known vectors by Euclidean distance, and the distances.

    The nearest comes first; of equal distances, the earlier position. ``self_first`` states that the queries are the
    known vectors: each is then the first of its own neighbors. ``on_progress`` is called with the number of queries
    that are done.
    """
    n = len(known)
    k = min(k, n)
    n_candidates = min(k + SPARE_CANDIDATES, n)
    positions = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float32)
    squares = np.einsum("ij,ij->i", known, known)
    step = max(1, BLOCK_ELEMENTS // max(n, n_candidates * known.shape[1]))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        rows = slice(start, start + len(block))
        approximate = block @ known.T
        approximate *= -2
        approximate += squares
        itself = np.arange(start, start + len(block))
        if self_first:
            approximate[itself - start, itself] = -np.inf
        candidates = np.argpartition(approximate, n_candidates - 1, axis=1)[:, :n_candidates]
        # The product form loses the digits of small distances, and its last bits depend on the number of threads.
        exact = np.square(known[candidates] - block[:, None, :]).sum(axis=2, dtype=np.float64)
        if self_first:
            exact[candidates == itself[:, None]] = -1
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        positions[rows] = np.take_along_axis(candidates, order, axis=1)
        distances[rows] = np.sqrt(np.clip(np.take_along_axis(exact, order, axis=1), 0, None))
        if on_progress is not None:
            on_progress(rows.stop)
    return positions, distances


def nearest_by_cosine(
    queries: Floats, known: Floats, k: int, *, on_progress: Callable[[int], None] | None = None
) -> tuple[Indices, Floats]:
    """Return the positions (q, min(k, n)) of the known vectors with the highest cosine, best first, and the cosines.

    All vectors have length one, or are zeros. Equal vectors have equal cosines, and of those the earlier position comes
    first. ``on_progress`` is called with the number of queries that are done.

    >>> nearest_by_cosine(np.eye(2, dtype=np.float32), np.array([[0, 1], [1, 0], [0, 1]], dtype=np.float32), 2)[0]
    array([[1, 0],
           [0, 2]])
    """
    n = len(known)
    k = min(k, n)
    positions = np.empty((len(queries), k), dtype=np.int64)
    similarity = np.empty((len(queries), k), dtype=np.float32)
    if not k or not len(queries):
        return positions, similarity
    step = min(max(1, BLOCK_ELEMENTS // n), len(queries))
    # One buffer: the system would clear a new one for each block.
    buffer = np.empty((step, n), dtype=np.float32)
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        products = np.matmul(block, known.T, out=buffer[: len(block)])
        rows, candidates = _candidates(products, k)
        exact = np.empty(len(rows), dtype=np.float32)
        for part in _parts(len(rows), known.shape[1]):
            exact[part] = cosines(known[candidates[part]], block[rows[part]])
        order = np.lexsort((candidates, -exact, rows))
        firsts = np.searchsorted(rows, np.arange(len(block)))
        best = order[firsts[:, None] + np.arange(k)]
        positions[start : start + step], similarity[start : start + step] = candidates[best], exact[best]
        if on_progress is not None:
            on_progress(start + len(block))
    return positions, similarity


def _candidates(products: Floats, k: int) -> tuple[Indices, Indices]:
    """Return the rows, in order, and the columns of all products that may be among the ``k`` highest of their row."""
    n = products.shape[1]
    if k == n:
        lowest = np.full(len(products), -np.inf, dtype=np.float32)
    else:
        lowest = lower_bound_of_top(products, k) - np.float32(PRODUCT_TOLERANCE)
    flat = np.flatnonzero(products >= lowest[:, None])
    rows, columns = np.divmod(flat, n)
    counts = np.bincount(rows, minlength=len(products))
    if counts.max() > k + MAX_TIES:
        kept = []
        for first, count in zip((np.cumsum(counts) - counts).tolist(), counts.tolist(), strict=True):
            each = np.arange(first, first + count)
            if count > k + MAX_TIES:
                values = products[rows[each], columns[each]].round(5)
                each = np.sort(each[np.argsort(-values, kind="stable")[: k + MAX_TIES]])
            kept.append(each)
        chosen = np.concatenate(kept)
        rows, columns = rows[chosen], columns[chosen]
    return rows, columns


def lower_bound_of_top(values: Floats, k: int) -> Floats:
    """Return for each row (m, c) a number that at least ``k`` of its values reach, near to the k-th highest.

    It is the k-th highest of the highest values of groups: a pass that only compares costs a twentieth of a partition
    of the row.

    >>> lower_bound_of_top(np.array([[3, 9, 1, 7]], dtype=np.float32), 2)
    array([7.], dtype=float32)
    """
    n = values.shape[1]
    width = n // max(GROUPS_PER_NEIGHBOR * k, MIN_GROUPS)
    highest = values
    if width > 1:
        count = n // width
        # Columns that are ``count`` apart form a group, so that whole rows of memory are compared.
        highest = values[:, : count * width].reshape(len(values), width, count).max(axis=1)
    if k == 1:
        return np.asarray(highest.max(axis=1))
    return np.asarray(np.partition(highest, highest.shape[1] - k, axis=1)[:, highest.shape[1] - k])


def _parts(n: int, d: int) -> Iterator[slice]:
    """Yield slices of pairs of vectors of which a block holds as many as ``BLOCK_ELEMENTS`` allows."""
    step = max(1, BLOCK_ELEMENTS // (4 * max(d, 1)))
    return (slice(start, start + step) for start in range(0, n, step))


def cosines(vectors: Floats, other: Floats) -> Floats:
    """Return the cosine (n,) of each unit vector with ``other``: one vector, or as many.

    The last bits of a matrix product depend on the position of a vector in the matrix; these do not.
    """
    exact = (vectors * other).sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(exact, -1, 1), dtype=np.float32)


def interpolate_points(
    matrix: Floats,
    known: Floats,
    points: Floats,
    *,
    k: int = INTERPOLATION_NEIGHBORS,
    on_progress: Callable[[int], None] | None = None,
) -> Floats:
    """Return points for vectors outside a layout: the mean of their ``k`` nearest known ones, weighted by 1/distance.

    A vector equal to a known one gets its point, and no point depends on the others that are placed with it.

    Measured against ``UMAP.transform`` with 3,000 known vectors of 384 dimensions in 40 groups (CPU seconds,
    trustworthiness, share of the 15 nearest neighbors that stay neighbors). 600 new vectors of the same groups: 0.04 s,
    0.993 and 29 % here; 2.1 s, 0.993 and 30 % there. 300 vectors of groups outside the layout: 0.857 and 18 % here,
    0.951 and 23 % there, so new subjects call for a new layout. ``transform`` needs the fitted model, 5 MB beside 24 kB
    of points, fitted with UMAP's own search in 13 s instead of 7 s because it rejects exact neighbors; and its points
    of rows of unseen groups differ by up to 0.3 with the rows transformed together.
    """
    neighbors, distances = nearest_by_distance(matrix, known, k, on_progress=on_progress)
    weights = 1 / (distances + 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    interpolated: Floats = np.einsum("ij,ijk->ik", weights, points[neighbors]).astype(np.float32)
    equal = distances[:, 0] == 0
    interpolated[equal] = points[neighbors[equal, 0]]
    return interpolated
