"""A column of embeddings is prepared once for all methods that compare rows, and again when it has changed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest

from skytells_nb import columns
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.text_or_vector_column import TextOrVectorColumn
from skytells_nb.embedding_columns import UnitVectors, known_unit_vectors
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


def test_frames_with_the_same_cells_share_what_was_prepared() -> None:
    """Methods return new frames with the columns of the old one."""
    frame = frame_of("numpy")
    matrix = matrix_of(frame)
    assert matrix_of(frame.copy()) is matrix
    assert matrix_of(frame.assign(m=1)) is matrix
    assert matrix_of(frame.skytells.cluster("embedding", n=2, name=False, progress=False)) is matrix


def test_cells_in_another_order_are_prepared_again() -> None:
    frame = frame_of("numpy")
    matrix = matrix_of(frame)
    turned = frame.iloc[[1, 0, 2, 3]].reset_index(drop=True)
    assert matrix_of(turned).tolist() == matrix[[1, 0, 2]].tolist()


def test_what_was_prepared_stays_with_the_last_frame_that_used_it() -> None:
    frame = frame_of("numpy")
    matrix = matrix_of(frame)
    later = frame.assign(m=1)
    assert matrix_of(later) is matrix
    del frame
    gc.collect()
    assert matrix_of(later.copy()) is matrix


def test_the_map_and_the_explorer_use_what_the_search_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    pytest.importorskip("plotly")
    from skytells_nb import embedding_columns, plots, widgets

    frame = frame_of("numpy")
    matrix = matrix_of(frame)
    # Every preparation reads the column.
    monkeypatch.setattr(embedding_columns, "to_matrix", pytest.fail)
    plots.semantic_map(frame, method="pca", progress=False)
    explorer = widgets.Explorer(frame, method="pca")
    assert explorer._rows.matrix is matrix
    explorer.close()


def test_unit_vectors_are_not_copied() -> None:
    matrix = np.eye(3, dtype=np.float32)
    frame = pd.DataFrame({"embedding": columns.from_matrix(matrix, rows=[0, 1, -1, 2])})
    assert np.shares_memory(matrix_of(frame), matrix)


def test_texts_are_not_taken_for_vectors() -> None:
    frame = frame_of("numpy")
    matrix_of(frame)
    texts = pd.DataFrame({"embedding": pd.Series(["a", "b", None, "c"], dtype=object)})
    assert known_unit_vectors(texts, "embedding") is None
