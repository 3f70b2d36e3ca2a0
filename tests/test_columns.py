"""The embedding column: made from a matrix, and turned into one again."""

from __future__ import annotations

import gc
import pickle
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skytells_nb.columns import (
    column_of,
    from_matrix,
    longest_text_column,
    text_columns,
    texts_of,
    texts_on_demand,
    to_arrow,
    to_matrix,
)
from skytells_nb.errors import InputError

Kind = Literal["numpy", "arrow"]
KINDS: tuple[Kind, ...] = ("numpy", "arrow")
both_kinds = pytest.mark.parametrize("kind", KINDS)


def vectors(n: int = 6, d: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).random((n, d), dtype=np.float32)


def arrow_series(array: Any) -> pd.Series[Any]:
    return pd.Series(pd.arrays.ArrowExtensionArray(array))


@given(
    matrix=arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-9, 9, width=32)),
    picks=st.lists(st.integers(-1, 5), max_size=12),
    kind=st.sampled_from(KINDS),
)
def test_a_scattered_matrix_comes_back_row_by_row(matrix: Any, picks: list[int], kind: Kind) -> None:
    """``to_matrix`` returns what ``rows`` selected, without missing values, for both kinds."""
    rows = np.array([min(pick, len(matrix) - 1) for pick in picks], dtype=int)
    back, valid = to_matrix(from_matrix(matrix, rows=rows, dtype=kind))
    assert valid.tolist() == [row >= 0 for row in rows]
    np.testing.assert_array_equal(back, matrix[rows[rows >= 0]] if (rows >= 0).any() else back[:0])


@both_kinds
def test_cells_without_a_vector_are_missing(kind: Kind) -> None:
    """``valid`` puts the rows of the matrix at the true places, in order."""
    column = from_matrix(vectors(2), valid=[True, False, True], index=list("abc"), dtype=kind, name="e")
    assert column.isna().tolist() == [False, True, False]
    assert (column.index.tolist(), column.name) == (list("abc"), "e")
    np.testing.assert_array_equal(to_matrix(column)[0], vectors(2))


@both_kinds
def test_a_whole_column_is_the_same_memory_both_ways(kind: Kind) -> None:
    """Neither direction copies a matrix that is used as a whole, nor a large slice of it."""
    matrix = vectors(100, 8)
    column = from_matrix(matrix, dtype=kind)
    assert np.shares_memory(to_matrix(column)[0], matrix)
    assert np.shares_memory(to_matrix(column.iloc[10:90])[0], matrix)


def test_rows_of_equal_text_share_one_vector() -> None:
    """20,000 cells over 2,000 vectors hold 2,000 arrays of one matrix, and cannot be changed through one another."""
    rows = np.arange(20_000) % 2_000
    column = from_matrix(vectors(2_000, 3), rows=rows)
    assert len({id(cell) for cell in column}) == 2_000
    assert column.iloc[0] is column.iloc[2_000]
    with pytest.raises(ValueError, match="read-only"):
        column.iloc[0][0] = 1.0


def test_the_matrix_of_the_caller_stays_writable() -> None:
    """Read-only cells do not freeze the array they were made from."""
    matrix = vectors()
    from_matrix(matrix)
    matrix[0, 0] = 7.0
    assert matrix[0, 0] == 7.0


def test_a_column_of_few_rows_does_not_hold_a_large_matrix() -> None:
    """A column with three rows of a thousand releases the thousand."""
    matrix = vectors(1_000, 8)
    gone = weakref.ref(matrix)
    column = from_matrix(matrix, rows=[5, -1, 7, 5])
    expected = matrix[[5, 7, 5]].copy()
    del matrix
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(to_matrix(column)[0], expected)


def test_the_matrix_of_a_small_slice_stands_alone() -> None:
    """``to_matrix`` of five rows of a thousand does not refer to the thousand."""
    column = from_matrix(vectors(1_000, 8))
    small, _ = to_matrix(column.iloc[:5])
    assert small.base is None or small.base.nbytes < 1_000
    np.testing.assert_array_equal(small, vectors(1_000, 8)[:5])


@both_kinds
@pytest.mark.parametrize("order", [[3, 1, 2], [0, 0, 1], [5, 4, 3, 2, 1, 0], [0, 2, 4], [1, 2, 4, 3, 5]])
def test_reordered_rows_follow_the_column(kind: Kind, order: list[int]) -> None:
    """Adjacent memory is never mistaken for the order of the rows."""
    np.testing.assert_array_equal(to_matrix(from_matrix(vectors(), dtype=kind).iloc[order])[0], vectors()[order])


