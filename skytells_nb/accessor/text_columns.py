"""Texts from pandas columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.columns import column_of, text_columns
from skytells_nb.errors import InputError

Texts: TypeAlias = NDArray[Any]
"""Object array (n,) of str, ``None`` for a missing value."""

STRING_DTYPE = "str" if int(pd.__version__.split(".")[0]) >= 3 else "string"
"""The dtype of text columns: pandas' own default since 3.0."""


def texts_of(series: pd.Series[Any], *, name: Any = None) -> Texts:
    """Return the texts of a column of strings or of string categories; missing and blank ones become ``None``.

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
        values[missing] = ""
    blank = are_blank(values)
    if blank.any():
        values = values.copy()
        values[blank] = None
    return values


def are_blank(texts: Iterable[str]) -> NDArray[np.bool_]:
    """Return which of these texts are empty or white space, bool (n,)."""
    texts = list(texts)
    # The interpreter's own loops: a row costs a fifth of what it does in a Python loop. Nearly always none is blank.
    if all(texts) and not any(map(str.isspace, texts)):
        return np.zeros(len(texts), dtype=np.bool_)
    return ~np.fromiter(map(bool, map(str.strip, texts)), dtype=np.bool_, count=len(texts))


def is_missing(value: Any) -> bool:
    """Whether a cell is None, NA, NaT or NaN; unlike ``pd.isna``, False for lists and arrays."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def resolve_texts(frame: pd.DataFrame, name: Any, purpose: str, *, exclude: Collection[Any] = ()) -> Texts:
    """Return the texts of the named column, or of the only column of texts.

    Raises InputError naming the candidates if there are several or none.
    """
    if name is None:
        candidates = text_columns(frame, exclude=exclude)
        if len(candidates) != 1:
            listed = ", ".join(map(repr, candidates[:8])) or "none"
            raise InputError(f"{purpose} need a column of texts: name it with text=. Columns of texts: {listed}.")
        name = candidates[0]
    return texts_of(column_of(frame, name), name=name)
