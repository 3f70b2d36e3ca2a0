"""``extract``: fields of a schema from each text, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import RunOptions, VectorizedCall, check_options
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.structured.columns import column_names
from skytells_nb.accessor.structured.repair import REPAIRS
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback

EXTRACT = "Extract the fields from the user's text. Use only what the text says."


class Extract(PromptMethods):
    """Facts from texts."""

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
        repair: int = REPAIRS,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with a column for each field of ``schema``, filled from the texts in ``column``.

        ``schema`` is a pydantic model, or a JSON schema of an object; a field that a text may lack is optional
        (``str | None``). Columns are named ``prefix`` and the field's name, and have the dtypes that ``complete`` with
        ``flatten=True`` gives them. An answer that does not fit is asked for again, ``repair``
        times at most, then it is null and an error of its row. ``into`` names what ``details`` adds and what
        ``safety()`` asks for; the other keywords are those of ``complete``.

        >>> import pydantic
        >>> class Animal(pydantic.BaseModel):
        ...     name: str
        ...     legs: int | None
        >>> df = pd.DataFrame({"text": ["Rex is a dog with four legs."]})
        >>> df.skytells.extract("text", Animal, prefix="animal_", progress=False).columns.tolist()
        ['text', 'animal_name', 'animal_legs']
        """
        check_options(options)
        names = column_names(schema, prefix)
        texts = self._texts(column)
        for name in names:
            self._check_into(name, column)
        system = EXTRACT if instructions is None else non_empty_text("instructions", instructions)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)

        question = TextPrompt("extract", system, schema, params, model, rows_per_request, repair)
        made, answers = self._ask(question, texts, into, call, safety, lambda answers: answers.fields(prefix))
        return self._finish(into, made, answers, details)
