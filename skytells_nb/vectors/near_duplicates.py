"""Groups of near-duplicate vectors, each around a representative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.vectors.arrays import Floats, Indices, distinct_rows, has_direction
from skytells_nb.vectors.inverted_file import (
    CALIBRATION_ROWS,
    DEFAULT_RECALL,
    MIN_INDEX_ROWS,
    QUERY_ROWS,
    InvertedFile,
)
from skytells_nb.vectors.kmeans import SEED
from skytells_nb.vectors.neighbors import COSINE_TOLERANCE, PRODUCT_TOLERANCE, cosines

HEAD_DIMENSIONS = 64
SAMPLE_ROWS = 4096
PAIR_ROWS = 1024
MAX_CANDIDATE_SHARE = 0.002
"""Share of pairs up to which exact cosines of the candidates cost less than the whole product."""


def truncated_upper_bound(matrix: Floats, min_cosine: float) -> Floats | None:
    """Return vectors (n, HEAD_DIMENSIONS + 1) whose products are upper bounds of the cosines of unit vectors.

    They are the coordinates along the principal directions of a sample, and the length of the residual: by the
    Cauchy-Schwarz inequality, the residuals of two vectors contribute at most the product of their lengths. ``None`` if
    the vectors have so few dimensions, or their variance so many directions, that the bound excludes too few of the
    pairs with a cosine below ``min_cosine``.
    """
    if matrix.shape[1] < 2 * HEAD_DIMENSIONS or len(matrix) < SAMPLE_ROWS:
        return None
    sample = matrix[:: len(matrix) // SAMPLE_ROWS]
    directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, -HEAD_DIMENSIONS:].astype(np.float32)
    bound = np.empty((len(matrix), HEAD_DIMENSIONS + 1), dtype=np.float32)
    bound[:, :HEAD_DIMENSIONS] = matrix @ directions
    residual = 1 - np.einsum("ij,ij->i", bound[:, :HEAD_DIMENSIONS], bound[:, :HEAD_DIMENSIONS])
    bound[:, HEAD_DIMENSIONS] = np.sqrt(np.clip(residual, 0, None))
    pairs = bound[:: max(1, len(bound) // PAIR_ROWS)]
    candidates = np.count_nonzero(pairs @ pairs.T >= min_cosine) - len(pairs)
    return bound if candidates <= MAX_CANDIDATE_SHARE * len(pairs) ** 2 else None


BLOCK_ROWS = 1024
BLOCK_REPRESENTATIVES = 8192


MAX_EXACT_ROWS = 200_000
"""Rows up to which every pair is compared unless ``recall`` asks otherwise: two to three minutes on two cores."""


@dataclass(frozen=True)
class DuplicateGroups:
    """For each vector the position (n,) of its representative, and its cosine with it, float32 (n,).

    ``recall`` is the measured share of near pairs that the comparison sees, 1 if it is exact.
    """

    representatives: Indices
    similarity: Floats
    recall: float = 1.0


def near_duplicates(
    matrix: Floats,
    threshold: float,
    *,
    recall: float | None = None,
    known: int = 0,
    on_progress: Callable[[int], None] | None = None,
    on_share: Callable[[float], None] | None = None,
) -> DuplicateGroups:
    """Group unit vectors whose cosine is ``threshold`` or more.

    A vector is a representative if no earlier representative is that near; each other vector belongs to the nearest
    earlier representative. So every vector is within the threshold of its representative, no two representatives are
    within it, and a chain of small steps does not join distant vectors, as connected components would.

    With a ``recall`` below 1 vectors are compared by an inverted file, whose recall is measured: two representatives
    may then be within the threshold. ``None`` is exact up to 200,000 vectors and 0.99 above. The first ``known``
    vectors are representatives that an earlier call found: they are not compared again. ``on_progress`` is called with
    the number of vectors that are done, 0 once they are prepared; before that ``on_share`` with the share of the
    work, which does not grow as that number: each vector is compared with the representatives of those before it.

    >>> near_duplicates(np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32), 0.9).representatives.tolist()
    [0, 1, 0]
    """
    min_cosine = threshold - COSINE_TOLERANCE
    if recall is None:
        recall = 1.0 if len(matrix) <= MAX_EXACT_ROWS else DEFAULT_RECALL
    index: _Representatives | _IndexedRepresentatives
    if recall < 1 and len(matrix) >= MIN_INDEX_ROWS:
        index, step = _IndexedRepresentatives(matrix, min_cosine, recall), QUERY_ROWS
    else:
        index, step = _Representatives(matrix, min_cosine), BLOCK_ROWS
    representatives = np.arange(len(matrix))
    similarity = np.ones(len(matrix), dtype=np.float32)
    distinct, numbers = distinct_rows(matrix)
    equal_to = distinct[numbers]
    directed = has_direction(matrix)
    index.add(np.flatnonzero(directed[:known]))
    work = _Work(len(matrix), index.overhead)
    if on_progress is not None:
        on_progress(0)
    for start in range(known, len(matrix), step):
        rows = np.arange(start, min(start + step, len(matrix)))
        best, nearest = np.ones(len(rows)), equal_to[rows]
        # What equals a representative of an earlier block has found the nearest one, and zeros are near to none.
        best[~directed[rows]] = -np.inf
        searched = np.flatnonzero(((nearest >= start) | (representatives[nearest] != nearest)) & directed[rows])
        best[searched], nearest[searched] = index.nearest(rows[searched])
        share = work.add(len(rows), index.count)
        new = _new_representatives(matrix[rows], np.flatnonzero(best < min_cosine), min_cosine)
        is_member = np.ones(len(rows), dtype=bool)
        is_member[new] = False
        members = rows[is_member]
        if len(new):
            _prefer_new(matrix[rows], new, np.flatnonzero(is_member), best, nearest, rows)
            index.add(rows[new[directed[rows[new]]]])
        representatives[members] = nearest[is_member]
        similarity[members] = cosines(matrix[members], matrix[nearest[is_member]])
        if on_share is not None:
            on_share(share)
        if on_progress is not None:
            on_progress(int(rows[-1]) + 1)
    return DuplicateGroups(representatives, similarity, index.recall)


def _prefer_new(
    block: Floats, new: Indices, members: Indices, best: NDArray[Any], nearest: Indices, rows: Indices
) -> None:
    """Update ``nearest`` of the members where an earlier new representative of the block is nearer than ``best``."""
    for start in range(0, len(members), BLOCK_ROWS):
        part = members[start : start + BLOCK_ROWS]
        products = block[part] @ block[new].T
        products[new[None, :] >= part[:, None]] = -np.inf
        columns = products.argmax(axis=1)
        value = products[np.arange(len(part)), columns]
        nearest[part] = np.where(value > best[part], rows[new][columns], nearest[part])


def _new_representatives(block: Floats, unassigned: Indices, min_cosine: float) -> Indices:
    """Return the rows of a block, out of the unassigned ones in order, that become representatives."""
    new: list[Indices] = []
    for start in range(0, len(unassigned), BLOCK_ROWS):
        rows = unassigned[start : start + BLOCK_ROWS]
        earlier = np.concatenate(new) if new else rows[:0]
        assigned = (block[rows] @ block[earlier].T >= min_cosine).any(axis=1)
        rows = rows[~assigned]
        later, near = np.nonzero(np.tril(block[rows] @ block[rows].T >= min_cosine, -1))
        chosen = np.ones(len(rows), dtype=bool)
        firsts = np.flatnonzero(np.diff(later, prepend=-1))
        for row, earlier in zip(later[firsts].tolist(), np.split(near, firsts)[1:], strict=True):
            chosen[row] = not chosen[earlier].any()
        new.append(rows[chosen])
    return np.concatenate(new) if new else unassigned


class _Work:
    """How much of the comparison of ``rows`` is done, in pairs of a row and a representative.

    What a row takes besides counts as ``overhead`` such pairs. Of the rows that are left as many are expected to become
    representatives as of those so far.
    """

    def __init__(self, rows: int, overhead: float) -> None:
        self._left = self._rows = rows
        self._overhead = overhead
        self._done = 0.0

    def add(self, rows: int, representatives: int) -> float:
        """Add rows that are compared with so many representatives; return the share of the work that is done."""
        self._done += rows * (self._overhead + representatives)
        self._left -= rows
        growth = representatives / max(self._rows - self._left, 1)
        expected = self._left * (self._overhead + representatives + growth * self._left / 2)
        return self._done / (self._done + expected)


class _Representatives:
    """The representatives so far, in one array for the products."""

    recall = 1.0
    overhead = float(BLOCK_REPRESENTATIVES)

    def __init__(self, matrix: Floats, min_cosine: float) -> None:
        self._matrix = matrix
        self._min_cosine = min_cosine
        self._bound = truncated_upper_bound(matrix, min_cosine)
        self._rows = np.empty(len(matrix), dtype=np.int64)
        self.count = 0
        self._all_vectors = matrix if self._bound is None else self._bound
        # Allocated lazily by the system: pages that are never written take no memory.
        self._vectors = np.empty_like(self._all_vectors)

    def add(self, rows: Indices) -> None:
        added = slice(self.count, self.count + len(rows))
        self._rows[added] = rows
        self._vectors[added] = self._all_vectors[rows]
        self.count += len(rows)

    def nearest(self, rows: Indices) -> tuple[NDArray[Any], Indices]:
        """Return the highest cosine (m,) of each row with a representative, and the row of that representative.

        A cosine below the minimum may be replaced by any lower number.
        """
        best = np.full(len(rows), -np.inf)
        nearest = rows.copy()
        for start in range(0, self.count, BLOCK_REPRESENTATIVES):
            stop = min(start + BLOCK_REPRESENTATIVES, self.count)
            products = self._all_vectors[rows] @ self._vectors[start:stop].T
            if self._bound is None:
                columns = products.argmax(axis=1)
                value = products[np.arange(len(rows)), columns]
                better = np.flatnonzero(value > best)
                best[better], nearest[better] = value[better], self._rows[start:stop][columns[better]]
            else:
                candidates, columns = np.nonzero(products >= self._min_cosine - PRODUCT_TOLERANCE)
                self._compare_exactly(rows, candidates, self._rows[start + columns], best, nearest)
        return best, nearest

    def _compare_exactly(
        self, rows: Indices, candidates: Indices, representatives: Indices, best: NDArray[Any], nearest: Indices
    ) -> None:
        """Update ``best`` and ``nearest`` with the exact cosines of these pairs."""
        for first in range(0, len(candidates), BLOCK_ROWS * 8):
            part = slice(first, first + BLOCK_ROWS * 8)
            left, right = candidates[part], representatives[part]
            value = cosines(self._matrix[rows[left]], self._matrix[right])
            # The best pair of each row is written last.
            order = np.argsort(value, kind="stable")
            order = order[value[order] > best[left[order]]]
            best[left[order]], nearest[left[order]] = value[order], right[order]


class _IndexedRepresentatives:
    """The representatives so far, in an inverted file."""

    def __init__(self, matrix: Floats, min_cosine: float, recall: float) -> None:
        self._matrix = matrix
        self.count = 0
        # Measured with 300,000 and 1,000,000 rows: most of the time goes into finding lists, not into what they hold.
        self.overhead = 2 / 3 * len(matrix)
        self._index = InvertedFile(matrix, empty=True)
        directed = np.flatnonzero(has_direction(matrix))
        sample = np.random.default_rng(SEED).permutation(directed)[: CALIBRATION_ROWS[1]]
        self._index.calibrate(
            matrix[sample],
            lambda cosines: np.flatnonzero(cosines >= min_cosine),
            recall,
            itself=sample,
            made_at=min_cosine,
        )
        self.recall = self._index.recall

    def add(self, rows: Indices) -> None:
        self._index.add(rows)
        self.count += len(rows)

    def nearest(self, rows: Indices) -> tuple[NDArray[Any], Indices]:
        """Return the highest cosine (m,) of each row with a representative that was compared, and its row."""
        best = np.full(len(rows), -np.inf)
        nearest = rows.copy()
        for positions, members, products in self._index.search(self._matrix[rows]):
            columns = products.argmax(axis=1)
            value = products[np.arange(len(positions)), columns]
            better = value > best[positions]
            best[positions[better]] = value[better]
            nearest[positions[better]] = members[columns[better]]
        return best, nearest
