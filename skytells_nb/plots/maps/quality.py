"""How far a map can be trusted: whether neighbours on the map are neighbours in meaning, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.plots.maps.projection import unit_vectors
from skytells_nb.vectors.arrays import Floats

MEASURED_ROWS = 1_000
AMONG_ROWS = 20_000
MIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Quality:
    """Trustworthiness and neighbour preservation, both from 0 to 1, for ``neighbors`` neighbours of ``measured`` rows.

    ``trustworthiness`` (Venna and Kaski, as in scikit-learn) falls where rows that lie close on the map are far apart
    in meaning; it is about 0.5 for points thrown at random. ``preserved`` is the mean share of a row's nearest rows
    that are still its nearest on the map.
    """

    trustworthiness: float
    preserved: float
    neighbors: int
    measured: int
    among: int

    def __str__(self) -> str:
        part = "" if self.measured == self.among else f", measured on {self.measured:,} rows"
        part += f" among {self.among:,}" if part else ""
        return (
            f"trustworthiness {self.trustworthiness:.2f}, "
            f"{self.preserved:.0%} of the {self.neighbors} nearest rows kept{part}"
        )


def measure(
    vectors: Floats, points: Floats, *, neighbors: int = 15, metric: str = "cosine", seed: int | None = 42
) -> Quality | None:
    """The quality of a map: ``points`` (n, 2 or 3) for ``vectors`` (n, d); None below 5 rows, and where
    all rows lie on one point.

    Measured for a seeded sample of 1,000 rows, among all rows or a seeded sample of 20,000 of them.

    >>> square = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [5, 5]], dtype=np.float32)
    >>> measure(square, square, neighbors=2, metric="euclidean").trustworthiness
    1.0
    """
    n = len(vectors)
    if n < MIN_ROWS or not np.ptp(points, axis=0).any():
        return None
    random = np.random.default_rng(seed)
    among = np.arange(n) if n <= AMONG_ROWS else np.sort(random.choice(n, AMONG_ROWS, replace=False))
    count = len(among)
    measured = (
        np.arange(count) if count <= MEASURED_ROWS else np.sort(random.choice(count, MEASURED_ROWS, replace=False))
    )
    k = min(neighbors, (count - 1) // 2)
    far = _distances(unit_vectors(vectors[among], metric), measured)
    near = _distances(points[among].astype(np.float32), measured)
    drawn = np.argpartition(near, k - 1, axis=1)[:, :k]
    meant = np.argpartition(far, k - 1, axis=1)[:, :k]
    kept = (drawn[:, :, None] == meant[:, None, :]).any(axis=2).mean()
    # How many rows are nearer in meaning than each that is drawn near: its rank less one.
    ranks = np.stack([(far < np.take_along_axis(far, drawn[:, [at]], axis=1)).sum(axis=1) for at in range(k)], axis=1)
    intruding = float(np.clip(ranks + 1 - k, 0, None).sum())
    worst = len(measured) * k * (2 * count - 3 * k - 1) / 2
    return Quality(1 - intruding / worst, float(kept), k, len(measured), count)


def _distances(vectors: Floats, measured: NDArray[np.intp]) -> Floats:
    """Squared distances (m, n) from the measured rows to all, each infinitely far from itself."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    apart: Floats = vectors[measured] @ vectors.T
    apart *= -2
    apart += squares
    apart[np.arange(len(measured)), measured] = np.inf
    return apart
