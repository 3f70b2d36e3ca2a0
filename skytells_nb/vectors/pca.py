"""Principal components in numpy: the axes of greatest variance, and where vectors lie on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.vectors.arrays import Floats

FIT_ROWS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """The mean (d), the principal axes (d, k) and the share of the variance on each; axes that do not exist are zero.

    >>> axes = principal_axes(np.array([[0, 0], [2, 0], [4, 0]], dtype=np.float32), 2)
    >>> axes.coordinates(np.array([[3, 0]], dtype=np.float32)).tolist(), axes.shares.tolist()
    ([[1.0, 0.0]], [1.0, 0.0])
    """

    mean: Floats
    axes: Floats
    shares: NDArray[np.float64]

    def coordinates(self, matrix: Floats) -> Floats:
        """Where the vectors (n, d) lie on the axes: (n, k)."""
        return np.ascontiguousarray((matrix - self.mean) @ self.axes)


def principal_axes(matrix: Floats, dimensions: int, *, seed: int | None = 42) -> Axes:
    """The first principal axes of the vectors (n, d).

    The largest loading of each axis is positive, so the sign does not depend on the machine. Above 20,000 rows the axes
    are fitted on a seeded sample of that many.
    """
    n, d = matrix.shape
    fit = matrix
    if n > FIT_ROWS:
        fit = matrix[np.sort(np.random.default_rng(seed).choice(n, FIT_ROWS, replace=False))]
    mean = fit.mean(axis=0, dtype=np.float64).astype(np.float32) if n else np.zeros(d, np.float32)
    centred = fit - mean
    # The smaller of the two Gram matrices has all that is needed: no SVD of n x d.
    wide = len(fit) < d
    values, columns = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred).astype(np.float64))
    values, columns = np.clip(values[::-1], 0, None), columns[:, ::-1]
    total = float(values.sum())
    kept = int((values[:dimensions] > 1e-9 * max(total, 1e-30)).sum())
    found = columns[:, :kept]
    if wide:
        found = centred.T.astype(np.float64) @ found / np.sqrt(values[:kept])
    largest = found[np.abs(found).argmax(axis=0), np.arange(kept)] if kept else np.empty(0)
    axes = np.zeros((d, dimensions), dtype=np.float32)
    axes[:, :kept] = found * np.where(largest < 0, -1.0, 1.0)
    shares = np.zeros(dimensions)
    shares[:kept] = values[:kept] / total if total else 0.0
    return Axes(mean, axes, shares)
