"""Exact nearest neighbours by matrix products, and points for vectors that were not laid out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skytells_nb.vectors.arrays import BLOCK_NUMBERS, Floats, Indices

SPARE_CANDIDATES = 5
PLACE_NEIGHBOURS = 5


def nearest_by_distance(
    queries: Floats, known: Floats, k: int, *, own: bool = False, tell: Callable[[int], None] | None = None
) -> tuple[Indices, Floats]:
    """Positions (q, k) of the ``k`` nearest known vectors by Euclidean distance, the nearest first, and the distances.

    ``own`` says that the queries are the known vectors: each then comes first among its own neighbours. ``tell`` is
    called with the number of queries done.
    """
    n = len(known)
    k = min(k, n)
    wide = min(k + SPARE_CANDIDATES, n)
    places = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float32)
    squares = np.einsum("ij,ij->i", known, known)
    step = max(1, BLOCK_NUMBERS // max(n, wide * known.shape[1]))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        here = slice(start, start + len(block))
        apart = block @ known.T
        apart *= -2
        apart += squares
        itself = np.arange(start, start + len(block))
        if own:
            apart[itself - start, itself] = -np.inf
        near = np.argpartition(apart, wide - 1, axis=1)[:, :wide]
        # The product form loses the digits of small distances, and its last bits depend on the number of threads.
        exact = np.square(known[near] - block[:, None, :]).sum(axis=2, dtype=np.float64)
        if own:
            exact[near == itself[:, None]] = -1
        order = np.lexsort((near, exact), axis=1)[:, :k]
        places[here] = np.take_along_axis(near, order, axis=1)
        distances[here] = np.sqrt(np.clip(np.take_along_axis(exact, order, axis=1), 0, None))
        if tell is not None:
            tell(here.stop)
    return places, distances


def place(
    matrix: Floats,
    known: Floats,
    points: Floats,
    *,
    k: int = PLACE_NEIGHBOURS,
    tell: Callable[[int], None] | None = None,
) -> Floats:
    """Points for vectors that were not laid out: the mean of their ``k`` nearest known ones, the nearer the heavier.

    A vector that is equal to a known one gets its point, and no point depends on the others that are placed with it.

    Measured against ``UMAP.transform`` with 3,000 known vectors of 384 dimensions in 40 groups (CPU seconds,
    trustworthiness, share of the 15 nearest kept). 600 new ones of the same groups: 0.04 s, 0.993 and 29 % here; 2.1 s,
    0.993 and 30 % there. 300 of groups that the layout has not seen: 0.857 and 18 % here, 0.951 and 23 % there, so that
    new subjects are better laid out anew. ``transform`` needs the fitted model, 5 MB beside 24 kB of points, fitted
    with UMAP's own search in 13 s in place of 7, as it refuses exact neighbours; and a row of an unseen group came to
    lie up to 0.3 apart, alone and together with others.
    """
    near, apart = nearest_by_distance(matrix, known, k, tell=tell)
    weights = 1 / (apart + 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    placed: Floats = np.einsum("ij,ijk->ik", weights, points[near]).astype(np.float32)
    equal = apart[:, 0] == 0
    placed[equal] = points[near[equal, 0]]
    return placed


ROUNDING = 1e-5
"""By how much a product in float32 may miss the cosine, and more."""
EXACTNESS = 2e-6
"""By how much a cosine of equal vectors may miss 1 in float32."""
MOST_TIES = 1000
"""Candidates beyond ``k`` that are compared exactly."""


def nearest_by_cosine(queries: Floats, known: Floats, k: int) -> tuple[Indices, Floats]:
    """Positions (q, min(k, n)) of the known vectors with the highest cosine, best first, and the cosines.

    Both sides are of length one. Equal vectors have equal cosines, and of those the earlier comes first.

    >>> nearest(np.eye(2, dtype=np.float32), np.array([[0, 1], [1, 0], [0, 1]], dtype=np.float32), 2)[0].tolist()
    [[1, 0], [0, 2]]
    """
    n = len(known)
    k = min(k, n)
    if not k:
        return np.empty((len(queries), 0), dtype=np.int64), np.empty((len(queries), 0), dtype=np.float32)
    places = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    step = max(1, BLOCK_NUMBERS // max(n, 1))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        rough = block @ known.T
        floors = np.partition(rough, n - k, axis=1)[:, n - k] - ROUNDING if k < n else np.full(len(block), -np.inf)
        for row, (query, products, floor) in enumerate(zip(block, rough, floors, strict=True), start):
            near = np.flatnonzero(products >= floor)
            if len(near) > k + MOST_TIES:
                near = near[np.argsort(-products[near].round(5), kind="stable")[: k + MOST_TIES]]
            exact = cosines(known[near], query)
            order = np.lexsort((near, -exact))[:k]
            places[row], scores[row] = near[order], exact[order]
    return places, scores


def cosines(vectors: Floats, other: Floats) -> Floats:
    """The cosine (n,) of each vector with the other, or with its own of as many others.

    The last bits of a matrix product depend on where in it a vector stands; these do not.
    """
    exact = (vectors * other).sum(axis=1, dtype=np.float64)
    return np.asarray(np.clip(exact, -1, 1), dtype=np.float32)
