"""Matrices of embeddings: their types, unit length, block sizes and dimension checks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Floats = NDArray[np.float32]


Indices = NDArray[np.int64]


BLOCK_NUMBERS = 16_000_000
"""Numbers in one block of intermediate results: 64 MB."""


def check_dimensions(left: Floats, left_name: str, right: Floats, right_name: str) -> None:
    """Raises InputError for vectors that cannot be compared."""
    if len(left) and len(right) and left.shape[1] != right.shape[1]:
        raise InputError(
            f"{left_name} has {left.shape[1]} dimensions and {right_name} {right.shape[1]}: they were made by "
            "different models or with different dimensions=. Name the same model= and dimensions=."
        )


def unit_vectors(matrix: Floats) -> Floats:
    """The rows at length one; rows of zeros stay as they are."""
    made = np.empty_like(matrix)
    step = max(1, BLOCK_NUMBERS // max(matrix.shape[1], 1))
    for start in range(0, len(matrix), step):
        here = slice(start, start + step)
        # The squares of very large and very small numbers do not fit float32.
        norms = np.sqrt(np.einsum("ij,ij->i", matrix[here], matrix[here], dtype=np.float64))
        made[here] = matrix[here] / np.where(norms > 0, norms, 1)[:, None]
    return made
