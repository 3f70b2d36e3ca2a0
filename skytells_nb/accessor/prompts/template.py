"""Prompt templates: ``{column}`` fields filled for each row."""

from __future__ import annotations

from string import Formatter

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import Texts, column_of, list_names
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
                    f"{what}, which is no column. The columns are: {list_names(frame.columns)}. "
                    "Write literal braces twice: {{ and }}."
                )
        if not self.fields and not constant:
            hint = f" Did you mean '{{{self.template}}}'?" if self.template in frame.columns else ""
            raise InputError(f"The template names no column, so every row would ask the same thing.{hint}")
