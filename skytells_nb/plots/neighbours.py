"""Exact nearest neighbours by matrix products, and points for vectors that were not laid out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

BLOCK_NUMBERS = 16_000_000
"""Numbers in one block of distances or differences: 64 MB."""
SPARE_CANDIDATES = 5
PLACE_NEIGHBOURS = 5


def nearest(
    queries: Floats, known: Floats, k: int, *, own: bool = False, tell: Callable[[int], None] | None = None
) -> tuple[Places, Floats]:
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
    near, apart = nearest(matrix, known, k, tell=tell)
    weights = 1 / (apart + 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    placed: Floats = np.einsum("ij,ijk->ik", weights, points[near]).astype(np.float32)
    equal = apart[:, 0] == 0
    placed[equal] = points[near[equal, 0]]
    return placed
