"""Prompt templates: ``{column}`` fields filled for each row."""

from __future__ import annotations

from string import Formatter

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import Texts
from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError


class Template:
    """A prompt with ``{column}`` fields; ``{{`` and ``}}`` are literal braces.

    A field is exactly the name of a column: no attributes, no indexes, no conversions, no format specifications, so
    that neither a template nor the data it is filled with can reach anything else.

    >>> Template("Translate {word}.").fill(pd.DataFrame({"word": ["chat", None]})).tolist()
    ['Translate chat.', None]
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise InputError(f"A template must be a string with {{column}} fields, got {type(template).__name__}.")
        self.template = template
        self._literals: list[str] = []
        self.fields: list[str] = []
        try:
            parts = list(Formatter().parse(template))
        except ValueError as problem:
            raise InputError(
                f"The template cannot be parsed: {problem}. Double literal braces: {{{{ and }}}}."
            ) from None
        literal = ""
        for text, field, spec, conversion in parts:
            literal += text
            if field is None:
                continue
            if spec or conversion:
                raise InputError(
                    f"The field {{{field}}} must be the name of a column, without a format or conversion. "
                    "Format the column first, or double literal braces."
                )
            self._literals.append(literal)
            self.fields.append(field)
            literal = ""
        self._literals.append(literal)

    def fill(self, frame: pd.DataFrame, *, constant: bool = False) -> Texts:
        """Return a text for each row, ``None`` if a value is missing; ``constant`` allows a template without fields."""
        self.check(frame, constant=constant)
        columns = []
        missing = np.zeros(len(frame), dtype=bool)
        for field in self.fields:
            column = column_of(frame, field)
            missing |= column.isna().to_numpy(dtype=bool)
            columns.append([v if isinstance(v, str) else str(v) for v in column.to_numpy(dtype=object)])
        first, *rest = self._literals
        texts = np.full(len(frame), first, dtype=object)
        for row, values in enumerate(zip(*columns, strict=True)):
            texts[row] = first + "".join([part for pair in zip(values, rest, strict=True) for part in pair])
        texts[missing] = None
        return texts

    def check(self, frame: pd.DataFrame, *, constant: bool = False) -> None:
        """Raise InputError if a field is not a column, or if there is no field and ``constant`` is False."""
        for field in self.fields:
            if field not in frame.columns:
                what = f"The template names {{{field}}}" if field else "The template has an empty field {}"
                raise InputError(
                    f"{what}, which is not a column. The columns are: {list_names(frame.columns)}. "
                    "Double literal braces: {{ and }}."
                )
        if not self.fields and not constant:
            hint = f" Did you mean '{{{self.template}}}'?" if self.template in frame.columns else ""
            raise InputError(f"The template must name a column: all rows would have the same prompt.{hint}")
