"""How far a map can be trusted, in two numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skytells_nb.plots.maps.quality import MEASURED_ROWS, Quality, measure
from skytells_nb.plots.theme import plain

Floats = NDArray[np.float32]


def normal(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def measured(vectors: Floats, points: Floats, neighbors: int = 15, metric: str = "euclidean") -> Quality:
    found = measure(vectors, points, neighbors=neighbors, metric=metric)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_that_of_scikit_learn(metric: str, k: int) -> None:
    """For a map of two of ten coordinates, which is neither good nor bad."""
    from sklearn.manifold import trustworthiness

    vectors = normal(300, 10)
    points = vectors[:, :2].copy()
    expected = trustworthiness(vectors, points, n_neighbors=k, metric=metric)
    assert measured(vectors, points, k, metric).trustworthiness == pytest.approx(expected, abs=1e-6)


def test_preservation_is_the_share_of_neighbours_that_stay() -> None:
    """Counted by hand over all pairs."""
    vectors = normal(80, 6)
    points = vectors[:, :2].copy()
    kept = []
    for row in range(80):
        near = [
            set(np.argsort(np.where(np.arange(80) == row, np.inf, np.linalg.norm(space - space[row], axis=1)))[:7])
            for space in (vectors, points)
        ]
        kept.append(len(near[0] & near[1]) / 7)
    assert measured(vectors, points, 7).preserved == pytest.approx(np.mean(kept))


def test_a_map_that_moves_nothing_is_perfect() -> None:
    """Both numbers are one."""
    points = normal(200, 2)
    found = measured(points, points)
    assert (found.trustworthiness, found.preserved) == (1, 1)


def test_points_thrown_at_random_are_told_from_a_map() -> None:
    """Trustworthiness is about one half, and hardly a neighbour stays."""
    found = measured(normal(500, 8), normal(500, 2, seed=1))
    assert 0.4 < found.trustworthiness < 0.6
    assert found.preserved < 0.1


def test_a_sample_of_rows_stands_for_all() -> None:
    """Above 1,000 rows a seeded sample is measured among all of them, and the words say so."""
    vectors = normal(4 * MEASURED_ROWS, 6)
    points = vectors[:, :2].copy()
    found = measured(vectors, points)
    assert (found.measured, found.among) == (MEASURED_ROWS, len(vectors))
    assert found == measured(vectors, points)
    assert "measured on 1,000 rows among 4,000" in plain(found)
    others = [measure(vectors, points, metric="euclidean", seed=seed) for seed in (1, 2)]
    assert np.ptp([sample.trustworthiness for sample in (found, *others) if sample]) < 0.02


def test_few_rows_are_measured_by_fewer_neighbours() -> None:
    """The number of neighbours stays below half of the rows."""
    points = normal(7, 2)
    assert measured(points, points).neighbors == 3


@pytest.mark.parametrize("points", [normal(4, 2), np.zeros((50, 2), np.float32)], ids=["four rows", "one spot"])
def test_what_has_no_neighbours_has_no_quality(points: Floats) -> None:
    """Four rows, or rows that all lie on one point."""
    assert measure(points, points) is None
