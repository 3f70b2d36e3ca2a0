"""A pandas column of vectors: how one is made from a matrix, and how it becomes a matrix again.

Two kinds of column exist. ``"numpy"`` (the default) is an object column whose cells are float32 views of one matrix:
some hundred bytes a row beside the matrix, pandas operations work, and plain ``to_parquet`` and ``read_parquet``
bring it back. ``"arrow"`` is a ``fixed_size_list<float>[d]`` column: Dask and other Arrow software take it as it is,
but it has to be read with ``read_parquet(..., dtype_backend="pyarrow")``: pandas raises without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skytells_nb.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["from_matrix", "to_arrow", "to_matrix"]

# A view keeps all of its base alive: below this share of the base, a copy is the cheaper thing to hold.
KEEP_BASE_SHARE = 0.25
LABELS_NAMED = 3


def __dir__() -> list[str]:
    return __all__


def from_matrix(
    matrix: ArrayLike,
    *,
    index: Any = None,
    valid: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    dtype: Literal["numpy", "arrow"] = "numpy",
    name: Any = None,
) -> pd.Series[Any]:
    """Make a column of vectors from the rows of a matrix.

    Without ``valid`` and ``rows`` the column has one cell for each row. Cells of the numpy kind are read-only, because
    several may share memory.

    Parameters
    ----------
    matrix : array_like of shape (k, d)
        The vectors; kept as float32.
    index : pandas.Index or sequence, optional
        Labels of the n cells; by default 0 to n - 1.
    valid : array_like of bool, shape (n,), optional
        True k times: these cells get the rows in order, the others are missing.
    rows : array_like of int, shape (n,), optional
        For each cell the row it shows, -1 for a missing cell, so that equal texts share one vector.
    dtype : {"numpy", "arrow"}, default "numpy"
        An object column whose cells are views of the matrix, or a ``fixed_size_list<float>[d]`` column.
    name : hashable, optional
        Name of the column.

    Returns
    -------
    pandas.Series
        The column, of length n.

    Raises
    ------
    InputError
        If the shapes do not match.
    MissingExtraError
        If ``dtype="arrow"`` and pyarrow is not installed.

    Examples
    --------
    >>> from_matrix([[1, 0], [0, 1]], rows=[1, -1, 1]).tolist()
    [array([0., 1.], dtype=float32), None, array([0., 1.], dtype=float32)]
    """
    vectors = np.asarray(matrix, dtype=np.float32)
    if vectors.ndim != 2:
        raise InputError(
            f"A column of vectors is made from a matrix (rows, dimensions), not from shape {vectors.shape}."
        )
    vectors = np.ascontiguousarray(vectors)
    places = _places(len(vectors), valid, rows)
    if index is not None and len(index) != len(places):
        raise InputError(f"The index has {len(index)} labels for {len(places)} cells.")
    vectors, places = _used_rows(vectors, places)
    if dtype == "arrow":
        _pyarrow()
        return pd.Series(pd.arrays.ArrowExtensionArray(_fixed_size_list(vectors, places)), index=index, name=name)
    if dtype != "numpy":
        raise InputError(f'dtype is "numpy" or "arrow", not {dtype!r}.')
    vectors = vectors.view()
    vectors.flags.writeable = False
    views = np.fromiter(vectors, dtype=object, count=len(vectors))
    cells = np.full(len(places), None, dtype=object)
    shown = places >= 0
    cells[shown] = views[places[shown]]
    return pd.Series(cells, index=index, name=name, dtype=object)


def to_matrix(series: pd.Series[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of a column as one matrix, and which rows have one.

    If the cells already lie one after the other in one matrix, that matrix is returned without a copy: write to it only
    after ``.copy()``.

    Parameters
    ----------
    series : pandas.Series of length n
        Cells that are arrays or lists of numbers or missing, or an Arrow list column of any kind.

    Returns
    -------
    matrix : numpy.ndarray of float32, shape (n_valid, d)
        The vectors. Without any the shape is (0, 0), or (0, d) if the column's type has a length.
    valid : numpy.ndarray of bool, shape (n,)
        Which rows have a vector.

    Raises
    ------
    InputError
        If cells are not vectors of finite numbers of one length; the message has the first row labels.

    Examples
    --------
    >>> matrix, valid = to_matrix(pd.Series([[1.0, 2.0], None, [3.0, 4.0]]))
    >>> matrix.shape, valid.tolist()
    ((2, 2), [True, False, True])
    """
    if not isinstance(series, pd.Series):
        raise InputError(f"A column of vectors is a pandas Series; this is {_kind(series)}.")
    valid: NDArray[np.bool_] = np.asarray(series.notna(), dtype=np.bool_)
    if isinstance(series.dtype, pd.ArrowDtype):
        matrix = _matrix_of_arrow(series, valid)
    elif series.dtype == object or not valid.any():
        matrix = _matrix_of_objects(series, valid)
    else:
        raise _not_vectors(series, series.index[valid][:1], _kind(series[valid].iloc[0]))
    _refuse_nonfinite(series, matrix, valid)
    return matrix, valid


