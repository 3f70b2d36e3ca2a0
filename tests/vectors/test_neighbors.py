"""Nearest neighbors of vectors of any length are those of the unit vectors, to the last bit."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skytells_nb.vectors import arrays as arrays_module
from skytells_nb.vectors import near_duplicates, neighbors, pca
from skytells_nb.vectors.arrays import unit_vectors
from skytells_nb.vectors.neighbors import nearest_by_cosine

MATRICES = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0])
)


@given(MATRICES, st.integers(1, 15), st.integers(0, 99))
def test_lengths_give_the_neighbors_of_unit_vectors(matrix: Any, k: int, seed: int) -> None:
    queries = unit_vectors(np.random.default_rng(seed).standard_normal((3, matrix.shape[1])).astype(np.float32))
    lengths = np.linalg.norm(matrix, axis=1)
    positions, similarity = nearest_by_cosine(queries, matrix, k, lengths=lengths)
    expected_positions, expected_similarity = nearest_by_cosine(queries, unit_vectors(matrix), k)
    np.testing.assert_array_equal(positions, expected_positions)
    np.testing.assert_array_equal(similarity, expected_similarity)


def test_a_vector_of_zeros_has_a_cosine_of_zero() -> None:
    known = np.array([[-1, 0], [0, 0], [3, 0]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    positions, similarity = nearest_by_cosine(query, known, 3, lengths=np.array([1, 0, 3], dtype=np.float32))
    assert positions.tolist() == [[2, 1, 0]]
    assert similarity.tolist() == [[1.0, 0.0, -1.0]]


def test_examples_in_docstrings_run() -> None:
    for module in (arrays_module, neighbors, near_duplicates, pca):
        found = doctest.testmod(module)
        assert (found.failed, found.attempted > 0) == (0, True)
