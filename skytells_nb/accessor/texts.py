"""From pandas columns to the texts that are sent."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any, TypeAlias

import numpy as np
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
        raise InputError(f"There is no column {name!r}. The columns are: {_listing(frame.columns)}.")
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


class Template:
    """A prompt with ``{column}`` fields; ``{{`` and ``}}`` are literal braces.

    A field is exactly the name of a column: no attributes, no indexes, no conversions, no format specifications, so
    that neither a template nor the data it is filled with can reach anything else.

    >>> Template("Translate {word}.").fill(pd.DataFrame({"word": ["chat", None]})).tolist()
    ['Translate chat.', None]
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise InputError(f"A template is a string with {{column}} fields, not {type(template).__name__}.")
        self.template = template
        self._literals: list[str] = []
        self.fields: list[str] = []
        try:
            parts = list(Formatter().parse(template))
        except ValueError as problem:
            raise InputError(
                f"The template cannot be read: {problem}. Write literal braces twice: {{{{ and }}}}."
            ) from None
        literal = ""
        for text, field, spec, conversion in parts:
            literal += text
            if field is None:
                continue
            if spec or conversion:
                raise InputError(
                    f"The field {{{field}}} has a format or conversion; only {{column}} is allowed. Format the column "
                    "before, or write literal braces twice."
                )
            self._literals.append(literal)
            self.fields.append(field)
            literal = ""
        self._literals.append(literal)

    def fill(self, frame: pd.DataFrame, *, constant: bool = False) -> Texts:
        """A text for each row, ``None`` where a field is null; ``constant`` lets it have no field."""
        self.check(frame, constant=constant)
        columns = []
        null = np.zeros(len(frame), dtype=bool)
        for field in self.fields:
            column = column_of(frame, field)
            null |= column.isna().to_numpy(dtype=bool)
            columns.append([v if isinstance(v, str) else str(v) for v in column.to_numpy(dtype=object)])
        first, *rest = self._literals
        texts = np.full(len(frame), first, dtype=object)
        for row, values in enumerate(zip(*columns, strict=True)):
            texts[row] = first + "".join([part for pair in zip(values, rest, strict=True) for part in pair])
        texts[null] = None
        return texts

    def check(self, frame: pd.DataFrame, *, constant: bool = False) -> None:
        """Raises InputError where a field is no column, or there is no field and it may not be ``constant``."""
        for field in self.fields:
            if field not in frame.columns:
                what = f"The template names {{{field}}}" if field else "The template has an empty field {}"
                raise InputError(
                    f"{what}, which is no column. The columns are: {_listing(frame.columns)}. "
                    "Write literal braces twice: {{ and }}."
                )
        if not self.fields and not constant:
            hint = f" Did you mean '{{{self.template}}}'?" if self.template in frame.columns else ""
            raise InputError(f"The template names no column, so every row would ask the same thing.{hint}")


def _listing(names: Sequence[Any] | pd.Index[Any], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown or "none"
