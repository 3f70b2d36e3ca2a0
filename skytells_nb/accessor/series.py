"""``series.skytells``: language models over one column."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack

import pandas as pd

from skytells_nb.accessor.call import RunOptions, VectorizedCall, attach_report, check_options, copy_report, get_report
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.results import build_job, complete_texts, embed_texts, merge_row_errors
from skytells_nb.accessor.structured.repair import REPAIRS, check_repair
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import texts_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback, Report
from skytells_nb.errors import InputError
from skytells_nb.session import current

Method = TypeVar("Method", bound=Callable[..., Any])


def _keywords_of(verb: Callable[..., Any], *without: str) -> Callable[[Method], Method]:
    """Give a method the keywords of a frame's verb, but some, for those who ask which there are."""

    def with_keywords(method: Method) -> Method:
        own, theirs = inspect.signature(method), inspect.signature(verb)
        named = [part for part in own.parameters.values() if part.kind is part.POSITIONAL_OR_KEYWORD]
        more = [
            part.replace(kind=part.VAR_KEYWORD if part.kind is part.VAR_KEYWORD else part.KEYWORD_ONLY)
            for name, part in theirs.parameters.items()
            if name not in own.parameters and name not in ("column", *without)
        ]

        @functools.wraps(method)
        def call(*given: Any, **keywords: Any) -> Any:
            return method(*given, **keywords)

        call.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return with_keywords


