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

    >>> unit_vectors(np.array([[3, 4], [0, 0]], dtype=np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    unit = np.empty_like(matrix)
    for block in row_blocks(matrix):
        # The squares of very large and very small numbers do not fit float32.
        norms = np.sqrt(np.einsum("ij,ij->i", matrix[block], matrix[block], dtype=np.float64))
        unit[block] = matrix[block] / np.where(norms > 0, norms, 1)[:, None]
    return unit
