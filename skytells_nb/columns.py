"""Columns of a frame: a column of vectors from a matrix and back; a column by its name; the column of texts.

Two kinds of columns of vectors exist. ``"numpy"`` (the default) is an object column whose cells are float32 views of
one matrix: a row takes some hundred bytes beside the matrix, pandas operations work, and plain ``to_parquet`` and
``read_parquet`` keep it. ``"arrow"`` is a ``fixed_size_list<float>[d]`` column: Dask and other Arrow software take it
as it is, but pandas reads it only with ``read_parquet(..., dtype_backend="pyarrow")`` and raises otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import compress, count, repeat
from operator import is_
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.formatting import BLANK, BLANK_BEGINNINGS, first_character
from skytells_nb.progress.events import StepCallback, no_step

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["from_matrix", "to_arrow", "to_matrix"]

# A view keeps its whole base alive: below this share of the base, a copy takes less memory.
MIN_BASE_SHARE = 0.25
CELLS_AT_ONCE = 10_000
MAX_LABELS_NAMED = 3
SAMPLE_CELLS = 50
"""First cells of a column that show what it holds."""


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
        raise InputError(f"matrix must have the shape (rows, dimensions), got the shape {vectors.shape}.")
    vectors = np.ascontiguousarray(vectors)
    positions = _row_positions(len(vectors), valid, rows)
    if index is not None and len(index) != len(positions):
        raise InputError(f"index must have one label per cell, got {len(index)} labels for {len(positions)} cells.")
    vectors, positions = _drop_unused_rows(vectors, positions)
    if dtype == "arrow":
        _pyarrow()
        return pd.Series(pd.arrays.ArrowExtensionArray(_fixed_size_list(vectors, positions)), index=index, name=name)
    if dtype != "numpy":
        raise InputError(f"dtype must be 'numpy' or 'arrow', got {dtype!r}.")
    vectors = vectors.view()
    vectors.flags.writeable = False
    views = np.fromiter(vectors, dtype=object, count=len(vectors))
    cells = np.full(len(positions), None, dtype=object)
    present = positions >= 0
    cells[present] = views[positions[present]]
    return pd.Series(cells, index=index, name=name, dtype=object)


def to_matrix(
    series: pd.Series[Any],
    *,
    nonfinite: Literal["raise", "missing"] = "raise",
    on_progress: StepCallback = no_step,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of a column as one matrix, and which rows have one.

    If the cells already lie one after the other in one matrix, that matrix is returned without a copy: write to it only
    after ``.copy()``.

    Parameters
    ----------
    series : pandas.Series of length n
        Cells that are arrays or lists of numbers or missing, or an Arrow list column of any kind.
    nonfinite : {"raise", "missing"}, default "raise"
        What a vector with NaN or an infinite number is: an error, or missing.
    on_progress : callable, optional
        Called with the number of vectors that are copied, and with that of all.

    Returns
    -------
    matrix : numpy.ndarray of float32, shape (n_valid, d)
        The vectors. Without any the shape is (0, 0), or (0, d) if the column's type has a length.
    valid : numpy.ndarray of bool, shape (n,)
        Which rows have a vector.

    Raises
    ------
    InputError
        If cells are not vectors of numbers of one length, or not finite; the message has the first row labels.

    Examples
    --------
    >>> matrix, valid = to_matrix(pd.Series([[1.0, 2.0], None, [3.0, 4.0]]))
    >>> matrix.shape, valid.tolist()
    ((2, 2), [True, False, True])
    """
    if not isinstance(series, pd.Series):
        raise InputError(f"series must be a pandas Series, got {_describe_cell(series)}.")
    valid: NDArray[np.bool_] = np.asarray(series.notna(), dtype=np.bool_)
    if isinstance(series.dtype, pd.ArrowDtype):
        matrix = _matrix_of_arrow(series, valid)
    elif series.dtype == object or not valid.any():
        matrix = _matrix_of_objects(series, valid, on_progress)
    else:
        raise _not_vectors_error(series, series.index[valid][:1], _describe_cell(series[valid].iloc[0]))
    broken = _nonfinite_rows(matrix)
    if broken.size and nonfinite == "raise":
        labels = _labels(series.index[valid][broken])
        raise InputError(
            f"{_name(series)} must hold finite numbers, got NaN or infinite numbers in {_rows(broken.size)} "
            f"({labels}). Set these cells to None, or embed them again."
        )
    if broken.size:
        valid = valid.copy()
        valid[np.flatnonzero(valid)[broken]] = False
        matrix = np.delete(matrix, broken, axis=0)
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
    positions = np.full(len(valid), -1, dtype=np.intp)
    positions[valid] = np.arange(len(matrix))
    return _fixed_size_list(matrix, positions)


