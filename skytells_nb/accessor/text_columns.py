"""Texts from pandas columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Texts: TypeAlias = NDArray[Any]
"""Object array (n,) of str, ``None`` for a missing value."""

STRING_DTYPE = "str" if int(pd.__version__.split(".")[0]) >= 3 else "string"
"""The dtype of text columns: pandas' own default since 3.0."""


def column_of(frame: pd.DataFrame, name: Any) -> pd.Series[Any]:
    """Return the column; raise InputError with the names of all columns if it does not exist."""
    if not isinstance(frame.columns, pd.MultiIndex) and isinstance(name, (list, set, dict)):
        raise InputError(f"The column must be one name, got {name!r}.")
    if name not in frame.columns:
        raise InputError(f"There is no column {name!r}. The columns are: {list_names(frame.columns)}.")
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


def texts_of(series: pd.Series[Any], *, name: Any = None) -> Texts:
    """Return the texts of a column of strings or of string categories; missing values become ``None``.

    Raises InputError for a column of anything else.
    """
    label = repr(name if name is not None else series.name)
    values: Texts = series.to_numpy(dtype=object)
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
        values[missing] = None
    return values


def is_missing(value: Any) -> bool:
    """Whether a cell is None, NA, NaT or NaN; unlike ``pd.isna``, False for lists and arrays."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def list_names(names: Sequence[Any] | pd.Index[Any], max_names: int = 12) -> str:
    """Return the names as an error message lists them."""
    shown = ", ".join(repr(name) for name in names[:max_names])
    return f"{shown}, and {len(names) - max_names} more" if len(names) > max_names else shown or "none"


def resolve_texts(frame: pd.DataFrame, name: Any, purpose: str, *, exclude: Collection[Any] = ()) -> Texts:
    """Return the texts of the named column, or of the only column of texts.

    Raises InputError naming the candidates if there are several or none.
    """
    if name is None:
        candidates = [other for other in frame.columns if other not in exclude and _has_texts(frame[other])]
        if len(candidates) != 1:
            listed = ", ".join(map(repr, candidates[:8])) or "none"
            raise InputError(f"{purpose} need a column of texts: name it with text=. Columns of texts: {listed}.")
        name = candidates[0]
    return texts_of(column_of(frame, name), name=name)


def _has_texts(column: pd.Series[Any] | pd.DataFrame) -> bool:
    if isinstance(column, pd.DataFrame) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    present = column.notna().to_numpy(dtype=bool)
    return bool(present.any()) and isinstance(column.iloc[int(present.argmax())], str)
