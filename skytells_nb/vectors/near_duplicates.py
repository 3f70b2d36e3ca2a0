"""Groups of vectors that are nearly the same, each around a representative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.vectors.arrays import Floats, Indices
from skytells_nb.vectors.neighbors import EXACTNESS, ROUNDING, cosines

HEAD = 64
SAMPLE_ROWS = 4096
PAIR_ROWS = 1024
MOST_CANDIDATES = 0.002
"""Share of pairs up to which looking at the candidates one by one costs less than the whole product."""


def truncated_upper_bound(matrix: Floats, floor: float) -> Floats | None:
    """Vectors (n, HEAD + 1) whose products bound the cosines of unit vectors from above.

    They are the coordinates along the directions that hold most of a sample, and the length of the rest: by Cauchy and
    Schwarz, the rests of two vectors contribute at most the product of their lengths. ``None`` where the vectors are so
    short, or their directions so many, that the bound tells few pairs from those with a cosine of ``floor``.
    """
    if matrix.shape[1] < 2 * HEAD or len(matrix) < SAMPLE_ROWS:
        return None
    sample = matrix[:: len(matrix) // SAMPLE_ROWS]
    directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, -HEAD:].astype(np.float32)
    short = np.empty((len(matrix), HEAD + 1), dtype=np.float32)
    short[:, :HEAD] = matrix @ directions
    rest = 1 - np.einsum("ij,ij->i", short[:, :HEAD], short[:, :HEAD])
    short[:, HEAD] = np.sqrt(np.clip(rest, 0, None))
    pairs = short[:: max(1, len(short) // PAIR_ROWS)]
    candidates = np.count_nonzero(pairs @ pairs.T >= floor) - len(pairs)
    return short if candidates <= MOST_CANDIDATES * len(pairs) ** 2 else None


BLOCK_ROWS = 1024
BLOCK_LEADERS = 8192


@dataclass(frozen=True)
class Groups:
    """For each vector the position (n,) of its representative, and its cosine with it, float32 (n,)."""

    representative: Indices
    score: Floats


def near_duplicates(matrix: Floats, threshold: float) -> Groups:
    """Group unit vectors whose cosine is ``threshold`` or more.

    A vector is a representative where no representative before it is that near; each other vector belongs to the
    nearest representative before it. So every vector is within the threshold of the one that stands for it, no two
    representatives are, and a chain of small steps does not join what is far apart, as connected components would.

    >>> near_duplicates(np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32), 0.9).representative.tolist()
    [0, 1, 0]
    """
    floor = threshold - EXACTNESS
    leaders = _Leaders(matrix, floor)
    representative = np.arange(len(matrix))
    score = np.ones(len(matrix), dtype=np.float32)
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(matrix)))
        best, at = leaders.nearest(rows)
        fresh = _fresh(matrix[rows], np.flatnonzero(best < floor), floor)
        if len(fresh):
            within = matrix[rows] @ matrix[rows[fresh]].T
            within[rows[fresh][None, :] >= rows[:, None]] = -np.inf
            nearer = within.argmax(axis=1)
            value = within[np.arange(len(rows)), nearer]
            at = np.where(value > best, rows[fresh][nearer], at)
            leaders.add(rows[fresh])
        follows = np.ones(len(rows), dtype=bool)
        follows[fresh] = False
        members = rows[follows]
        representative[members] = at[follows]
        score[members] = cosines(matrix[members], matrix[at[follows]])
    return Groups(representative, score)


def _fresh(block: Floats, free: Indices, floor: float) -> Indices:
    """Which of the free rows of a block are representatives, one after the other."""
    near = block[free] @ block[free].T >= floor
    taken = np.zeros(len(free), dtype=bool)
    fresh = []
    for row in range(len(free)):
        if not taken[row]:
            fresh.append(free[row])
            taken |= near[row]
    return np.array(fresh, dtype=np.int64)


class _Leaders:
    """The representatives so far, side by side for the products."""

    def __init__(self, matrix: Floats, floor: float) -> None:
        self._matrix = matrix
        self._floor = floor
        self._short = truncated_upper_bound(matrix, floor)
        self._rows = np.empty(len(matrix), dtype=np.int64)
        self._count = 0
        # Memory that is not written is not taken.
        self._form = matrix if self._short is None else self._short
        self._side = np.empty_like(self._form)

    def add(self, rows: Indices) -> None:
        here = slice(self._count, self._count + len(rows))
        self._rows[here] = rows
        self._side[here] = self._form[rows]
        self._count += len(rows)

    def nearest(self, rows: Indices) -> tuple[NDArray[Any], Indices]:
        """The highest cosine (m,) of each row with a representative, and which row that is.

        Below the floor it may be any lower number.
        """
        best = np.full(len(rows), -np.inf)
        at = rows.copy()
        for start in range(0, self._count, BLOCK_LEADERS):
            stop = min(start + BLOCK_LEADERS, self._count)
            products = self._form[rows] @ self._side[start:stop].T
            if self._short is None:
                nearer = products.argmax(axis=1)
                value = products[np.arange(len(rows)), nearer]
                take = np.flatnonzero(value > best)
                best[take], at[take] = value[take], self._rows[start:stop][nearer[take]]
            else:
                near, leaders = np.nonzero(products >= self._floor - ROUNDING)
                self._look(rows, near, self._rows[start + leaders], best, at)
        return best, at

    def _look(self, rows: Indices, near: Indices, leaders: Indices, best: NDArray[Any], at: Indices) -> None:
        """Take the exact cosines of these pairs into account."""
        for first in range(0, len(near), BLOCK_ROWS * 8):
            part = slice(first, first + BLOCK_ROWS * 8)
            mine, theirs = near[part], leaders[part]
            value = cosines(self._matrix[rows[mine]], self._matrix[theirs])
            # The best pair of each row is written last.
            order = np.argsort(value, kind="stable")
            order = order[value[order] > best[mine[order]]]
            best[mine[order]], at[mine[order]] = value[order], theirs[order]
