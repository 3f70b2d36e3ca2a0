"""An inverted file finds what brute force finds, to the recall that it states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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


N = MIN_INDEX_ROWS + 500


def uniform(rng: np.random.Generator) -> NDArray[Any]:
    return rng.standard_normal((N, 48))


def clustered(rng: np.random.Generator) -> NDArray[Any]:
    return rng.standard_normal((200, 64))[rng.integers(200, size=N)] + 0.3 * rng.standard_normal((N, 64))


def duplicates_heavy(rng: np.random.Generator) -> NDArray[Any]:
    """Nine of ten rows are equal to another one."""
    return rng.standard_normal((N // 10, 32))[rng.integers(N // 10, size=N)]


def tiny(rng: np.random.Generator) -> NDArray[Any]:
    return rng.standard_normal((N, 3))


def half_precision(rng: np.random.Generator) -> NDArray[Any]:
    return clustered(rng).astype(np.float16)


def with_zeros(rng: np.random.Generator) -> NDArray[Any]:
    matrix = clustered(rng)
    matrix[rng.random(N) < 0.2] = 0
    return matrix


SHAPES = [uniform, clustered, duplicates_heavy, tiny, half_precision, with_zeros]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@pytest.mark.parametrize("k", [1, 5])
def test_a_join_has_the_recall_that_it_states(shape: Callable[[np.random.Generator], NDArray[Any]], k: int) -> None:
    known = unit_vectors(shape(np.random.default_rng(1)).astype(np.float32))
    queries = unit_vectors(shape(np.random.default_rng(2)).astype(np.float32))[:1_500]
    # Half of the queries are near to a known vector, as in a join.
    queries[::2] = unit_vectors(known[:1_500:2] + queries[::2] * np.float32(0.3))
    exact, cosines = nearest_by_cosine(queries, known, k)
    found, near, recall = nearest_approximately(queries, known, k, recall=0.9)
    assert 0.9 <= recall <= 1
    # A vector that is as near as the k-th one is as good as that.
    assert (near >= cosines[:, -1:] - 1e-6).mean() >= recall - 0.02
    assert (near <= cosines + 1e-6).all()
    if recall == 1:  # so many lists would be searched that all vectors were compared
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_near_pairs_are_seen_as_often_as_stated(shape: Callable[[np.random.Generator], NDArray[Any]]) -> None:
    matrix = unit_vectors(shape(np.random.default_rng(3)).astype(np.float32))
    # Rows that are just near enough to another one, the hardest pairs.
    rng = np.random.default_rng(4)
    copies, originals = np.split(rng.permutation(N)[:800], 2)
    towards = unit_vectors(rng.standard_normal((400, matrix.shape[1])).astype(np.float32))
    matrix[copies] = unit_vectors(matrix[originals] + towards * np.float32(0.45))
    exact, groups = near_duplicates(matrix, THRESHOLD, recall=1), near_duplicates(matrix, THRESHOLD, recall=0.9)
    rows = np.arange(N)
    members = exact.representatives != rows
    assert 0.9 <= groups.recall <= 1
    assert (groups.representatives != rows)[members].mean() >= groups.recall - 0.02
    # Zeros are near to nothing, and nobody's member is out of reach.
    zeros = ~matrix.any(axis=1)
    assert (groups.representatives[zeros] == rows[zeros]).all()
    kept = groups.representatives == rows
    assert kept[groups.representatives].all()
    cosines = (matrix * matrix[groups.representatives]).sum(axis=1)
    assert (cosines[~kept] >= THRESHOLD - 1e-5).all()


def test_where_no_row_of_the_sample_has_a_neighbor_the_rare_pairs_are_found_all_the_same() -> None:
    """Six pairs among 20,500 rows: a sample of rows meets none of them, and the recall is measured with made ones."""
    matrix = unit_vectors(np.random.default_rng(1).standard_normal((N, 64)).astype(np.float32))
    late = np.arange(N - 6, N)
    matrix[late] = unit_vectors(matrix[late - 10_000] + 0.45 * unit_vectors(matrix[late - 7_000]))
    groups = near_duplicates(matrix, THRESHOLD, recall=0.99)
    assert groups.recall >= 0.99
    assert groups.representatives[late].tolist() == (late - 10_000).tolist()
    assert (groups.representatives[: N - 6] == np.arange(N - 6)).all()


@pytest.mark.parametrize("k", [1, 3, 40])
def test_equal_vectors_of_both_sides_are_all_paired_the_earlier_first(k: int) -> None:
    rng = np.random.default_rng(k)
    distinct = unit_vectors(rng.standard_normal((30, 16)).astype(np.float32))
    known, queries = distinct[rng.integers(30, size=600)], distinct[rng.integers(30, size=200)]
    found, near, _ = nearest_approximately(queries, known, k)
    expected, cosines = nearest_by_cosine(queries, known, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(near, cosines)


def test_a_group_of_equal_rows_goes_to_its_nearest_representative(matrix: Floats) -> None:
    """A row whose equal is no representative looks at those that came between them."""
    repeated = np.concatenate([matrix[:6_000], matrix[:6_000:3], matrix[1:6_000:5]])
    groups = near_duplicates(repeated, THRESHOLD)
    kept: list[int] = []
    for row, vector in enumerate(repeated):
        cosines = repeated[kept] @ vector if kept else np.empty(0)
        if len(kept) and cosines.max() >= THRESHOLD - 2e-6:
            assert repeated[groups.representatives[row]] @ vector == pytest.approx(cosines.max(), abs=1e-5)
        else:
            assert groups.representatives[row] == row
            kept.append(row)


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