@both_kinds
def test_concatenated_and_patched_columns_are_read(kind: Kind) -> None:
    """Concatenated columns with one cell set to missing have the remaining rows."""
    column = from_matrix(vectors(), dtype=kind)
    joined = pd.concat([column.iloc[4:], column.iloc[:2]], ignore_index=True)
    joined.iloc[1] = None
    matrix, valid = to_matrix(joined)
    assert valid.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(matrix, vectors()[[4, 0, 1]])


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([[1, 2], None, (3.0, 4.0)]),
        pd.Series([np.array([1, 2]), np.nan, np.array([3.0, 4.0])], dtype=object),
        arrow_series(pa.array([[1, 2], None, [3, 4]])),
        arrow_series(pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.large_list(pa.float64()))),
        arrow_series(pa.chunked_array([pa.array([[1.0, 2.0]]), pa.array([None, [3.0, 4.0]])])),
        arrow_series(pa.array([[9.0, 9.0], [1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))[1:]),
    ],
    ids=["lists", "arrays", "arrow-int", "arrow-large", "arrow-chunks", "arrow-slice"],
)
def test_vectors_of_other_libraries_are_read(column: pd.Series[Any]) -> None:
    """Lists, tuples, float64 arrays and every Arrow list become float32 rows, and the same Arrow array."""
    matrix, valid = to_matrix(column)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert valid.tolist() == [True, False, True]
    assert to_arrow(column).to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]
    assert to_arrow(column).type == pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    "column",
    [pd.Series([], dtype=object), pd.Series([None, None]), pd.Series([np.nan]), pd.Series([None], dtype="string")],
    ids=["empty", "none", "nan", "text"],
)
def test_a_column_without_vectors_is_an_empty_matrix(column: pd.Series[Any]) -> None:
    """A column without vectors is not an error."""
    matrix, valid = to_matrix(column)
    assert matrix.shape == (0, 0)
    assert not valid.any()
    assert to_arrow(column).null_count == len(column)


def test_an_arrow_column_of_nulls_keeps_its_dimensions() -> None:
    """The type of the column determines the dimensions."""
    assert to_matrix(from_matrix(np.empty((0, 5)), valid=[False, False], dtype="arrow"))[0].shape == (0, 5)


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pd.Series([[1, 2], [1, 2, 3], [1, 2]], index=list("abc")), "2 numbers in 2 rows, but 3 in 1 row .row 'b'"),
        (arrow_series(pa.array([[1.0, 2.0], [1.0, 2.0], [1.0]])), "must have vectors of one length.*row 2"),
        (pd.Series([[1, 2], [1, np.nan]], index=["p", "q"]), "NaN or infinite numbers in 1 row .row 'q'"),
        (pd.Series([[1, 2], [np.inf, -np.inf]]), "row 1"),
        (pd.Series([[1, 1e300]]), "infinite"),
        (arrow_series(pa.array([[1.0, 2.0], [None, 1.0]])), "NaN.*row 1"),
        (pd.Series(["[0.1, 0.2]"]), "CSV"),
        (pd.Series([[1, 2], 3.5, "x"]), "a float at rows 1, 2"),
        (pd.Series([1.0, 2.0]), "float64 at row 0"),
        (pd.Series([np.eye(2)]), "shape"),
        (pd.Series([[], []]), "empty vectors"),
        (pd.Series([[1, 2], [1, None]], name="e"), "Column 'e'.*None.*row 1"),
        (pd.Series([[1, 2], ["a", "b"]]), "'a'.*row 1"),
        (pd.Series([{"a": 1}]), "dict"),
        (pd.Series([[True, False]]), "True"),
        (pd.Series(["a"], dtype=pd.ArrowDtype(pa.string())), "type string"),
    ],
)
def test_what_is_not_a_vector_is_named_by_its_row(column: pd.Series[Any], found: str) -> None:
    """The error has the value and its labels."""
    with pytest.raises(InputError, match=found):
        to_matrix(column)


def test_very_large_finite_numbers_are_accepted() -> None:
    """A row whose sum overflows float32 is still a vector of finite numbers."""
    matrix = np.full((2, 4), 3e38, dtype=np.float32)
    np.testing.assert_array_equal(to_matrix(from_matrix(matrix))[0], matrix)


def test_a_long_list_of_invalid_rows_is_shortened() -> None:
    """Three labels are named."""
    with pytest.raises(InputError, match=r"in 9 rows \(rows 1, 2, 3, …\)"):
        to_matrix(pd.Series([[1.0]] + [[np.nan]] * 9))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"matrix": [1, 2]}, "shape"),
        ({"matrix": [[1, 2]], "rows": [1]}, r"rows must be from -1 to 0"),
        ({"matrix": [[1, 2]], "rows": [-2]}, r"rows must be from -1 to 0"),
        ({"matrix": [[1, 2]], "rows": [0.5]}, "integer"),
        ({"matrix": [[1, 2]], "valid": [True, True]}, "valid must be true 1 times, .*got 2 times"),
        ({"matrix": [[1, 2]], "valid": [True], "rows": [0]}, "not both"),
        ({"matrix": [[1, 2]], "index": [1, 2]}, "got 2 labels for 1"),
        ({"matrix": [[1, 2]], "dtype": "list"}, "list"),
    ],
)
def test_invalid_shapes_are_rejected(arguments: dict[str, Any], found: str) -> None:
    """The message names the argument."""
    with pytest.raises(InputError, match=found):
        from_matrix(**arguments)


