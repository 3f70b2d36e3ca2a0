"""A column of embeddings is prepared once for all methods that compare rows, and again when it has changed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest

from skytells_nb import columns
from skytells_nb.accessor.embeddings import TextOrVectorColumn, UnitVectors
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.vectors.arrays import Floats

MATRIX = np.array([[3, 0], [0, 2], [1, 1]], dtype=np.float32)


def frame_of(dtype: str) -> pd.DataFrame:
    column = columns.from_matrix(MATRIX.copy(), rows=[0, 1, -1, 2], dtype="arrow" if dtype == "arrow" else "numpy")
    return pd.DataFrame({"embedding": column, "n": range(4)})


def matrix_of(frame: pd.DataFrame) -> Floats:
    """Return the unit vectors as the methods get them; nothing is sent for a column of embeddings."""
    source = TextOrVectorColumn(frame, "embedding")
    vectors: UnitVectors = source.vectors(MultiRun("search", 4, pytest.fail), None)  # type: ignore[arg-type]
    assert source.present.tolist() == [True, True, False, True]
    assert vectors.rows.tolist() == [0, 1, 3]
    return vectors.matrix


@pytest.mark.parametrize("dtype", ["numpy", "arrow"])
def test_a_second_look_has_the_same_matrix(dtype: str) -> None:
    frame = frame_of(dtype)
    assert matrix_of(frame) is matrix_of(frame)


@pytest.mark.parametrize("dtype", ["numpy", "arrow"])
def test_a_cell_that_was_replaced_in_place_is_seen(dtype: str) -> None:
    frame = frame_of(dtype)
    assert frame.skytells.similar(0, k=1, progress=False).index.tolist() == [3]
    replacement = np.array([5, 0], dtype=np.float32)
    if dtype == "arrow":
        frame["embedding"] = columns.from_matrix([[3, 0], [5, 0], [1, 1]], rows=[0, 1, -1, 2], dtype="arrow")
    else:
        frame.at[1, "embedding"] = replacement
    found = frame.skytells.similar(0, k=1, progress=False)
    assert found.index.tolist() == [1]
    assert found["score"].tolist() == [1.0]


def test_another_column_of_the_same_name_is_seen() -> None:
    frame = frame_of("numpy")
    before = matrix_of(frame)
    frame["embedding"] = columns.from_matrix(MATRIX[::-1], rows=[0, 1, -1, 2])
    assert not np.array_equal(matrix_of(frame), before)


def test_cells_that_may_change_in_place_are_read_each_time() -> None:
    frame = pd.DataFrame({"embedding": [np.array([3.0, 0]), np.array([0.0, 2]), None, np.array([1.0, 1])]})
    assert matrix_of(frame)[1].tolist() == [0, 1]
    frame["embedding"].iloc[1][:] = [1, 0]
    assert matrix_of(frame)[1].tolist() == [1, 0]


def test_what_was_prepared_goes_with_the_frame() -> None:
    frame = frame_of("numpy")
    released = weakref.ref(matrix_of(frame))
    assert released() is not None
    del frame
    gc.collect()
    assert released() is None
