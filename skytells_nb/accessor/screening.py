"""A short form of vectors whose products are never below their cosines: most pairs need no more than that."""

from __future__ import annotations

import numpy as np

from skytells_nb.accessor.vectors import Floats

HEAD = 64
SAMPLE_ROWS = 4096
PAIR_ROWS = 1024
MOST_CANDIDATES = 0.002
"""Share of pairs up to which looking at the candidates one by one costs less than the whole product."""


def short_form(matrix: Floats, floor: float) -> Floats | None:
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