def test_numpy_kind_survives_plain_parquet(tmp_path: Path) -> None:
    """``to_parquet`` and ``read_parquet`` without options keep every vector and missing value."""
    pd.DataFrame({"e": from_matrix(vectors(), valid=[True] * 6 + [False])}).to_parquet(tmp_path / "f.parquet")
    matrix, valid = to_matrix(pd.read_parquet(tmp_path / "f.parquet")["e"])
    np.testing.assert_array_equal(matrix, vectors())
    assert valid.tolist() == [True] * 6 + [False]


def test_arrow_kind_survives_parquet_with_the_pyarrow_backend(tmp_path: Path) -> None:
    """``read_parquet(dtype_backend="pyarrow")`` keeps the fixed-size list."""
    pd.DataFrame({"e": from_matrix(vectors(), dtype="arrow")}).to_parquet(tmp_path / "f.parquet")
    back = pd.read_parquet(tmp_path / "f.parquet", dtype_backend="pyarrow")["e"]
    assert pa.types.is_fixed_size_list(back.dtype.pyarrow_dtype)  # type: ignore[union-attr]
    np.testing.assert_array_equal(to_matrix(back)[0], vectors())


def test_arrow_kind_cannot_be_read_by_default_pandas(tmp_path: Path) -> None:
    """The documentation states this: when pandas supports it, remove this test and that sentence."""
    pd.DataFrame({"e": from_matrix(vectors(), dtype="arrow")}).to_parquet(tmp_path / "f.parquet")
    with pytest.raises((NotImplementedError, TypeError)):
        pd.read_parquet(tmp_path / "f.parquet")


@both_kinds
def test_both_kinds_survive_pickle(kind: Kind) -> None:
    """A pickled column has the same vectors, missing values and labels."""
    column = from_matrix(vectors(), valid=[False] + [True] * 6, index=range(10, 17), dtype=kind)
    back = pickle.loads(pickle.dumps(column))
    assert back.index.tolist() == column.index.tolist()
    np.testing.assert_array_equal(to_matrix(back)[0], vectors())
    assert to_matrix(back)[1].tolist() == [False] + [True] * 6


def test_only_a_series_is_a_column() -> None:
    """The message names the type that was passed."""
    with pytest.raises(InputError, match="DataFrame"):
        to_matrix(pd.DataFrame({"e": [1]}))  # type: ignore[arg-type]


def test_the_column_of_texts() -> None:
    """The sum of the first cells decides, or their mean; categories are labels, and columns of other types are none."""
    short, long = ["ab"] * 6, ["abcdefgh", None, None, None, None, None]
    frame = pd.DataFrame({"short": short, "long": long, "n": range(6), "mixed": ["a" * 99, *range(5)]})
    frame["label"] = pd.Categorical(["a long name of a category"] * 6)
    assert longest_text_column(frame) == "label"
    assert longest_text_column(frame, exclude=["label"]) == "short"
    assert longest_text_column(frame, exclude=["label"], average=True) == "long"
    assert longest_text_column(frame[["n", "mixed"]]) is None
    assert longest_text_column(pd.DataFrame({"empty": ["", ""]})) is None
    assert longest_text_column(pd.DataFrame()) is None
    assert text_columns(frame) == ["short", "long", "mixed"]
    assert text_columns(frame, exclude=["short"]) == ["long", "mixed"]


def test_a_column_by_its_name() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "b"])
    assert column_of(frame, "a").tolist() == [1]
    with pytest.raises(InputError, match=r"no column 'c'\. The columns are: 'a', 'b', 'b'\. Embed it first\."):
        column_of(frame, "c", hint=" Embed it first.")
    with pytest.raises(InputError, match="'b' must be unique, got 2 columns"):
        column_of(frame, "b")
    with pytest.raises(InputError, match=r"must be one name, got \['a'\]"):
        column_of(frame, ["a"])


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_texts_on_demand_are_those_of_the_column(kind: pa.DataType) -> None:
    """Of every type that Arrow has for texts, in one part and in two."""
    rows = ["a", " ", "b", "a", "\u00fc", "\u200b"] * 3
    if kind != pa.string_view():  # of which pandas cannot leave out missing cells
        rows[4] = None  # type: ignore[call-overload]
    whole: pd.Series[Any] = pd.Series(pd.array(pa.array(rows, type=kind), dtype=pd.ArrowDtype(kind)))
    for column in (whole, pd.concat([whole[:7], whole[7:]], ignore_index=True)):
        expected, picked = texts_of(column), np.array([9, 3, 0, 8, 1, 4])
        texts = texts_on_demand(column)
        assert texts[:].tolist() == expected.tolist()
        assert texts[5:9].tolist() == expected[5:9].tolist()
        assert texts[picked].tolist() == expected[picked].tolist()


def test_texts_on_demand_of_what_is_no_text() -> None:
    column = pd.Series(pd.array([1, None], dtype=pd.ArrowDtype(pa.int64())), name="n")
    with pytest.raises(InputError, match="'n' must hold text, got int64"):
        texts_on_demand(column)