def to_arrow(series: pd.Series[Any]) -> pa.FixedSizeListArray:
    """Return a column of vectors as an Arrow array, for Parquet and other software.

    Parameters
    ----------
    series : pandas.Series of length n
        As in ``to_matrix``.

    Returns
    -------
    pyarrow.FixedSizeListArray
        Of type ``fixed_size_list<float>[d]`` and length n, with the same missing cells.

    Raises
    ------
    InputError
        As in ``to_matrix``.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> to_arrow(pd.Series([[1.0, 2.0], None])).type
    FixedSizeListType(fixed_size_list<item: float>[2])
    """
    _pyarrow()
    matrix, valid = to_matrix(series)
    places = np.full(len(valid), -1, dtype=np.intp)
    places[valid] = np.arange(len(matrix))
    return _fixed_size_list(matrix, places)


def _places(k: int, valid: ArrayLike | None, rows: ArrayLike | None) -> NDArray[np.intp]:
    """For each cell the row of the matrix it shows, -1 for null."""
    if valid is not None and rows is not None:
        raise InputError("Pass valid= or rows=, not both.")
    if rows is not None:
        places = np.asarray(rows)
        if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
            raise InputError("rows= takes one integer for each cell.")
        if places.size and (places.min() < -1 or places.max() >= k):
            raise InputError(f"rows= points outside the matrix, which has {k} rows: {places.min()} to {places.max()}.")
        return places.astype(np.intp, copy=False)
    if valid is None:
        return np.arange(k)
    mask = np.asarray(valid, dtype=np.bool_)
    if mask.ndim != 1 or int(mask.sum()) != k:
        raise InputError(f"valid= is true {int(mask.sum())} times, and the matrix has {k} rows.")
    return np.where(mask, np.cumsum(mask) - 1, -1).astype(np.intp)


