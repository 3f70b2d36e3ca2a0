"""Principal components in numpy: the axes of greatest variance, and the coordinates of vectors on them."""

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
        """Return the coordinates (n, k) of the vectors (n, d) on the axes."""
        return np.ascontiguousarray((matrix - self.mean) @ self.axes)


def principal_axes(matrix: Floats, dimensions: int, *, seed: int | None = 42) -> Axes:
    """Return the first principal axes of the vectors (n, d).

    The largest loading of each axis is positive, so the sign does not depend on the machine. Above 20,000 rows the axes
    are fitted on a seeded sample of that many.
    """
    n, d = matrix.shape
    sample = matrix
    if n > FIT_ROWS:
        sample = matrix[np.sort(np.random.default_rng(seed).choice(n, FIT_ROWS, replace=False))]
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32) if n else np.zeros(d, np.float32)
    centered = sample - mean
    # The smaller of the two Gram matrices is enough: no SVD of n x d.
    is_wide = len(sample) < d
    gram = centered @ centered.T if is_wide else centered.T @ centered
    eigenvalues, eigenvectors = np.linalg.eigh(gram.astype(np.float64))
    eigenvalues, eigenvectors = np.clip(eigenvalues[::-1], 0, None), eigenvectors[:, ::-1]
    total = float(eigenvalues.sum())
    rank = int((eigenvalues[:dimensions] > 1e-9 * max(total, 1e-30)).sum())
    components = eigenvectors[:, :rank]
    if is_wide:
        components = centered.T.astype(np.float64) @ components / np.sqrt(eigenvalues[:rank])
    largest = components[np.abs(components).argmax(axis=0), np.arange(rank)] if rank else np.empty(0)
    axes = np.zeros((d, dimensions), dtype=np.float32)
    axes[:, :rank] = components * np.where(largest < 0, -1.0, 1.0)
    shares = np.zeros(dimensions)
    shares[:rank] = eigenvalues[:rank] / total if total else 0.0
    return Axes(mean, axes, shares)