class SeriesMethods:
    """What language models do with one column of texts."""

    _series: pd.Series[Any]

    @_keywords_of(FrameAccessor.classify)
    def classify(self, labels: Sequence[str] | Mapping[str, str], **keywords: Any) -> pd.Series[Any] | pd.DataFrame:
        """The one of ``labels`` that fits each text best, a category; see ``df.skytells.classify`` for the keywords.

        A frame where the verb makes several columns: with ``multi=True`` or ``details=True``.

        >>> pd.Series(["I love it!", None]).skytells.classify(["good", "bad"], progress=False).cat.categories.tolist()
        ['good', 'bad']
        """
        return self._made("classify", labels, **keywords)

    @_keywords_of(FrameAccessor.extract)
    def extract(self, schema: Schema, **keywords: Any) -> pd.DataFrame:
        """A frame with a column for each field of ``schema``; see ``df.skytells.extract`` for the keywords.

        >>> schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        >>> pd.Series(["Rex is a dog."]).skytells.extract(schema, progress=False).columns.tolist()
        ['name']
        """
        made: pd.DataFrame = self._frame("extract", schema, **keywords)
        return made

    @_keywords_of(FrameAccessor.translate)
    def translate(self, to: str, **keywords: Any) -> pd.Series[Any] | pd.DataFrame:
        """The texts in the language ``to``; see ``df.skytells.translate`` for the keywords.

        A frame with ``details=True``.

        >>> pd.Series(["Good morning", None]).skytells.translate("French", progress=False).isna().tolist()
        [False, True]
        """
        return self._made("translate", to, **keywords)

    @_keywords_of(FrameAccessor.moderate)
    def moderate(self, **keywords: Any) -> pd.DataFrame:
        """A frame with the safety filter's verdict on each text; see ``df.skytells.moderate`` for its columns.

        >>> verdicts = pd.Series(["Have a nice day.", None]).skytells.moderate(progress=False)
        >>> verdicts["moderation_filtered"].isna().tolist()
        [False, True]
        """
        made: pd.DataFrame = self._frame("moderate", **keywords)
        return made

    @_keywords_of(FrameAccessor.filter, "keep", "details")
    def filter(self, question: str, **keywords: Any) -> pd.Series[Any]:
        """The texts for which the answer to ``question`` is yes; see ``df.skytells.filter`` for the keywords.

        >>> texts = pd.Series(["The parcel never came.", None])
        >>> texts.skytells.filter("Is it a complaint?", progress=False).hasnans
        False
        """
        return self._rows("filter", question, **keywords)

    @_keywords_of(FrameAccessor.dedupe, "keep", "into")
    def dedupe(self, threshold: float = 0.9, **keywords: Any) -> pd.Series[Any]:
        """The texts without those that mean nearly the same as one before; see ``df.skytells.dedupe``.

        >>> pd.Series(["The parcel is late.", "Great taste!", "the parcel is late"]).skytells.dedupe(
        ...     0.8, progress=False
        ... ).index.tolist()
        [0, 1]
        """
        return self._rows("dedupe", threshold=threshold, **keywords)

    @_keywords_of(FrameAccessor.cluster, "text")
    def cluster(self, n: int | None = None, **keywords: Any) -> pd.Series[Any]:
        """What each text is about, a category; see ``df.skytells.cluster`` for the keywords.

        >>> texts = pd.Series(["a cat naps", "kittens sleep", "stocks fell", "shares dropped"])
        >>> texts.skytells.cluster(2, name=False, progress=False).tolist()
        [0, 0, 1, 1]
        """
        made = self._frame("cluster", n=n, **keywords)
        return self._like(made, keywords.get("into", "cluster"))

    @_keywords_of(FrameAccessor.summarize, "by")
    def summarize(self, **keywords: Any) -> str | None:
        """One summary of all texts, ``None`` where it failed; see ``df.skytells.summarize`` for the keywords.

        >>> type(pd.Series(["Fast.", "Friendly."]).skytells.summarize(progress=False)).__name__
        'str'
        """
        said = self._frame("summarize", **keywords)[keywords.get("into", "summary")].iloc[0]
        return said if isinstance(said, str) else None

    def _frame(self, verb: str, *given: Any, **keywords: Any) -> pd.DataFrame:
        """The columns that a frame of this one column gets from a verb."""
        name, frame = self._asked()
        try:
            made: pd.DataFrame = getattr(frame.skytells, verb)(name, *given, **keywords)
        finally:
            copy_report(frame, self._series)
        result = made.drop(columns=name, errors="ignore")
        copy_report(made, result)
        return result

    def _rows(self, verb: str, *given: Any, **keywords: Any) -> pd.Series[Any]:
        """The rows that a verb keeps of a frame of this one column."""
        for word in ("keep", "details"):
            if word in keywords:
                raise InputError(f"{verb} of one column gives texts: {word} goes with df.skytells.{verb}.")
        name, frame = self._asked()
        try:
            made = getattr(frame.skytells, verb)(name, *given, **keywords)
        finally:
            copy_report(frame, self._series)
        return self._like(made, name)

    def _made(self, verb: str, *given: Any, **keywords: Any) -> pd.Series[Any] | pd.DataFrame:
        """The one column that a verb makes, or all where there are several."""
        made = self._frame(verb, *given, **keywords)
        return made if made.shape[1] > 1 else self._like(made, made.columns[0])

    def _like(self, made: pd.DataFrame, name: Any) -> pd.Series[Any]:
        column: pd.Series[Any] = made[name].rename(self._series.name)
        copy_report(made, column)
        return column

    def _asked(self) -> tuple[str, pd.DataFrame]:
        """A frame of this column alone, under a name that no verb gives to what it makes."""
        name = "texts" if self._series.name is None else f"texts of {self._series.name}"
        return name, self._series.to_frame(name)


class SeriesAccessor(SeriesMethods):
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
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.Series[Any]:
        """The embeddings of these texts; see ``df.skytells.embed``.

        >>> pd.Series(["a cat", None]).skytells.embed(progress=False).isna().tolist()
        [False, True]
        """
        check_options(options)
        texts = texts_of(self._series)
        call = VectorizedCall.open(on_error, progress, options, asker=self._series)
        result, report = embed_texts(call, texts, self._series.index, model, dimensions, dtype, self._series.name)
        attach_report(result, report)
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
        progress: bool | ProgressCallback = True,
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
        call = VectorizedCall.open(on_error, progress, options, asker=self._series)
        job = build_job(call, model, instructions, schema, params, rows_per_request=rows_per_request)
        answers = complete_texts(call, job, texts, self._series.index, self._series.name, schema, repair)
        answers = merge_row_errors(call, answers, {})
        attach_report(answers.column, answers.report)
        return answers.column

    @property
    def report(self) -> Report:
        """What the call that made this column did; else the last call of the session.

        >>> pd.Series(["a cat", "a cat", None]).skytells.embed(progress=False).skytells.report.distinct
        1
        """
        report = get_report(self._series)[0] or current().last_report
        if report is None:
            raise InputError("No call has been made yet, so there is no report.")
        return report
