"""``filter``: the rows for which the answer to a question is yes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall, attach_report
from skytells_nb.accessor.methods.cascade import CascadeMethods, CascadeOptions, CascadeResult
from skytells_nb.accessor.options import RowOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import InputError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Indices

YES_OR_NO = {
    "title": "decision",
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


class Filter(CascadeMethods):
    """The ``filter`` method."""

    @expand_options(RowOptions, defaults=DETERMINISTIC)
    def filter(
        self,
        column: Any,
        question: str,
        *,
        keep: Literal["rows", "column"] = "rows",
        into: Any = "matches",
        agree: float | None = None,
        level: float = 0.9,
        embedding: Any = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RowOptions],
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
        agree : float, optional
            Makes it a cascade as in ``classify``: a softmax on embeddings answers for texts on which it agrees with the
            model in at least this share.
        level : float, default 0.9
            Confidence of that guarantee.
        embedding : hashable, optional
            Name of a column of embeddings for ``agree``, as in ``classify``.

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
        cascade = CascadeOptions.of(self._frame, agree, level, embedding)
        system = f"Answer the question about the user's text with yes or no. The question is: {asked}"
        prompt = TextPrompt("filter", system, YES_OR_NO, parameters, model, rows_per_request)

        def open_call() -> VectorizedCall:
            return VectorizedCall.open(on_error, progress, options, owner=self._frame)

        def columns(answers: CompletionColumns) -> dict[Any, pd.Series[Any]]:
            return {into: _decisions(answers)}

        if cascade is not None:
            new, labeled = self._cascade(
                prompt,
                texts,
                into,
                2,
                cascade,
                open_call,
                safety,
                columns,
                _codes,
                partial(_fill, into),
                details=details,
            )
            answers, details = labeled.answers, False  # the columns have them
        else:
            new, answers = self._ask(prompt, texts, into, open_call(), safety, columns, details=details)
        if keep == "column":
            return self._finish(into, new, answers, details)
        matches = new.pop(into).fillna(False).to_numpy(dtype=bool)
        result = self._finish(into, new, answers, details)[matches]
        completions = {into: [answers.rows[row] for row in np.flatnonzero(matches)]}
        attach_report(result, answers.report, completions, rows=lambda: self._frame)
        return result


def _codes(answers: CompletionColumns) -> Indices:
    """Return 1 for yes, 0 for no and -1 for no answer."""
    codes: Indices = _decisions(answers).astype("Int64").fillna(-1).to_numpy().astype(np.int64)
    return codes


def _fill(into: Any, result: CascadeResult, new: dict[Any, pd.Series[Any]]) -> dict[Any, pd.Series[Any]]:
    """Return the column with the decisions of the proxy in its rows."""
    column = new[into].copy()
    column.array[result.by_proxy] = result.labels[result.by_proxy] == 1
    return {**new, into: column}


def _decisions(answers: CompletionColumns) -> pd.Series[Any]:
    values = [None if fields is None else fields["answer"] == "yes" for fields in answers.column]
    return pd.Series(values, index=answers.column.index, dtype="boolean")