def _used_rows(vectors: NDArray[np.float32], places: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The same cells over a small copy, where they show only a small part of the memory the matrix keeps alive."""
    used = np.zeros(len(vectors), dtype=np.bool_)
    used[places[places >= 0]] = True
    shown = np.flatnonzero(used)
    base = vectors.base
    held = max(vectors.nbytes, base.nbytes if isinstance(base, np.ndarray) else 0)
    if shown.size * vectors.shape[1] * vectors.itemsize >= KEEP_BASE_SHARE * held:
        return vectors, places
    return vectors[shown], np.where(places >= 0, np.searchsorted(shown, places), -1).astype(np.intp)


def _fixed_size_list(vectors: NDArray[np.float32], places: NDArray[np.intp]) -> pa.FixedSizeListArray:
    pa = _pyarrow()
    d = vectors.shape[1]
    if d == 0:
        return pa.nulls(len(places), pa.list_(pa.float32(), 0))
    null = places < 0
    if len(places) == len(vectors) and np.array_equal(places, np.arange(len(vectors))):
        flat = vectors.reshape(-1)
    elif len(vectors):
        flat = vectors[np.maximum(places, 0)].reshape(-1)
    else:
        flat = np.zeros(len(places) * d, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), d, mask=pa.array(null) if null.any() else None)


def _matrix_of_arrow(series: pd.Series[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    pa = _pyarrow()
    column = pa.chunked_array(series.array.__arrow_array__())
    kind = getattr(column.type, "storage_type", column.type)
    number = getattr(kind, "value_type", None)
    if not valid.any():
        return np.empty((0, getattr(kind, "list_size", 0)), dtype=np.float32)
    if number is None or not (pa.types.is_floating(number) or pa.types.is_integer(number)):
        raise _not_vectors(series, series.index[valid][:1], f"cells of type {column.type}")
    parts: list[NDArray[np.float32]] = []
    lengths: list[NDArray[np.int64]] = []
    for chunk in column.chunks:
        lists = getattr(chunk, "storage", chunk)
        if pa.types.is_fixed_size_list(lists.type):
            lengths.append(np.full(len(lists) - lists.null_count, lists.type.list_size, dtype=np.int64))
        else:
            lengths.append(lists.value_lengths().drop_null().to_numpy().astype(np.int64))
        # A missing number becomes NaN here and is reported with the others.
        # And flatten() leaves out what lies under a null cell, where .values would show filler bytes.
        parts.append(_float32(lists.flatten().to_numpy(zero_copy_only=False)))
    d = _same_length(series, valid, np.concatenate(lengths))
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return flat.reshape(-1, d)


def _matrix_of_objects(series: pd.Series[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    cells = series.to_numpy()[valid].tolist()
    if not cells:
        return np.empty((0, 0), dtype=np.float32)
    whole = _one_matrix(cells)
    if whole is not None:
        return whole
    try:
        lengths = np.fromiter(map(len, cells), dtype=np.int64, count=len(cells))
        flat = np.concatenate(cells)
    except (TypeError, ValueError, OverflowError):
        raise _first_odd_cell(series, valid, cells) from None
    if flat.ndim != 1 or flat.dtype.kind not in "fiu":
        raise _first_odd_cell(series, valid, cells)
    d = _same_length(series, valid, lengths)
    return _float32(flat).reshape(len(cells), d)


def _one_matrix(cells: list[Any]) -> NDArray[np.float32] | None:
    """The part of one matrix that the cells are views of, when they are its neighbouring rows in order."""
    first, last = cells[0], cells[-1]
    if not isinstance(first, np.ndarray) or not isinstance(last, np.ndarray) or last.base is not first.base:
        return None
    if not isinstance(first.base, np.ndarray):
        return None
    base: NDArray[Any] = first.base
    if first.ndim != 1 or first.dtype != np.float32 or base.dtype != np.float32 or not base.flags.c_contiguous:
        return None
    size, nbytes, start = first.size, first.nbytes, _address(first)
    # The last cell answers for most shuffled columns, before every cell is looked at.
    if size == 0 or _address(last) != start + (len(cells) - 1) * nbytes:
        return None
    for at, cell in enumerate(cells):
        if getattr(cell, "base", None) is not base or cell.shape != (size,) or cell.strides != (4,):
            return None
        if cell.dtype != np.float32 or _address(cell) != start + at * nbytes:
            return None
    offset = (start - _address(base)) // base.itemsize
    part: NDArray[np.float32] = base.reshape(-1)[offset : offset + len(cells) * size].reshape(len(cells), size)
    return part.copy() if part.nbytes < KEEP_BASE_SHARE * base.nbytes else part


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _float32(flat: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(flat, dtype=np.float32)


def _same_length(series: pd.Series[Any], valid: NDArray[np.bool_], lengths: NDArray[np.int64]) -> int:
    """The one length of all vectors."""
    found, counts = np.unique(lengths, return_counts=True)
    usual = int(found[counts.argmax()])
    if len(found) > 1:
        odd = lengths != usual
        labels = _labels(series.index[valid][odd])
        others = ", ".join(str(n) for n in found if n != usual)[:60]
        raise InputError(
            f"{_name(series)} mixes vectors of different lengths: {usual} numbers in {_rows(counts.max())}, but "
            f"{others} in {_rows(odd.sum())} ({labels}). Embed the column again with one model and one dimensions=."
        )
    if usual == 0:
        raise _not_vectors(series, series.index[valid], "empty vectors")
    return usual


def _refuse_nonfinite(series: pd.Series[Any], matrix: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    if not matrix.size:
        return
    # A row sum is finite only if its numbers are: one pass, no n x d mask. A sum that overflows is looked at twice.
    with np.errstate(all="ignore"):
        suspect = np.flatnonzero(~np.isfinite(matrix @ np.ones(matrix.shape[1], dtype=np.float32)))
    bad = suspect[~np.isfinite(matrix[suspect]).all(axis=1)]
    if bad.size:
        labels = _labels(series.index[valid][bad])
        raise InputError(
            f"{_name(series)} holds NaN or infinite numbers in {_rows(bad.size)} ({labels}). "
            "Set these cells to None, or embed them again."
        )


def _first_odd_cell(series: pd.Series[Any], valid: NDArray[np.bool_], cells: list[Any]) -> InputError:
    """The error for the cells that are not flat vectors of numbers."""
    odd = np.fromiter((not _is_vector(cell) for cell in cells), dtype=np.bool_, count=len(cells))
    found = cells[int(odd.argmax())] if odd.any() else cells[0]
    return _not_vectors(series, series.index[valid][odd], _kind(found))


def _is_vector(cell: Any) -> bool:
    if isinstance(cell, str | bytes | dict | set):
        return False
    try:
        array = np.asarray(cell)
    except (TypeError, ValueError, OverflowError):
        return False
    return array.ndim == 1 and array.dtype.kind in "fiu"


def _kind(found: Any) -> str:
    if isinstance(found, str):
        hint = " (a CSV turns vectors into text: keep them in Parquet)" if found.lstrip().startswith("[") else ""
        return f"the text {found[:40]!r}{hint}"
    if isinstance(found, list | tuple):
        return f"the {type(found).__name__} {repr(found[:8])[:60]}"
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape} and type {found.dtype}"
    return f"a {type(found).__name__}"


def _not_vectors(series: pd.Series[Any], labels: Iterable[Any], found: str) -> InputError:
    return InputError(
        f"{_name(series)} is not a column of vectors: found {found} at {_labels(labels)}. "
        "Pass a column made by .skytells.embed(), or cells that are arrays or lists of numbers."
    )


def _name(series: pd.Series[Any]) -> str:
    return "The column" if series.name is None else f"Column {series.name!r}"


def _rows(n: Any) -> str:
    return f"{int(n):,} row{'' if n == 1 else 's'}"


def _labels(labels: Iterable[Any]) -> str:
    every = list(labels)
    named = ", ".join(repr(label)[:40] for label in every[:LABELS_NAMED])
    return f"row{'s' if len(every) > 1 else ''} {named}" + (", …" if len(every) > LABELS_NAMED else "")


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("An Arrow column", "arrow") from None
    return pyarrow
