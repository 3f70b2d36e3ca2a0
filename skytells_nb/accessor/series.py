"""``series.skytells``: language models over one column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

import pandas as pd

from skytells_nb.accessor.repair import REPAIRS, check_repair
from skytells_nb.accessor.row_problems import told
from skytells_nb.accessor.runs import Call, RunOptions, check_options, remember, remembered
from skytells_nb.accessor.series_verbs import SeriesVerbs
from skytells_nb.accessor.texts import texts_of
from skytells_nb.accessor.typed import Schema
from skytells_nb.accessor.values import complete_texts, embed_texts, prompt_job
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.events import Listener
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError
from skytells_nb.session import current


class SeriesAccessor(SeriesVerbs):
    """Language models over one column of texts.

    What has a value for each text is a new column with the same index and name, what has several a frame with that
    index. The verbs are those of ``df.skytells``, with the same keywords.
    """

    def __init__(self, series: pd.Series[Any]) -> None:
        self._series = series

    def embed(
        self,
        *,
        model: str | None = None,
        dimensions: int | None = None,
        dtype: Literal["numpy", "arrow"] = "numpy",
        on_error: OnError = "warn",
        progress: bool | Listener = True,
        **options: Unpack[RunOptions],
    ) -> pd.Series[Any]:
        """The embeddings of these texts; see ``df.skytells.embed``.

        >>> pd.Series(["a cat", None]).skytells.embed(progress=False).isna().tolist()
        [False, True]
        """
        check_options(options)
        texts = texts_of(self._series)
        call = Call.open(on_error, progress, options, asker=self._series)
        result, report = embed_texts(call, texts, self._series.index, model, dimensions, dtype, self._series.name)
        remember(result, report)
        return result

    def complete(
        self,
        instructions: str,
        *,
        model: str | None = None,
        schema: Schema | None = None,
        repair: int = REPAIRS,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | Listener = True,
        **options: Unpack[RunOptions],
    ) -> pd.Series[Any]:
        """The model's answers: ``instructions`` is the system text, each value one user message.

        With a ``schema`` they are dicts that fit it, and one that does not is asked for again ``repair`` times at most.
        ``rows_per_request`` has several values answered in one request; see ``df.skytells.complete``.

        >>> pd.Series(["cat", None]).skytells.complete("Name the animal's food.", progress=False).isna().tolist()
        [False, True]
        """
        check_options(options)
        if not isinstance(instructions, str) or not instructions.strip():
            raise InputError("instructions is a text that says what to do with each value.")
        check_repair(repair)
        texts = texts_of(self._series)
        call = Call.open(on_error, progress, options, asker=self._series)
        job = prompt_job(call, model, instructions, schema, params, rows_per_request=rows_per_request)
        answers = complete_texts(call, job, texts, self._series.index, self._series.name, schema, repair)
        answers = told(call, answers, {})
        remember(answers.column, answers.report)
        return answers.column

    @property
    def report(self) -> Report:
        """What the call that made this column did; else the last call of the session.

        >>> pd.Series(["a cat", "a cat", None]).skytells.embed(progress=False).skytells.report.distinct
        1
        """
        report = remembered(self._series)[0] or current().last_report
        if report is None:
            raise InputError("No call has been made yet, so there is no report.")
        return report
