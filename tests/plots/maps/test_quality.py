"""The quality of a map in two numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skytells_nb.plots.maps.quality import MEASURED_ROWS, Quality, measure_quality, neighbors_kept, trust_in_words
from skytells_nb.plots.theme import plain_text

Floats = NDArray[np.float32]


def normal(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def measured(vectors: Floats, points: Floats, neighbors: int = 15, metric: str = "euclidean") -> Quality:
    quality = measure_quality(vectors, points, neighbors=neighbors, metric=metric)
    assert quality is not None
    return quality


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_that_of_scikit_learn(metric: str, k: int) -> None:
    """For a map of mediocre quality: two of ten coordinates."""
    from sklearn.manifold import trustworthiness

    vectors = normal(300, 10)
    points = vectors[:, :2].copy()
    expected = trustworthiness(vectors, points, n_neighbors=k, metric=metric)
    assert measured(vectors, points, k, metric).trustworthiness == pytest.approx(expected, abs=1e-6)


def test_preservation_is_the_fraction_of_common_neighbors() -> None:
    """Counted directly over all pairs."""
    vectors = normal(80, 6)
    points = vectors[:, :2].copy()
    fractions = []
    for row in range(80):
        nearest = [
            set(np.argsort(np.where(np.arange(80) == row, np.inf, np.linalg.norm(space - space[row], axis=1)))[:7])
            for space in (vectors, points)
        ]
        fractions.append(len(nearest[0] & nearest[1]) / 7)
    assert measured(vectors, points, 7).preserved == pytest.approx(np.mean(fractions))


def test_a_map_equal_to_its_vectors_is_perfect() -> None:
    """Both numbers are 1."""
    points = normal(200, 2)
    quality = measured(points, points)
    assert (quality.trustworthiness, quality.preserved) == (1, 1)


def test_random_points_have_low_quality() -> None:
    """Trustworthiness is about one half, and almost no neighbors are preserved."""
    quality = measured(normal(500, 8), normal(500, 2, seed=1))
    assert 0.4 < quality.trustworthiness < 0.6
    assert quality.preserved < 0.1


def test_large_maps_are_measured_on_a_sample() -> None:
    """Above 1,000 rows a seeded sample is measured, and the text says so."""
    vectors = normal(4 * MEASURED_ROWS, 6)
    points = vectors[:, :2].copy()
    quality = measured(vectors, points)
    assert (quality.measured, quality.among) == (MEASURED_ROWS, len(vectors))
    assert quality == measured(vectors, points)
    assert "measured on 1,000 rows among 4,000" in plain_text(quality)
    others = [measure_quality(vectors, points, metric="euclidean", seed=seed) for seed in (1, 2)]
    assert np.ptp([sample.trustworthiness for sample in (quality, *others) if sample]) < 0.02


def test_few_rows_are_measured_with_fewer_neighbors() -> None:
    """The number of neighbors is below half of the rows."""
    points = normal(7, 2)
    assert measured(points, points).neighbors == 3


@pytest.mark.parametrize("points", [normal(4, 2), np.zeros((50, 2), np.float32)], ids=["four rows", "one point"])
def test_too_few_distinct_points_have_no_quality(points: Floats) -> None:
    """Four rows, or rows that share one point."""
    assert measure_quality(points, points) is None


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_share_of_neighbors_kept_is_that_of_the_measured_quality(metric: str) -> None:
    """For as many rows as both measure, of vectors of different lengths."""
    random = np.random.default_rng(3)
    vectors = (random.normal(size=(200, 12)) * random.uniform(0.1, 9, size=(200, 1))).astype(np.float32)
    points = vectors[:, :2]
    quality = measure_quality(vectors, points, neighbors=10, metric=metric)
    assert quality is not None
    kept = neighbors_kept(vectors, points, neighbors=10, metric=metric, seed=42)
    assert kept == pytest.approx(quality.preserved)


def test_too_few_rows_or_points_that_coincide_have_no_share() -> None:
    vectors = np.eye(6, dtype=np.float32)
    assert neighbors_kept(vectors[:4], vectors[:4, :2], neighbors=2, metric="cosine", seed=1) is None
    assert neighbors_kept(vectors, np.zeros((6, 2), np.float32), neighbors=2, metric="cosine", seed=1) is None


@pytest.mark.parametrize(("kept", "word"), [(0.7, "faithful"), (0.5, "faithful"), (0.35, "fair"), (0.2, "loose")])
def test_trust_is_said_in_words(kept: float, word: str) -> None:
    assert trust_in_words(kept) == f"{word} map: {kept:.0%} of neighbors kept"
