"""``extract``: fields of a schema from each text, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC, PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.options import RowOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.structured.columns import column_names
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.engine.engine import OnError
from skytells_nb.progress.events import ProgressCallback

EXTRACT = "Extract the fields from the user's text. Use only what the text says."


class Extract(PromptMethods):
    """The ``extract`` method."""

    @expand_options(RowOptions, defaults=DETERMINISTIC)
    def extract(
        self,
        column: Any,
        schema: Schema,
        *,
        prefix: str = "",
        into: Any = "extract",
        instructions: str | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        repair: int = DEFAULT_REPAIRS,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RowOptions],
    ) -> pd.DataFrame:
        """Add a typed column for each field of a schema, filled from the texts in ``column``.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        schema : type or mapping
            A pydantic model, dataclass, ``TypedDict`` or named tuple, a dict of types (``{"name": str, "legs": int |
            None}``), or a JSON schema of an object. A field that a text may lack is optional (``str | None``).
        prefix : str, default ""
            What the names of the new columns begin with, before the field's name.
        into : hashable, default "extract"
            Prefix of the columns that ``details`` adds, and the name that ``safety()`` takes.
        instructions : str, optional
            What to extract and how, in place of the default instructions.

        Returns
        -------
        pandas.DataFrame
            The frame with the new columns, whose dtypes are those of ``complete`` with ``flatten=True``; missing where
            the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> import pydantic
        >>> class Animal(pydantic.BaseModel):
        ...     name: str
        ...     legs: int | None
        >>> df = pd.DataFrame({"text": ["Rex is a dog with four legs."]})
        >>> df.skytells.extract("text", Animal, prefix="animal_", progress=False).columns.tolist()
        ['text', 'animal_name', 'animal_legs']
        """
        check_options(options, self.extract)
        parameters = model_parameters(options, params, DETERMINISTIC)
        names = column_names(schema, prefix)
        texts = self._texts(column)
        for name in names:
            self._check_into(name, column)
        self._check_details(into, details, *names)
        system = EXTRACT if instructions is None else non_empty_text("instructions", instructions)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        prompt = TextPrompt("extract", system, schema, parameters, model, rows_per_request, repair)
        new, answers = self._ask(
            prompt, texts, into, call, safety, lambda answers: answers.fields(prefix), details=details
        )
        return self._finish(into, new, answers, details)
