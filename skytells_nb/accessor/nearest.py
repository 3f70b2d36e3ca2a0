"""Exact nearest neighbours by cosine: matrix products in blocks."""

from __future__ import annotations

import numpy as np

from skytells_nb.accessor.vectors import BLOCK_NUMBERS, Floats, Places

ROUNDING = 1e-5
"""By how much a product in float32 may miss the cosine, and more."""
EXACTNESS = 2e-6
"""By how much a cosine of equal vectors may miss 1 in float32."""
MOST_TIES = 1000
"""Candidates beyond ``k`` that are compared exactly."""


def nearest(queries: Floats, known: Floats, k: int) -> tuple[Places, Floats]:
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
