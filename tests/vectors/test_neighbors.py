"""Nearest neighbors are those of a sort of all cosines, to the last bit."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skytells_nb.vectors import arrays as arrays_module
from skytells_nb.vectors import near_duplicates, neighbors, pca
from skytells_nb.vectors.arrays import distinct_rows, unit_vectors
from skytells_nb.vectors.neighbors import nearest_by_cosine

MATRICES = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0])
)


@given(MATRICES, st.integers(1, 15), st.integers(0, 99), st.integers(1, 20))
def test_the_neighbors_are_those_of_a_stable_sort_of_all_cosines(matrix: Any, k: int, seed: int, repeats: int) -> None:
    known = unit_vectors(np.repeat(matrix, repeats, axis=0))
    queries = unit_vectors(np.random.default_rng(seed).standard_normal((3, matrix.shape[1])).astype(np.float32))
    positions, similarity = nearest_by_cosine(queries, known, k)
    for query, found, scores in zip(queries, positions, similarity, strict=True):
        exact = neighbors.cosines(known, query)
        expected = np.argsort(-exact, kind="stable")[:k]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(scores, exact[expected])


@pytest.mark.parametrize("k", [1, 2, 7, 400])
def test_many_vectors_have_the_neighbors_of_a_stable_sort(k: int) -> None:
    """There are groups of products here, of which only the highest is compared."""
    rng = np.random.default_rng(k)
    known = unit_vectors(rng.standard_normal((5_003, 24)).astype(np.float32))
    # Vectors that are equal, next to each other, in one group and in several.
    known[1_000:1_600] = known[rng.integers(30, size=600)]
    queries = np.concatenate([known[:5], unit_vectors(rng.standard_normal((40, 24)).astype(np.float32))])
    positions, similarity = nearest_by_cosine(queries, known, k)
    for query, found, scores in zip(queries, positions, similarity, strict=True):
        exact = neighbors.cosines(known, query)
        expected = np.argsort(-exact, kind="stable")[:k]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(scores, exact[expected])


@given(arrays(np.float32, (6, 300), elements=st.floats(-1, 1, width=32)), st.integers(1, 40))
def test_at_least_k_values_reach_the_bound(values: Any, k: int) -> None:
    bound = neighbors.lower_bound_of_top(values, k)
    assert ((values >= bound[:, None]).sum(axis=1) >= k).all()
    assert (bound <= values.max(axis=1)).all()


def test_a_vector_of_zeros_has_a_cosine_of_zero() -> None:
    known = np.array([[-1, 0], [0, 0], [1, 0]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    positions, similarity = nearest_by_cosine(query, known, 3)
    assert positions.tolist() == [[2, 1, 0]]
    assert similarity.tolist() == [[1.0, 0.0, -1.0]]


def test_vectors_of_length_one_are_not_copied() -> None:
    matrix = unit_vectors(np.random.default_rng(0).standard_normal((500, 40)).astype(np.float32))
    matrix[7] = 0
    assert unit_vectors(matrix) is matrix
    longer = matrix.copy()
    longer[3] *= 1.00001
    assert unit_vectors(longer) is not longer


@given(MATRICES, st.integers(1, 9))
def test_distinct_rows_are_found_in_order(matrix: Any, repeats: int) -> None:
    repeated = np.concatenate([matrix] * repeats)
    rows, numbers = distinct_rows(repeated)
    np.testing.assert_array_equal(repeated[rows[numbers]].view(np.uint32), repeated.view(np.uint32))
    assert (np.diff(rows) > 0).all()
    assert len(np.unique(repeated[rows].view(np.uint32), axis=0)) == len(rows)


def test_examples_in_docstrings_run() -> None:
    for module in (arrays_module, neighbors, near_duplicates, pca):
        found = doctest.testmod(module)
        assert (found.failed, found.attempted > 0) == (0, True)
