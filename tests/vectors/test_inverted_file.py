"""An inverted file finds what brute force finds, to the recall that it states."""

from __future__ import annotations

import numpy as np
import pytest

from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.inverted_file import MIN_INDEX_ROWS, InvertedFile, nearest_approximately, top_columns
from skytells_nb.vectors.near_duplicates import near_duplicates
from skytells_nb.vectors.neighbors import nearest_by_cosine

THRESHOLD = 0.9


def texts_in_topics(n: int, d: int = 32, seed: int = 3) -> Floats:
    """Vectors around 40 directions; every third is near to another one."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((40, d))[rng.integers(40, size=n)] + 0.7 * rng.standard_normal((n, d))
    copied = rng.permutation(n)[: n // 3]
    matrix[copied] = matrix[rng.integers(n, size=len(copied))] + rng.standard_normal((len(copied), d)) * 0.15
    return unit_vectors(matrix.astype(np.float32))


@pytest.fixture(scope="module")
def matrix() -> Floats:
    return texts_in_topics(MIN_INDEX_ROWS + 1_000)


@pytest.mark.parametrize("k", [1, 3, 700])
def test_all_lists_together_have_the_exact_neighbors(k: int) -> None:
    known, queries = texts_in_topics(3_000), texts_in_topics(50, seed=4)
    index = InvertedFile(known)
    assert index.n_lists > 3
    positions, cosines = index.nearest(queries, k)
    expected_positions, expected_cosines = nearest_by_cosine(queries, known, k)
    np.testing.assert_array_equal(cosines, expected_cosines)
    np.testing.assert_array_equal(positions, expected_positions)


def test_rows_can_be_added_in_any_order() -> None:
    known, queries = texts_in_topics(3_000), texts_in_topics(20, seed=5)
    filled, grown = InvertedFile(known), InvertedFile(known, empty=True)
    for part in np.array_split(np.random.default_rng(0).permutation(len(known)), 7):
        grown.add(part)
    np.testing.assert_array_equal(filled.nearest(queries, 5)[0], grown.nearest(queries, 5)[0])


def test_only_added_rows_are_found() -> None:
    known = texts_in_topics(3_000)
    index = InvertedFile(known, empty=True)
    index.add(np.array([7, 5]))
    positions, cosines = index.nearest(known[5:6], 3)
    assert positions.tolist() == [[5, 7, -1]]
    assert cosines[0, 0] == pytest.approx(1)
    assert cosines[0, 2] == -np.inf


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.999])
def test_the_stated_recall_is_that_of_the_sample_and_no_smaller_number_of_lists_has_it(recall: float) -> None:
    known, queries = texts_in_topics(12_000), texts_in_topics(400, seed=6)
    index = InvertedFile(known)
    index.calibrate(queries, lambda cosines: top_columns(cosines[None, :], 10)[0], recall)
    exact = nearest_by_cosine(queries, known, 10)[0]

    def share(n_probes: int) -> float:
        index.n_probes = n_probes
        found = index.nearest(queries, 10)[0]
        return float(np.mean([np.isin(row, of).mean() for row, of in zip(exact, found, strict=True)]))

    n_probes = index.n_probes
    assert share(n_probes) == pytest.approx(index.recall, abs=1e-3)
    assert index.recall >= recall
    assert n_probes == 4 or share(n_probes - 1) < recall


def test_vectors_that_are_near_to_none_are_still_compared_with_some() -> None:
    matrix = unit_vectors(np.random.default_rng(1).standard_normal((MIN_INDEX_ROWS, 64)).astype(np.float32))
    groups = near_duplicates(matrix, 0.99, recall=0.9)
    assert groups.representatives.tolist() == list(range(len(matrix)))


def test_near_duplicates_have_the_recall_that_is_stated(matrix: Floats) -> None:
    exact, groups = near_duplicates(matrix, THRESHOLD, recall=1), near_duplicates(matrix, THRESHOLD, recall=0.95)
    rows = np.arange(len(matrix))
    assert exact.recall == 1.0
    assert 0.95 <= groups.recall <= 1.0
    members = exact.representatives != rows
    assert (groups.representatives != rows)[members].mean() >= 0.93
    own = groups.representatives == rows
    assert own[groups.representatives].all()
    assert (groups.representatives <= rows).all()
    cosines = (matrix * matrix[groups.representatives]).sum(axis=1)
    assert (cosines[~own] >= THRESHOLD - 1e-5).all()
    np.testing.assert_allclose(groups.similarity[~own], cosines[~own], atol=1e-5)


def test_progress_is_the_number_of_vectors_that_are_done(matrix: Floats) -> None:
    done: list[int] = []
    near_duplicates(matrix, THRESHOLD, recall=0.95, on_progress=done.append)
    assert done == sorted(done)
    assert len(done) > 3
    assert done[-1] == len(matrix)


def test_nearest_approximately_is_exact_unless_asked_otherwise(matrix: Floats) -> None:
    queries = texts_in_topics(300, seed=8)
    positions, cosines, recall = nearest_approximately(queries, matrix, 2)
    assert recall == 1.0
    expected = nearest_by_cosine(queries, matrix, 2)
    np.testing.assert_array_equal(positions, expected[0])
    found, near, recall = nearest_approximately(queries, matrix, 2, recall=0.9)
    assert 0.9 <= recall <= 1.0
    assert (found == positions).mean() >= 0.88
    assert (near <= cosines + 1e-6).all()
