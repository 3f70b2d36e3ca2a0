"""``score``: a whole number for how much a criterion holds of each text."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, Unpack

import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC, PromptMethods, TextPrompt, non_empty_text
from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.options import ModelOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import InputError
from skytells_nb.progress.events import ProgressCallback

MOST_LISTED = 21
"""Scores that are listed in the schema; more are an interval."""


class Score(PromptMethods):
    """The ``score`` method."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
    def score(
        self,
        column: Any,
        criterion: str,
        low: int = 1,
        high: int = 5,
        *,
        into: Any = "score",
        meanings: Mapping[int, str] | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Add a column of whole numbers: how much a criterion holds of each text.

        A score is for each text alone. Models give many texts the same one; to find the best of them, ``rank`` compares
        them with each other.

        Parameters
        ----------
        column : hashable or str
            Name of a column of texts, or a template such as ``"{title}: {body}"``.
        criterion : str
            What is scored, in plain words, such as ``"how urgent it is"``.
        low : int, default 1
            The least score.
        high : int, default 5
            The highest score.
        into : hashable, default "score"
            Name of the new column.
        meanings : mapping of int to str, optional
            What some of the scores mean, such as ``{1: "can wait", 5: "today"}``.

        Returns
        -------
        pandas.DataFrame
            The frame with an Int64 column of scores; missing where the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        See Also
        --------
        rank : The best rows, by comparing texts with each other.
        mean : The mean of the scores, corrected by judged rows.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["The house is on fire!", None]})
        >>> scored = df.skytells.score("text", "how urgent it is", 1, 3, progress=False)
        >>> scored["score"].between(1, 3).tolist()
        [True, <NA>]
        """
        check_options(options, self.score)
        parameters = model_parameters(options, params, DETERMINISTIC)
        prompt = score_prompt(criterion, low, high, meanings, parameters, model, rows_per_request)
        texts = self._prompts(column)
        self._check_into(into, column)
        self._check_details(into, details, into)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        new, answers = self._ask(
            prompt, texts, into, call, safety, lambda answers: {into: scores_of(answers)}, details=details
        )
        return self._finish(into, new, answers, details)


def score_prompt(
    criterion: Any,
    low: Any,
    high: Any,
    meanings: Any,
    parameters: Mapping[str, Any],
    model: str | None,
    rows_per_request: int | None,
) -> TextPrompt:
    """Return what is asked about each text; raise InputError for wrong arguments."""
    asked = non_empty_text("criterion", criterion).rstrip(".")
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise InputError(f"{name} must be an integer, got {value!r}.")
    least, most = int(low), int(high)
    if least >= most:
        raise InputError(f"high must be above low, got low={least} and high={most}.")
    lines = []
    if meanings is not None:
        if not isinstance(meanings, Mapping):
            raise InputError(f"meanings must be a dict of scores and what they mean, got {type(meanings).__name__}.")
        for value, meaning in meanings.items():
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
                raise InputError(f"The scores of meanings must be integers from {least} to {most}, got {value!r}.")
            lines.append(f"- {int(value)}: {non_empty_text(f'The meaning of {value!r}', meaning)}")
    listed = "\n".join(["", *lines])
    system = (
        f"Score the user's text from {least} to {most} by this criterion: {asked}. {least} is the least and {most} the "
        f"most.{listed}"
    )
    values: dict[str, Any] = {"minimum": least, "maximum": most}
    if most - least < MOST_LISTED:
        values = {"enum": list(range(least, most + 1))}
    schema = {
        "title": "score",
        "type": "object",
        "properties": {"score": {"type": "integer", **values}},
        "required": ["score"],
        "additionalProperties": False,
    }
    return TextPrompt("score", system, schema, parameters, model, rows_per_request)


def scores_of(answers: CompletionColumns) -> pd.Series[Any]:
    """Return the score of each row, missing where there is none."""
    values = [None if fields is None else int(fields["score"]) for fields in answers.column]
    return pd.Series(values, index=answers.column.index, dtype="Int64")
