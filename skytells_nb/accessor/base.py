"""What every door on a frame can do: check names, add columns, remember the call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import RunOptions, VectorizedCall, attach_report
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.accessor.results import CompletionColumns, build_job, complete_texts, details_frame, merge_row_errors
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy
from skytells_nb.accessor.structured.repair import REPAIRS
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import Texts, column_of, texts_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback, Report
from skytells_nb.errors import InputError
from skytells_nb.vectors.arrays import Indices


class FrameMethods:
    """A frame, and new frames made from it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def _full(self, name: Any) -> Any:
        """The name as a whole key of these columns, which may have several levels."""
        levels = self._frame.columns.nlevels
        return name if levels == 1 or isinstance(name, tuple) else (name, *[""] * (levels - 1))

    def _check_into(self, into: Any, *sources: Any) -> None:
        if not isinstance(into, Hashable):
            raise InputError(f"into is the name of a column; found {into!r}.")
        if any(into == source for source in sources):
            raise InputError(f"into={into!r} would replace the column it is made from; choose another name.")

    def _finish(
        self, into: Any, made: Mapping[Any, pd.Series[Any]], answers: CompletionColumns, details: bool
    ) -> pd.DataFrame:
        extra = details_frame(into, answers) if details else {}
        return self._with({**made, **extra}, answers.report, {into: answers.rows})

    def _with(
        self, made: Mapping[Any, pd.Series[Any]], report: Report, answers: Mapping[Any, Any] | None = None
    ) -> pd.DataFrame:
        result = self._frame.copy(deep=False)
        for name, series in made.items():
            result[self._full(name)] = series.array
        attach_report(result, report, answers)
        return result


DETERMINISTIC: Mapping[str, Any] = {"temperature": 0.0}
"""Parameters of questions that have one right answer; ``params`` may replace them, ``None`` leaves one out."""


@dataclass(frozen=True)
class TextPrompt:
    """What is asked about each text: the words, and the form of the answer."""

    operation: str
    system: str
    schema: Schema | None
    params: Mapping[str, Any] | None = None
    model: str | None = None
    rows_per_request: int | None = None
    repair: int = REPAIRS


class PromptMethods(FrameMethods):
    """A frame whose texts a model is asked about."""

    def _texts(self, column: Any) -> Texts:
        return texts_of(column_of(self._frame, column), name=column)

    def _prompts(self, source: Any) -> Texts:
        """The texts of a column, or of a template that is no column's name."""
        if isinstance(source, str) and "{" in source and source not in self._frame.columns:
            return Template(source).fill(self._frame)
        return self._texts(source)

    def _ask(
        self,
        question: TextPrompt,
        texts: Texts,
        into: Any,
        call: VectorizedCall,
        safety: SafetyChoice,
        columns: Callable[[CompletionColumns], Mapping[Any, pd.Series[Any]]],
    ) -> tuple[dict[Any, pd.Series[Any]], CompletionColumns]:
        """The columns that ``columns`` makes of the answers, as far as the safety policy shows them."""
        policy = SafetyPolicy.of(safety)
        params = question.params
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
        job = build_job(
            call,
            question.model,
            question.system,
            question.schema,
            {**DETERMINISTIC, **(params or {})},
            question.operation,
            question.rows_per_request,
        )
        answers = complete_texts(call, job, texts, self._frame.index, into, question.schema, question.repair)
        answers = merge_row_errors(call, answers, {})
        return apply_policy(policy, answers, columns(answers), call), answers


def non_empty_text(name: str, given: Any) -> str:
    """A text that says something; raises InputError for anything else."""
    if not isinstance(given, str) or not given.strip():
        raise InputError(f"{name} is a text that is not empty; found {given!r}.")
    return given.strip()


def check_count(name: str, given: Any) -> int:
    """A whole number, 1 or more."""
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise InputError(f"{name} is 1 or more; found {given!r}.")
    return int(given)


def check_threshold(given: Any) -> float:
    """A cosine from above 0 up to 1."""
    if not isinstance(given, Real) or isinstance(given, bool) or not 0 < float(given) <= 1:
        raise InputError(f"threshold is a cosine similarity above 0 and at most 1; found {given!r}.")
    return float(given)


class SimilarityMethods(FrameMethods):
    """A frame whose rows are compared by what they mean."""

    def _runs(
        self, operation: str, on_error: OnError, progress: bool | ProgressCallback, options: RunOptions
    ) -> MultiRun:
        frame = self._frame
        return MultiRun(operation, len(frame), lambda: VectorizedCall.open(on_error, progress, options, asker=frame))

    def _placed(self, values: NDArray[Any], rows: Indices, dtype: Any) -> pd.Series[Any]:
        """A column with these values in these rows, null elsewhere."""
        made: pd.Series[Any] = pd.Series(values, index=rows, dtype=dtype).reindex(range(len(self._frame)))
        return made

    @staticmethod
    def _beside(into: Any, suffix: str) -> Any:
        """The name of a column that belongs to ``into``."""
        return (f"{into[0]}_{suffix}", *into[1:]) if isinstance(into, tuple) else f"{into}_{suffix}"
