"""``series.skytells``: language models over one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Unpack

import pandas as pd

from skytells_nb.accessor.base import failed_rows, non_empty_text
from skytells_nb.accessor.call import VectorizedCall, attach_report, get_report
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.lineage.lookup import lineage_frame
from skytells_nb.accessor.methods.estimate import ColumnMethod, unknown_method, with_dry_run
from skytells_nb.accessor.options import ModelOptions, RunOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.results import build_job, complete_texts, embed_texts, merge_row_errors
from skytells_nb.accessor.series.methods import SeriesMethods
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS, check_repair
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import texts_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.errors import InputError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.session import current


@with_dry_run
class SeriesAccessor(SeriesMethods):
    """Language models over one column of texts.

    A method with a value for each text returns a column with the same index and name, one with several values a frame
    with that index. Methods have the keywords of ``df.skytells``.
    """

    def __init__(self, series: pd.Series[Any]) -> None:
        self._series = series

    @expand_options(RunOptions, like=FrameAccessor.embed)
    def embed(
        self,
        *,
        model: str | None = None,
        dimensions: int | None = None,
        dtype: Literal["numpy", "arrow"] = "numpy",
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.Series[Any]:
        """Return the embeddings of the texts.

        Returns
        -------
        pandas.Series
            A column of vectors with the same index and name; missing where the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> pd.Series(["a cat", None]).skytells.embed(progress=False).isna().tolist()
        [False, True]
        """
        check_options(options, self.embed)
        texts = texts_of(self._series)
        call = VectorizedCall.open(on_error, progress, options, owner=self._series)
        call = replace(call, assemble=lambda series, report: series)
        result, report = embed_texts(call, texts, self._series.index, model, dimensions, dtype, self._series.name)
        attach_report(result, report)
        return result

    @expand_options(ModelOptions)
    def complete(
        self,
        instructions: str,
        *,
        model: str | None = None,
        schema: Schema | None = None,
        repair: int = DEFAULT_REPAIRS,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any]:
        """Return the model's completions: the instructions are the system message, each text one user message.

        Parameters
        ----------
        instructions : str
            What to do with each text.
        schema : type or mapping, optional
            What each completion matches, as in ``extract``: a pydantic model, dataclass, ``TypedDict``, dict of types,
            or JSON schema of an object. It is returned as a dict.

        Returns
        -------
        pandas.Series
            A column with the same index and name; missing where the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> pd.Series(["cat", None]).skytells.complete("Name the animal's food.", progress=False).isna().tolist()
        [False, True]
        """
        check_options(options, self.complete)
        parameters = model_parameters(options, params)
        non_empty_text("instructions", instructions)
        check_repair(repair)
        texts = texts_of(self._series)
        call = VectorizedCall.open(on_error, progress, options, owner=self._series)
        job = build_job(call, model, instructions, schema, parameters, rows_per_request=rows_per_request)
        call = replace(call, assemble=lambda answers, report: answers.column)
        answers = complete_texts(call, job, texts, self._series.index, self._series.name, schema, repair)
        answers = merge_row_errors(call, answers, {})
        attach_report(answers.column, answers.report)
        return answers.column

    def estimate(self, method: ColumnMethod, *arguments: Any, **options: Any) -> Estimate:
        """Estimate what a call of a method would send and cost, without a request to a model.

        No key is needed. See ``df.skytells.estimate``.

        Parameters
        ----------
        method : str
            The name of a method that sends requests, such as ``"classify"``.
        *arguments : Any
            Its own arguments.
        **options : Any
            Its own keywords.

        Returns
        -------
        Estimate
            Rows, requests, tokens, US dollars and minutes; ``notes`` say where the price is from.

        Raises
        ------
        InputError
            If the call itself would raise it before it sends anything.

        Examples
        --------
        >>> pd.Series(["a", "b", "a"]).skytells.estimate("classify", ["good", "bad"]).distinct
        2
        """
        raise unknown_method(method, ColumnMethod)

    @property
    def lineage(self) -> pd.DataFrame:
        """What made this column, as ``lineage`` of a frame.

        Returns
        -------
        pandas.DataFrame
            A row for each call.

        Examples
        --------
        >>> pd.Series(["a cat"], name="text").skytells.embed(progress=False).skytells.lineage["method"].tolist()
        ['embed']
        """
        return lineage_frame(self._series)

    def failed(self) -> pd.DataFrame:
        """Return the texts that failed in the call that made this column or was made on it, with the reasons.

        Returns
        -------
        pandas.DataFrame
            The values with their index, and a column ``error``. ``retry="failed"`` asks about them again.

        Raises
        ------
        InputError
            If this very column was neither made by a call nor given to one.

        Examples
        --------
        >>> texts = pd.Series(["a cat", None], name="text")
        >>> vectors = texts.skytells.embed(progress=False)
        >>> texts.skytells.failed().columns.tolist()
        ['text', 'error']
        """
        return failed_rows(self._series)

    @property
    def report(self) -> Report:
        """The report of the call that made this column or was made on it; else of the last call of the session.

        Raises
        ------
        InputError
            If no call has been made yet.

        Examples
        --------
        >>> pd.Series(["a cat", "a cat", None]).skytells.embed(progress=False).skytells.report.distinct
        1
        """
        report = get_report(self._series)[0] or current().last_report
        if report is None:
            raise InputError("No call has been made yet, so there is no report.")
        return report
