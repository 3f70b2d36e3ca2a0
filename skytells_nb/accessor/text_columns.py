"""Texts from pandas columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.columns import are_blank as are_blank
from skytells_nb.columns import column_of, text_columns
from skytells_nb.columns import is_missing as is_missing
from skytells_nb.columns import texts_of as texts_of
from skytells_nb.columns import texts_on_demand as texts_on_demand
from skytells_nb.errors import InputError

Texts: TypeAlias = NDArray[Any]
"""Object array (n,) of str, ``None`` for a missing value."""

STRING_DTYPE = "str" if int(pd.__version__.split(".")[0]) >= 3 else "string"
"""The dtype of text columns: pandas' own default since 3.0."""


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
