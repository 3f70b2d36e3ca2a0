"""Methods of the frame accessor on one column: their keywords without the column, their results as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Unpack

import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC
from skytells_nb.accessor.call import copy_report
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.classify.confidence import Confidence
from skytells_nb.accessor.methods.cluster import ClusterNames
from skytells_nb.accessor.methods.evaluation.comparison import Comparison
from skytells_nb.accessor.methods.moderate import MINIMAL_COMPLETION
from skytells_nb.accessor.options import ModelOptions, RunOptions, check_options, expand_options
from skytells_nb.accessor.prompts.labels import Examples, LabelChoice
from skytells_nb.accessor.safety import SafetyChoice
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import Interrupted, SkytellsError
from skytells_nb.progress.events import ProgressCallback

Arguments = Mapping[str, Any]
"""What a method was called with: its ``locals()``, before there are others."""
Result = TypeVar("Result")


class SeriesMethods:
    """Methods that are called on a frame of this one column."""

    _series: pd.Series[Any]

    @expand_options(ModelOptions, like=FrameAccessor.classify, defaults=DETERMINISTIC)
    def classify(
        self,
        labels: LabelChoice,
        *,
        into: Any = "label",
        multi: bool = False,
        other: str | None = None,
        examples: Examples | None = None,
        via: Literal["model", "embedding"] = "model",
        instructions: str | None = None,
        agree: float | None = None,
        level: float = 0.9,
        confidence: Confidence | None = None,
        abstain: float | None = None,
        votes: int | None = None,
        gold: Any = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any] | pd.DataFrame:
        """Return the label that fits each text best, as a category.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            A column with the same index and name; a frame of the new columns with ``multi=True``, ``confidence`` or
            ``details=True``.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If a label cannot be embedded, or rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> texts = pd.Series(["I love it!", None])
        >>> texts.skytells.classify(["good", "bad"], progress=False).cat.categories.tolist()
        ['good', 'bad']
        """
        check_options(options, self.classify)
        return self._column_or_frame(FrameAccessor.classify, locals())

    @expand_options(ModelOptions, like=FrameAccessor.extract, defaults=DETERMINISTIC)
    def extract(
        self,
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
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Return a frame with a typed column for each field of a schema, filled from the texts.

        Returns
        -------
        pandas.DataFrame
            The new columns, with the same index; missing where the text is missing or its row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        >>> pd.Series(["Rex is a dog."]).skytells.extract(schema, progress=False).columns.tolist()
        ['name']
        """
        check_options(options, self.extract)
        return self._new_columns(FrameAccessor.extract, locals())

    @expand_options(ModelOptions, like=FrameAccessor.translate, defaults=DETERMINISTIC)
    def translate(
        self,
        to: str,
        *,
        into: Any = "translation",
        instructions: str | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any] | pd.DataFrame:
        """Return the texts in another language.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            A column with the same index and name; a frame of the new columns with ``details=True``.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> pd.Series(["Good morning", None]).skytells.translate("French", progress=False).isna().tolist()
        [False, True]
        """
        check_options(options, self.translate)
        return self._column_or_frame(FrameAccessor.translate, locals())

    @expand_options(ModelOptions, like=FrameAccessor.moderate, defaults=MINIMAL_COMPLETION)
    def moderate(
        self,
        *,
        into: Any = "moderation",
        agree: float | None = None,
        level: float = 0.9,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        details: bool = False,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Return a frame with the safety filter's result for each text.

        Returns
        -------
        pandas.DataFrame
            The columns that ``df.skytells.moderate`` adds, with the same index.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``, or the policy raises.

        Examples
        --------
        >>> results = pd.Series(["Have a nice day.", None]).skytells.moderate(progress=False)
        >>> results["moderation_filtered"].isna().tolist()
        [False, True]
        """
        check_options(options, self.moderate)
        return self._new_columns(FrameAccessor.moderate, locals())

    @expand_options(ModelOptions, like=FrameAccessor.filter, defaults=DETERMINISTIC)
    def filter(
        self,
        question: str,
        *,
        into: Any = "matches",
        agree: float | None = None,
        level: float = 0.9,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any]:
        """Return the texts for which the answer to a question is yes.

        Parameters
        ----------
        into : hashable, default "matches"
            Name of the answers, which are not in the result.

        Returns
        -------
        pandas.Series
            The matching texts, in order, with the same name.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> texts = pd.Series(["The parcel never came.", None])
        >>> texts.skytells.filter("Is it a complaint?", progress=False).hasnans
        False
        """
        check_options(options, self.filter)
        return self._rows(FrameAccessor.filter, locals())

    @expand_options(RunOptions, like=FrameAccessor.dedupe)
    def dedupe(
        self,
        threshold: float = 0.9,
        *,
        recall: float | None = None,
        model: str | None = None,
        dimensions: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.Series[Any]:
        """Drop texts that mean nearly the same as an earlier text.

        Returns
        -------
        pandas.Series
            The kept texts, in order, with the same name; see ``df.skytells.dedupe`` for which these are.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.

        Examples
        --------
        >>> texts = pd.Series(["The parcel is late.", "Great taste!", "the parcel is late"])
        >>> texts.skytells.dedupe(0.8, progress=False).index.tolist()
        [0, 1]
        """
        check_options(options, self.dedupe)
        return self._rows(FrameAccessor.dedupe, locals())

    @expand_options(ModelOptions, like=FrameAccessor.cluster, defaults=DETERMINISTIC)
    def cluster(
        self,
        n: int | None = None,
        *,
        name: ClusterNames = "model",
        into: Any = "cluster",
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any]:
        """Return the subject of each text, as a category.

        Parameters
        ----------
        into : hashable, default "cluster"
            Name of the clusters, which the result does not have.

        Returns
        -------
        pandas.Series
            A category for each text, with the same index and name; see ``df.skytells.cluster``.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.

        Examples
        --------
        >>> texts = pd.Series(["a cat naps", "kittens sleep", "stocks fell", "shares dropped"])
        >>> texts.skytells.cluster(2, name=False, progress=False).tolist()
        [0, 0, 1, 1]
        """
        check_options(options, self.cluster)
        clusters = self._new_columns(FrameAccessor.cluster, locals())
        return self._renamed(clusters, into)

    @expand_options(ModelOptions, like=FrameAccessor.score, defaults=DETERMINISTIC)
    def score(
        self,
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
    ) -> pd.Series[Any] | pd.DataFrame:
        """Return a whole number for each text: how much a criterion holds of it.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            Int64, with the same index and name; a frame of the new columns with ``details=True``.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> pd.Series(["It burns!", None]).skytells.score("how urgent it is", progress=False).isna().tolist()
        [False, True]
        """
        check_options(options, self.score)
        return self._column_or_frame(FrameAccessor.score, locals())

    @expand_options(ModelOptions, like=FrameAccessor.rank, defaults=DETERMINISTIC)
    def rank(
        self,
        criterion: str,
        k: int = 10,
        *,
        by: Literal["pairs", "scores"] = "pairs",
        prefilter: int | None = None,
        comparisons: int | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.Series[Any]:
        """Return the texts of which a criterion holds most, best first.

        Returns
        -------
        pandas.Series
            ``k`` texts with their index and the same name; see ``df.skytells.rank``.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.

        Examples
        --------
        >>> texts = pd.Series(["a cat", "a house", None])
        >>> len(texts.skytells.rank("how large it is", 1, progress=False))
        1
        """
        check_options(options, self.rank)
        return self._rows(FrameAccessor.rank, locals())

    @expand_options(ModelOptions, like=FrameAccessor.compare)
    def compare(
        self,
        variants: Any,
        n: int = 100,
        gold: Any = None,
        *,
        labels: Any = None,
        question: str | None = None,
        sample_seed: int = 0,
        level: float = 0.95,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> Comparison:
        """Ask several prompts or models about the same texts: how far they agree, which is right, what each costs.

        Returns
        -------
        Comparison
            See ``df.skytells.compare``. A template's field of these texts is their name.

        Raises
        ------
        InputError
            If an argument of the call or of a variant is wrong, or the values are not text; nothing is sent.
        BudgetExceededError
            If ``budget`` ends it.

        Examples
        --------
        >>> texts = pd.Series(["It broke.", "I love it!"], name="review")
        >>> prompts = ["Is it praise? Say yes or no.", "Does the writer like it? Say yes or no."]
        >>> texts.skytells.compare(prompts, progress=False).n
        2
        """
        check_options(options, self.compare)
        # A template has the name of the column, so it keeps its own.
        return self._result(FrameAccessor.compare, "text" if self._series.name is None else self._series.name, locals())

    @expand_options(ModelOptions, like=FrameAccessor.summarize, defaults=DETERMINISTIC)
    def summarize(
        self,
        *,
        instructions: str | None = None,
        into: Any = "summary",
        window: int | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        safety: SafetyChoice = "keep",
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> str | None:
        """Return one summary of all texts.

        Parameters
        ----------
        into : hashable, default "summary"
            Name of the summary, which is not in the result.

        Returns
        -------
        str or None
            The summary; None if there are no texts or it failed.

        Raises
        ------
        InputError
            If an argument is wrong, or the values are not text; nothing is sent.
        RowError
            If requests fail with ``on_error="raise"``.

        Examples
        --------
        >>> type(pd.Series(["Fast.", "Friendly."]).skytells.summarize(progress=False)).__name__
        'str'
        """
        check_options(options, self.summarize)
        summaries = self._new_columns(FrameAccessor.summarize, locals())
        summary = summaries[into].iloc[0]
        return summary if isinstance(summary, str) else None

    def _result(self, method: Callable[..., Result], name: Any, arguments: Arguments) -> Result:
        """Return what a method of frames returns for one of this column alone, which has this name there."""
        frame = self._series.to_frame(name)
        own = {keyword: value for keyword, value in arguments.items() if keyword not in ("self", "options")}
        try:
            return method(FrameAccessor(frame), name, **own, **arguments["options"])
        except (Interrupted, SkytellsError) as problem:
            if isinstance(problem.frame, pd.DataFrame):
                problem.frame = problem.frame.drop(columns=name, errors="ignore")
            raise
        finally:
            copy_report(frame, self._series)

    def _call(self, method: Callable[..., pd.DataFrame], arguments: Arguments) -> tuple[pd.DataFrame, str]:
        """Return the result of a method on a frame of this one column, and the name of the column there."""
        # A name that no method gives to a new column.
        name = "texts" if self._series.name is None else f"texts of {self._series.name}"
        return self._result(method, name, arguments), name

    def _new_columns(self, method: Callable[..., pd.DataFrame], arguments: Arguments) -> pd.DataFrame:
        """Return the columns that a method adds."""
        result, name = self._call(method, arguments)
        added = result.drop(columns=name, errors="ignore")
        copy_report(result, added)
        return added

    def _column_or_frame(
        self, method: Callable[..., pd.DataFrame], arguments: Arguments
    ) -> pd.Series[Any] | pd.DataFrame:
        """Return the one column that a method adds, or all if there are several."""
        added = self._new_columns(method, arguments)
        return added if added.shape[1] > 1 else self._renamed(added, added.columns[0])

    def _rows(self, method: Callable[..., pd.DataFrame], arguments: Arguments) -> pd.Series[Any]:
        """Return the texts of the rows that a method keeps."""
        return self._renamed(*self._call(method, arguments))

    def _renamed(self, frame: pd.DataFrame, name: Any) -> pd.Series[Any]:
        """Return a column of the frame under the name of this series."""
        column: pd.Series[Any] = frame[name].rename(self._series.name)
        copy_report(frame, column)
        return column
