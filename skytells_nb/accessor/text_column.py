"""Which column of a frame holds the texts that belong to its vectors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from skytells_nb.accessor.texts import Texts, column_of, texts_of
from skytells_nb.errors import InputError


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
