"""``filter``: the rows for which the answer to a question is yes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import RunOptions, VectorizedCall, attach_report, check_options
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback
from skytells_nb.errors import InputError

YES_OR_NO = {
    "title": "decision",
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


class Filter(PromptMethods):
    """Rows by a question in plain words."""

    def filter(
        self,
        column: Any,
        question: str,
        *,
        keep: Literal["rows", "column"] = "rows",
        into: Any = "matches",
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The rows for which the answer to ``question`` is yes, in order.

        ``column`` is a column of texts, or a template such as ``"{title}: {body}"``. A row without an answer (null,
        failed, withheld by ``safety``) is not kept; the report counts them and its errors name positions of the frame
        that was asked. ``keep="column"`` keeps all rows and adds the answers as a boolean column ``into``, null where
        there is none. ``details`` adds columns named after ``into``, with ``keep="rows"`` too; the other keywords are
        those of ``complete``.

        >>> df = pd.DataFrame({"text": ["The parcel never came.", None]})
        >>> df.skytells.filter("text", "Is it a complaint?", keep="column", progress=False)["matches"].isna().tolist()
        [False, True]
        """
        check_options(options)
        asked = non_empty_text("question", question)
        if keep not in ("rows", "column"):
            raise InputError(f"keep is 'rows' or 'column'; found {keep!r}.")
        texts = self._prompts(column)
        self._check_into(into, column)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        system = f"Answer the question about the user's text with yes or no. The question is: {asked}"
        made, answers = self._ask(
            TextPrompt("filter", system, YES_OR_NO, params, model, rows_per_request),
            texts,
            into,
            call,
            safety,
            lambda answers: {into: _decisions(answers)},
        )
        if keep == "column":
            return self._finish(into, made, answers, details)
        kept = made.pop(into).fillna(False).to_numpy(dtype=bool)
        result = self._finish(into, made, answers, details)[kept]
        attach_report(result, answers.report, {into: [answers.rows[row] for row in np.flatnonzero(kept)]})
        return result


def _decisions(answers: CompletionColumns) -> pd.Series[Any]:
    values = [None if fields is None else fields["answer"] == "yes" for fields in answers.column]
    return pd.Series(values, index=answers.column.index, dtype="boolean")
