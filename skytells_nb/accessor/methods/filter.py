"""``filter``: the rows for which the answer to a question is yes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC, PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall, attach_report
from skytells_nb.accessor.options import ModelOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import InputError
from skytells_nb.progress import ProgressCallback

YES_OR_NO = {
    "title": "decision",
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


class Filter(PromptMethods):
    """The ``filter`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
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
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Return the rows for which the answer to a question is yes.

        Parameters
        ----------
        column : hashable or str
            Name of a column of texts, or a template such as ``"{title}: {body}"``.
        question : str
            A question about each text that has the answer yes or no.
        keep : {"rows", "column"}, default "rows"
            ``"column"`` keeps all rows and adds the answers as a boolean column.
        into : hashable, default "matches"
            Name of that column, and prefix of the columns that ``details`` adds.

        Returns
        -------
        pandas.DataFrame
            The matching rows in order. A row without an answer (missing, failed, withheld by ``safety``) is not among
            them; the report counts such rows, and its errors name positions of the frame that the method was called on.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["The parcel never came.", None]})
        >>> df.skytells.filter("text", "Is it a complaint?", keep="column", progress=False)["matches"].isna().tolist()
        [False, True]
        """
        check_options(options, self.filter)
        parameters = model_parameters(options, params, DETERMINISTIC)
        asked = non_empty_text("question", question)
        if keep not in ("rows", "column"):
            raise InputError(f"keep must be 'rows' or 'column', got {keep!r}.")
        texts = self._prompts(column)
        self._check_into(into, column)
        self._check_details(into, details)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        system = f"Answer the question about the user's text with yes or no. The question is: {asked}"
        new, answers = self._ask(
            TextPrompt("filter", system, YES_OR_NO, parameters, model, rows_per_request),
            texts,
            into,
            call,
            safety,
            lambda answers: {into: _decisions(answers)},
            details=details,
        )
        if keep == "column":
            return self._finish(into, new, answers, details)
        matches = new.pop(into).fillna(False).to_numpy(dtype=bool)
        result = self._finish(into, new, answers, details)[matches]
        completions = {into: [answers.rows[row] for row in np.flatnonzero(matches)]}
        attach_report(result, answers.report, completions, rows=lambda: self._frame)
        return result


def _decisions(answers: CompletionColumns) -> pd.Series[Any]:
    values = [None if fields is None else fields["answer"] == "yes" for fields in answers.column]
    return pd.Series(values, index=answers.column.index, dtype="boolean")
