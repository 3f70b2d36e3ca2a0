"""Matrices of embeddings: their types, unit length, block sizes and dimension checks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Floats = NDArray[np.float32]
"""Vectors, points, similarities and distances."""
Indices = NDArray[np.int64]
"""Positions of rows, from 0."""

BLOCK_ELEMENTS = 16_000_000
"""Elements of one block of intermediate results: 64 MB in float32."""
UNIT_TOLERANCE = 5e-7
"""Difference from 1 up to which a length is 1: that of vectors that were scaled in float32."""


def check_dimensions(left: Floats, left_name: str, right: Floats, right_name: str) -> None:
    """Raise InputError if the vectors of the two sides have different dimensions."""
    if len(left) and len(right) and left.shape[1] != right.shape[1]:
        raise InputError(
            f"{left_name} has {left.shape[1]} dimensions and {right_name} has {right.shape[1]}: they were embedded by "
            "different models or with different dimensions=. Pass the same model= and dimensions=."
        )


def row_blocks(matrix: Floats) -> Iterator[slice]:
    """Yield slices of rows that hold at most ``BLOCK_ELEMENTS`` elements each, or one row."""
    step = max(1, BLOCK_ELEMENTS // max(matrix.shape[1], 1))
    return (slice(start, start + step) for start in range(0, len(matrix), step))


def unit_vectors(matrix: Floats) -> Floats:
    """Return the rows scaled to length one; rows of zeros stay as they are.

    If every row has that length already, as most services return them, it is the matrix itself and no copy.

    >>> unit_vectors(np.array([[3, 4], [0, 0]], dtype=np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.empty(len(matrix), dtype=np.float64)
    for block in row_blocks(matrix):
        # The squares of very large and very small numbers do not fit float32.
        lengths[block] = np.sqrt(np.einsum("ij,ij->i", matrix[block], matrix[block], dtype=np.float64))
    lengths[lengths == 0] = 1
    if (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
        return matrix
    unit = np.empty_like(matrix)
    for block in row_blocks(matrix):
        unit[block] = matrix[block] / lengths[block, None]
    return unit


def has_direction(matrix: Floats) -> NDArray[np.bool_]:
    """Return which rows (n,) are not zeros."""
    return np.asarray(matrix.any(axis=1), dtype=np.bool_)


def distinct_rows(matrix: Floats) -> tuple[Indices, Indices]:
    """Return the positions (m,) of the distinct rows, in order, and for each row (n,) which of them it equals.

    Rows are equal if their bits are.

    >>> [part.tolist() for part in distinct_rows(np.array([[5, 1], [2, 2], [5, 1]], dtype=np.float32))]
    [[0, 1], [0, 1, 0]]
    """
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    # Sums of products with odd numbers, which the integers' overflow keeps to 64 bits.
    weights = np.random.default_rng(0).integers(1 << 63, size=matrix.shape[1], dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(matrix), dtype=np.uint64)
    for block in row_blocks(matrix):
        hashes[block] = np.einsum("ij,j->i", bits[block], weights)
    _, firsts, numbers = np.unique(hashes, return_index=True, return_inverse=True)
    first_of = firsts[numbers]
    for block in row_blocks(matrix):
        # Rows that only share a hash stay apart.
        other = (bits[block] != bits[first_of[block]]).any(axis=1)
        first_of[block][other] = np.arange(len(matrix))[block][other]
    rows, of_row = np.unique(first_of, return_inverse=True)
    return rows.astype(np.int64, copy=False), of_row.astype(np.int64, copy=False)