def _row_positions(k: int, valid: ArrayLike | None, rows: ArrayLike | None) -> NDArray[np.intp]:
    """Return the row of the matrix of each cell, -1 for a missing one."""
    if valid is not None and rows is not None:
        raise InputError("Pass either valid= or rows=, not both.")
    if rows is not None:
        positions = np.asarray(rows)
        if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
            raise InputError("rows must have one integer for each cell.")
        if positions.size and (positions.min() < -1 or positions.max() >= k):
            raise InputError(
                f"rows must be from -1 to {k - 1}, the last row of the matrix, "
                f"got {positions.min()} to {positions.max()}."
            )
        return positions.astype(np.intp, copy=False)
    if valid is None:
        return np.arange(k)
    mask = np.asarray(valid, dtype=np.bool_)
    if mask.ndim != 1 or int(mask.sum()) != k:
        raise InputError(f"valid must be true {k} times, once for each row of the matrix, got {int(mask.sum())} times.")
    return np.where(mask, np.cumsum(mask) - 1, -1).astype(np.intp)


def _drop_unused_rows(
    vectors: NDArray[np.float32], positions: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Copy the used rows if they are a small part of the memory that the matrix keeps alive."""
    is_used = np.zeros(len(vectors), dtype=np.bool_)
    is_used[positions[positions >= 0]] = True
    used = np.flatnonzero(is_used)
    base = vectors.base
    kept_alive = max(vectors.nbytes, base.nbytes if isinstance(base, np.ndarray) else 0)
    if used.size * vectors.shape[1] * vectors.itemsize >= MIN_BASE_SHARE * kept_alive:
        return vectors, positions
    return vectors[used], np.where(positions >= 0, np.searchsorted(used, positions), -1).astype(np.intp)


def _fixed_size_list(vectors: NDArray[np.float32], positions: NDArray[np.intp]) -> pa.FixedSizeListArray:
    pa = _pyarrow()
    d = vectors.shape[1]
    if d == 0:
        return pa.nulls(len(positions), pa.list_(pa.float32(), 0))
    missing = positions < 0
    if len(positions) == len(vectors) and np.array_equal(positions, np.arange(len(vectors))):
        flat = vectors.reshape(-1)
    elif len(vectors):
        flat = vectors[np.maximum(positions, 0)].reshape(-1)
    else:
        flat = np.zeros(len(positions) * d, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), d, mask=pa.array(missing) if missing.any() else None)


def _matrix_of_arrow(series: pd.Series[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    pa = _pyarrow()
    column = pa.chunked_array(series.array.__arrow_array__())
    list_type = getattr(column.type, "storage_type", column.type)
    value_type = getattr(list_type, "value_type", None)
    if not valid.any():
        return np.empty((0, getattr(list_type, "list_size", 0)), dtype=np.float32)
    if value_type is None or not (pa.types.is_floating(value_type) or pa.types.is_integer(value_type)):
        raise _not_vectors_error(series, series.index[valid][:1], f"cells of type {column.type}")
    parts: list[NDArray[np.float32]] = []
    lengths: list[NDArray[np.int64]] = []
    for chunk in column.chunks:
        lists = getattr(chunk, "storage", chunk)
        if pa.types.is_fixed_size_list(lists.type):
            lengths.append(np.full(len(lists) - lists.null_count, lists.type.list_size, dtype=np.int64))
        else:
            lengths.append(lists.value_lengths().drop_null().to_numpy().astype(np.int64))
        # A missing number becomes NaN here and is reported with the others. flatten() skips null cells, whose .values
        # are arbitrary.
        parts.append(_float32(lists.flatten().to_numpy(zero_copy_only=False)))
    d = _same_length(series, valid, np.concatenate(lengths))
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return flat.reshape(-1, d)


def _matrix_of_objects(
    series: pd.Series[Any], valid: NDArray[np.bool_], on_progress: StepCallback
) -> NDArray[np.float32]:
    cells = series.to_numpy()[valid].tolist()
    if not cells:
        return np.empty((0, 0), dtype=np.float32)
    matrix = _view_of_cells(cells)
    if matrix is not None:
        return matrix
    try:
        lengths = np.fromiter(map(len, cells), dtype=np.int64, count=len(cells))
        flat, end = np.empty(int(lengths.sum()), dtype=np.float32), 0
        # Part by part: lists of numbers become float64 on the way, which takes twice the memory of the result.
        for start in range(0, len(cells), CELLS_AT_ONCE):
            part = np.concatenate(cells[start : start + CELLS_AT_ONCE])
            if part.ndim != 1 or part.dtype.kind not in "fiu":
                raise _invalid_cells_error(series, valid, cells)
            flat[end : end + len(part)] = _float32(part)
            end += len(part)
            on_progress(min(start + CELLS_AT_ONCE, len(cells)), len(cells))
    except (TypeError, ValueError, OverflowError):
        raise _invalid_cells_error(series, valid, cells) from None
    return flat.reshape(len(cells), _same_length(series, valid, lengths))


def _view_of_cells(cells: list[Any]) -> NDArray[np.float32] | None:
    """Return the matrix that the cells are views of, if they are its consecutive rows in order; else ``None``."""
    first, last = cells[0], cells[-1]
    if not isinstance(first, np.ndarray) or not isinstance(last, np.ndarray) or last.base is not first.base:
        return None
    if not isinstance(first.base, np.ndarray):
        return None
    base: NDArray[Any] = first.base
    if first.ndim != 1 or first.dtype != np.float32 or base.dtype != np.float32 or not base.flags.c_contiguous:
        return None
    size, nbytes, start = first.size, first.nbytes, _address(first)
    # The last cell rules out most shuffled columns before every cell is compared.
    if size == 0 or _address(last) != start + (len(cells) - 1) * nbytes:
        return None
    for position, cell in enumerate(cells):
        if getattr(cell, "base", None) is not base or cell.shape != (size,) or cell.strides != (4,):
            return None
        if cell.dtype != np.float32 or _address(cell) != start + position * nbytes:
            return None
    offset = (start - _address(base)) // base.itemsize
    part: NDArray[np.float32] = base.reshape(-1)[offset : offset + len(cells) * size].reshape(len(cells), size)
    return part.copy() if part.nbytes < MIN_BASE_SHARE * base.nbytes else part


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _float32(flat: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(flat, dtype=np.float32)


def _same_length(series: pd.Series[Any], valid: NDArray[np.bool_], lengths: NDArray[np.int64]) -> int:
    """Return the common length of all vectors."""
    distinct, counts = np.unique(lengths, return_counts=True)
    common = int(distinct[counts.argmax()])
    if len(distinct) > 1:
        differs = lengths != common
        labels = _labels(series.index[valid][differs])
        others = ", ".join(str(n) for n in distinct if n != common)[:60]
        raise InputError(
            f"{_name(series)} must have vectors of one length, got {common} numbers in {_rows(counts.max())}, but "
            f"{others} in {_rows(differs.sum())} ({labels}). Embed the column again with one model and one dimensions=."
        )
    if common == 0:
        raise _not_vectors_error(series, series.index[valid], "empty vectors")
    return common


def _nonfinite_rows(matrix: NDArray[np.float32]) -> NDArray[np.intp]:
    if not matrix.size:
        return np.empty(0, dtype=np.intp)
    # A row sum is finite only if its numbers are: one pass, no n x d mask. Rows whose sum overflows are checked again.
    with np.errstate(all="ignore"):
        suspect = np.flatnonzero(~np.isfinite(matrix @ np.ones(matrix.shape[1], dtype=np.float32)))
    return suspect[~np.isfinite(matrix[suspect]).all(axis=1)]


def _invalid_cells_error(series: pd.Series[Any], valid: NDArray[np.bool_], cells: list[Any]) -> InputError:
    """Return the error for the cells that are not flat vectors of numbers."""
    invalid = np.fromiter((not _is_vector(cell) for cell in cells), dtype=np.bool_, count=len(cells))
    example = cells[int(invalid.argmax())] if invalid.any() else cells[0]
    return _not_vectors_error(series, series.index[valid][invalid], _describe_cell(example))


def _is_vector(cell: Any) -> bool:
    if isinstance(cell, str | bytes | dict | set):
        return False
    try:
        array = np.asarray(cell)
    except (TypeError, ValueError, OverflowError):
        return False
    return array.ndim == 1 and array.dtype.kind in "fiu"


def _describe_cell(cell: Any) -> str:
    if isinstance(cell, str):
        hint = ""
        if cell.lstrip().startswith("["):
            hint = " (CSV stores vectors as text: .map(json.loads) reads it where it is JSON; use Parquet)"
        return f"the text {cell[:40]!r}{hint}"
    if isinstance(cell, list | tuple):
        return f"the {type(cell).__name__} {repr(cell[:8])[:60]}"
    if isinstance(cell, np.ndarray):
        return f"an array of shape {cell.shape} and type {cell.dtype}"
    return f"a {type(cell).__name__}"


def _not_vectors_error(series: pd.Series[Any], labels: Iterable[Any], found: str) -> InputError:
    return InputError(
        f"{_name(series)} must be a column of vectors, got {found} at {_labels(labels)}. "
        "Pass a column made by .skytells.embed(), or cells that are arrays or lists of numbers."
    )


def _name(series: pd.Series[Any]) -> str:
    return "The column" if series.name is None else f"Column {series.name!r}"


def _rows(n: Any) -> str:
    return f"{int(n):,} row{'' if n == 1 else 's'}"


def _labels(labels: Iterable[Any]) -> str:
    all_labels = list(labels)
    named = ", ".join(repr(label)[:40] for label in all_labels[:MAX_LABELS_NAMED])
    return f"row{'s' if len(all_labels) > 1 else ''} {named}" + (", …" if len(all_labels) > MAX_LABELS_NAMED else "")


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("An Arrow column", "arrow") from None
    return pyarrow


def column_of(frame: pd.DataFrame, name: Any, *, hint: str = "") -> pd.Series[Any]:
    """Return the one column of this name.

    Raise InputError with the names of all columns, and the hint, if it does not exist.
    """
    if not isinstance(frame.columns, pd.MultiIndex) and isinstance(name, (list, set, dict)):
        raise InputError(f"The column must be one name, got {name!r}.")
    if name not in frame.columns:
        raise InputError(f"There is no column {name!r}. The columns are: {list_names(frame.columns)}.{hint}")
    column: pd.Series[Any] | pd.DataFrame = frame[name]
    if isinstance(column, pd.DataFrame):
        if frame.columns.nlevels > 1:
            example = (name, *column.columns[:1])
            raise InputError(
                f"The column must be one name, got the group {name!r}; name one in full, such as {example}."
            )
        raise InputError(
            f"The column name {name!r} must be unique, got {column.shape[1]} columns of that name; rename them."
        )
    return column


def list_names(names: Sequence[Any] | pd.Index[Any], max_names: int = 12) -> str:
    """Return the names as an error message lists them."""
    shown = ", ".join(repr(name) for name in names[:max_names])
    return f"{shown}, and {len(names) - max_names} more" if len(names) > max_names else shown or "none"


def texts_of(series: pd.Series[Any], *, name: Any = None) -> NDArray[Any]:
    """Return the texts (n,) of a column of strings or of string categories; missing and blank ones become ``None``.

    Raises InputError for a column of anything else.
    """
    label = repr(name if name is not None else series.name)
    values: NDArray[Any] = series.to_numpy(dtype=object)
    missing = series.isna().to_numpy(dtype=bool)
    kind = pd.api.types.infer_dtype(values[~missing], skipna=False)
    if kind not in ("string", "empty"):
        row, value = next(
            (i, v) for i, v, n in zip(series.index, values, missing, strict=True) if not n and type(v) is not str
        )
        if series.dtype == object or isinstance(series.dtype, pd.CategoricalDtype):
            found = f"{type(value).__name__} at row {row!r}"
        else:
            found = str(series.dtype)
        raise InputError(f"Column {label} must hold text, got {found}. Convert it first with .astype('string').")
    if missing.any():
        values = values.copy()
        values[missing] = ""
    blank = are_blank(values)
    if blank.any():
        values = values.copy()
        values[blank] = None
    return values


def texts_on_demand(series: pd.Series[Any], *, name: Any = None) -> NDArray[Any] | TextColumn:
    """Return what ``texts_of`` returns; for a column in Arrow, whose texts are not objects yet, as a ``TextColumn``."""
    # Arrow cannot take rows of views.
    is_arrow = getattr(series.dtype, "storage", None) == "pyarrow" and "view" not in str(series.dtype)
    return TextColumn(series, name) if is_arrow else texts_of(series, name=name)


class TextColumn:
    """The texts of a column in Arrow, missing and blank ones ``None``, made when they are asked for.

    As objects a text takes 50 bytes beside its own. Raises InputError for a column of anything else.

    >>> texts = TextColumn(pd.Series(["a", " ", "b"], dtype="string[pyarrow]"), "text")
    >>> len(texts), texts[1:].tolist(), texts[np.array([2, 0])].tolist()
    (3, [None, 'b'], ['b', 'a'])
    """

    def __init__(self, series: pd.Series[Any], name: Any) -> None:
        self._series = series
        self._missing = np.empty(len(series), dtype=np.bool_)
        for start in range(0, len(series), CELLS_AT_ONCE):
            texts = texts_of(series.iloc[start : start + CELLS_AT_ONCE], name=name)
            are_missing = map(is_, texts, repeat(None))
            self._missing[start : start + len(texts)] = np.fromiter(are_missing, dtype=np.bool_, count=len(texts))
        data = series.array.__arrow_array__()
        # Each by itself: to take rows of all of them, Arrow would copy all of them into one.
        self._chunks: list[Any] = getattr(data, "chunks", [data])
        self._starts = np.cumsum([0, *map(len, self._chunks)])

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return the texts of these rows, in an object array."""
        if isinstance(rows, slice):
            texts = self._series.iloc[rows].to_numpy(dtype=object)
        else:
            texts = np.empty(len(rows), dtype=object)
            chunks = np.searchsorted(self._starts, rows, side="right") - 1
            for number in np.unique(chunks).tolist():
                places = np.flatnonzero(chunks == number)
                found = self._chunks[number].take(rows[places] - self._starts[number])
                texts[places] = found.to_numpy(zero_copy_only=False)
        texts[self._missing[rows]] = None
        return texts


def blank_texts(texts: Sequence[str]) -> list[int]:
    """Return the numbers of the texts in which there is nothing to see.

    >>> blank_texts([" \\n", "a", "", "\\0\\x1b", "\\u200b\\ufeff"])
    [0, 2, 3, 4]
    """
    # The interpreter's own loops: few texts are left for the last one, which is slow.
    begins_blank = map(BLANK_BEGINNINGS.__contains__, map(first_character, map(str.lstrip, texts)))
    return [number for number in compress(count(), begins_blank) if not texts[number].strip(BLANK)]


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in a text."""
    return text.lstrip()[:1] in BLANK_BEGINNINGS and not text.strip(BLANK)


def are_blank(texts: Iterable[str]) -> NDArray[np.bool_]:
    """Return in which of these texts there is nothing to see, bool (n,)."""
    texts = list(texts)
    blank = np.zeros(len(texts), dtype=np.bool_)
    blank[blank_texts(texts)] = True
    return blank


def is_missing(value: Any) -> bool:
    """Whether a cell is None, NA, NaT or NaN; unlike ``pd.isna``, False for lists and arrays."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def text_columns(frame: pd.DataFrame, *, exclude: Collection[Any] = ()) -> list[Any]:
    """Return the names of the columns of texts, by the first value of each; categories are labels and not texts."""
    return [name for name in frame.columns if name not in exclude and _starts_with_text(frame[name])]


def longest_text_column(frame: pd.DataFrame, *, exclude: Collection[Any] = (), average: bool = False) -> Any:
    """Return the name of the column with the longest texts, by its first cells; None if no column has texts.

    ``average=True`` compares the mean length of a text, which missing values do not lower, in place of the sum.
    """
    lengths: dict[Any, float] = {}
    for name in frame.columns:
        column: Any = frame[name]
        if name in exclude or not isinstance(column, pd.Series) or pd.api.types.is_numeric_dtype(column.dtype):
            continue
        texts = column.head(SAMPLE_CELLS).dropna().tolist()
        if texts and all(isinstance(text, str) for text in texts):
            characters = sum(map(len, texts))
            lengths[name] = characters / len(texts) if average else characters
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return longest if average or (longest is not None and lengths[longest]) else None


def _starts_with_text(column: pd.Series[Any] | pd.DataFrame) -> bool:
    if isinstance(column, pd.DataFrame) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    present = column.notna().to_numpy(dtype=bool)
    return bool(present.any()) and isinstance(column.iloc[int(present.argmax())], str)
