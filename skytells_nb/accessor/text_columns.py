"""From pandas columns to the texts that are sent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Texts: TypeAlias = NDArray[Any]
"""Object array (n,) of str, ``None`` for null."""

STRING_DTYPE = "str" if int(pd.__version__.split(".")[0]) >= 3 else "string"
"""The dtype of text columns: pandas' own default from 3.0 on."""


def column_of(frame: pd.DataFrame, name: Any) -> pd.Series[Any]:
    """The column, or an InputError that names the ones there are."""
    if not isinstance(frame.columns, pd.MultiIndex) and isinstance(name, (list, set, dict)):
        raise InputError(f"One column is expected, not {name!r}.")
    if name not in frame.columns:
        raise InputError(f"There is no column {name!r}. The columns are: {list_names(frame.columns)}.")
    column: pd.Series[Any] | pd.DataFrame = frame[name]
    if isinstance(column, pd.DataFrame):
        if frame.columns.nlevels > 1:
            raise InputError(
                f"{name!r} names a group of columns; name one in full, such as {(name, *column.columns[:1])}."
            )
        raise InputError(f"{name!r} names {column.shape[1]} columns; rename them so that one is meant.")
    return column


def texts_of(series: pd.Series[Any], *, name: Any = None) -> Texts:
    """The texts of a column of strings (or of categories that are strings); nulls of every kind become ``None``.

    Raises InputError for a column of anything else.
    """
    label = repr(name if name is not None else series.name)
    values: Texts = series.to_numpy(dtype=object)
    null = series.isna().to_numpy(dtype=bool)
    kind = pd.api.types.infer_dtype(values[~null], skipna=False)
    if kind not in ("string", "empty"):
        row, value = next(
            (i, v) for i, v, n in zip(series.index, values, null, strict=True) if not n and type(v) is not str
        )
        if series.dtype == object or isinstance(series.dtype, pd.CategoricalDtype):
            found = f"more than text: {type(value).__name__} at row {row!r}"
        else:
            found = f"{series.dtype}, not text"
        raise InputError(f"Column {label} holds {found}. Convert it first with .astype('string').")
    if null.any():
        values = values.copy()
        values[null] = None
    return values


def list_names(names: Sequence[Any] | pd.Index[Any], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown or "none"


def belonging_texts(frame: pd.DataFrame, named: Any, what_for: str, *, other_than: Collection[Any] = ()) -> Texts:
    """The texts of the named column, or of the only one that holds texts.

    Raises InputError, with what to pass, where there are several or none.
    """
    if named is None:
        found = [name for name in frame.columns if name not in other_than and _holds_texts(frame[name])]
        if len(found) != 1:
            listed = ", ".join(map(repr, found[:8])) or "none"
            raise InputError(f"{what_for} come from a column of texts: name it with text=. Columns of texts: {listed}.")
        named = found[0]
    return texts_of(column_of(frame, named), name=named)


def _holds_texts(column: pd.Series[Any] | pd.DataFrame) -> bool:
    if isinstance(column, pd.DataFrame) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    present = column.notna().to_numpy(dtype=bool)
    return bool(present.any()) and isinstance(column.iloc[int(present.argmax())], str)
