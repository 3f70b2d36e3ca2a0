"""Base classes of the frame accessor's methods: check names, add columns, ask a model, attach the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import VectorizedCall, attach_report, attached_to, building, note_columns
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import RunOptions
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.accessor.results import (
    CompletionColumns,
    build_job,
    complete_texts,
    details_frame,
    details_names,
    merge_row_errors,
)
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts, texts_of
from skytells_nb.columns import column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.jobs import Job, LibraryDefault
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.vectors.arrays import Indices


class FrameMethods:
    """A frame, and new frames made from it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def _full(self, name: Any) -> Any:
        """Return the name as a whole key of these columns, which may have several levels."""
        levels = self._frame.columns.nlevels
        return name if levels == 1 or isinstance(name, tuple) else (name, *[""] * (levels - 1))

    def _check_into(self, into: Any, *sources: Any) -> None:
        if not isinstance(into, Hashable):
            raise InputError(f"into must be the name of a column, got {into!r}.")
        if any(into == source for source in sources):
            raise InputError(f"into={into!r} would replace the column that it is made from. Choose another name.")

    def _check_details(self, into: Any, details: bool, *new: Any, ignore: Collection[Any] = ()) -> None:
        """Raise InputError if the details would replace a column that is not from an earlier call of the same name."""
        if not details:
            return
        columns, names = self._frame.columns, [name for name in details_names(into) if name not in ignore]
        added = [name for name in names if name not in new]
        replaced = [name for name in names if name in new]
        # All of them together are those of an earlier call, which is made again.
        if not all(self._full(name) in columns for name in added):
            replaced += [name for name in (*added, f"{into}_rows_in_request") if self._full(name) in columns]
        if replaced:
            raise InputError(
                f"details=True would overwrite column {replaced[0]!r}. Choose another into= (the prefix of the detail "
                "columns) or rename the column."
            )

    def _finish(
        self, into: Any, new: Mapping[Any, pd.Series[Any]], answers: CompletionColumns, details: bool
    ) -> pd.DataFrame:
        """Return a frame with the new columns, and with the details where they are wanted."""
        extra = details_frame(into, answers) if details else {}
        return self._with({**new, **extra}, answers.report, {into: answers.rows})

    def _assembling(
        self,
        call: VectorizedCall,
        into: Any,
        policy: SafetyPolicy | None,
        details: bool,
        columns: Callable[[CompletionColumns], Mapping[Any, pd.Series[Any]]],
    ) -> VectorizedCall:
        """Return the call, whose errors have as ``frame`` what is finished, without what the policy filters."""
        quiet = replace(call, on_error="null")
        masking = None if policy is None or not policy.acts else replace(policy, action="mask")

        def assemble(answers: CompletionColumns, report: Report) -> pd.DataFrame:
            new = columns(answers)
            shown = new if masking is None else apply_policy(masking, answers, new, quiet)
            return self._finish(into, shown, replace(answers, report=report), details)

        return replace(call, assemble=assemble)

    def _with(
        self, new: Mapping[Any, pd.Series[Any]], report: Report, answers: Mapping[Any, Any] | None = None
    ) -> pd.DataFrame:
        """Return a frame with the new columns and this report."""
        result = self._frame.copy(deep=False)
        for name, series in new.items():
            building()
            result[self._full(name)] = series.array
        note_columns(map(self._full, new))
        attach_report(result, report, answers)
        return result


DETERMINISTIC: Mapping[str, Any] = {"temperature": LibraryDefault(0.0)}
"""Defaults for questions that have one right answer; a service that rejects them is asked without."""


@dataclass(frozen=True)
class TextPrompt:
    """The prompt for each text of a column: instructions, form of the completion, and all parameters."""

    operation: str
    system: str
    schema: Schema | None
    params: Mapping[str, Any]
    model: str | None = None
    rows_per_request: int | None = None
    repair: int = DEFAULT_REPAIRS

    def job(self, call: VectorizedCall) -> Job:
        """Return what is requested for each text."""
        return build_job(call, self.model, self.system, self.schema, self.params, self.operation, self.rows_per_request)


class PromptMethods(FrameMethods):
    """Methods that ask a model about each text of a column."""

    def _texts(self, column: Any) -> Texts:
        return texts_of(column_of(self._frame, column), name=column)

    def _prompts(self, source: Any) -> Texts:
        """Return the texts of a column, or of a template that is not the name of a column."""
        if isinstance(source, str) and "{" in source and source not in self._frame.columns:
            return Template(source).fill(self._frame)
        return self._texts(source)

    def _ask(
        self,
        prompt: TextPrompt,
        texts: Texts,
        into: Any,
        call: VectorizedCall,
        safety: SafetyChoice,
        columns: Callable[[CompletionColumns], Mapping[Any, pd.Series[Any]]],
        *,
        details: bool = False,
    ) -> tuple[dict[Any, pd.Series[Any]], CompletionColumns]:
        """Complete the prompt for each text; return the columns made of the completions, after the safety policy."""
        policy = SafetyPolicy.of(safety)
        call = self._assembling(call, into, policy, details, columns)
        answers = self._answers(prompt, texts, into, call)
        return policed(policy, answers, columns(answers), call), answers

    def _answers(self, prompt: TextPrompt, texts: Texts, into: Any, call: VectorizedCall) -> CompletionColumns:
        """Complete the prompt for each text."""
        answers = complete_texts(call, prompt.job(call), texts, self._frame.index, into, prompt.schema, prompt.repair)
        return merge_row_errors(call, answers, {})


def policed(
    policy: SafetyPolicy, answers: CompletionColumns, columns: Mapping[Any, pd.Series[Any]], call: VectorizedCall
) -> dict[Any, pd.Series[Any]]:
    """Return the columns after the safety policy, whose error has the other rows as its ``frame``."""
    try:
        return apply_policy(policy, answers, columns, call)
    except RowError as problem:
        call.attach_results(problem, answers.report, answers)
        raise


def non_empty_text(name: str, given: Any) -> str:
    """Return the text, stripped; raise InputError for an empty one and for other values."""
    if not isinstance(given, str) or not given.strip():
        raise InputError(f"{name} must be a non-empty string, got {given!r}.")
    return given.strip()


def check_count(name: str, given: Any) -> int:
    """Return the positive integer; raise InputError for other values."""
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise InputError(f"{name} must be a positive integer, got {given!r}.")
    return int(given)


def check_threshold(given: Any) -> float:
    """Return the cosine similarity; raise InputError for values outside (0, 1]."""
    if not isinstance(given, Real) or isinstance(given, bool) or not 0 < float(given) <= 1:
        raise InputError(f"threshold must be a cosine similarity above 0 and at most 1, got {given!r}.")
    return float(given)


def check_recall(value: Any) -> None:
    """Raise InputError unless the value is ``None`` or a number above 0 and at most 1."""
    if value is not None and (not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 1):
        raise InputError(f"recall must be a number above 0 and at most 1, got {value!r}.")


class SimilarityMethods(FrameMethods):
    """Methods that compare rows by the similarity of their embeddings."""

    def _runs(
        self,
        operation: str,
        on_error: OnError,
        progress: bool | ProgressCallback,
        options: RunOptions,
        unfinished: Callable[[Report], pd.DataFrame],
        rows: Callable[[], pd.DataFrame] | None = None,
    ) -> MultiRun:
        """Return the context of the method's runs; ``unfinished`` makes the frame of an error that ends them."""
        frame = self._frame

        def open_call() -> VectorizedCall:
            return replace(VectorizedCall.open(on_error, progress, options, owner=frame), rows=rows)

        return MultiRun(operation, len(frame), open_call, unfinished, progress)

    def _missing(self, dtypes: Mapping[Any, Any]) -> Callable[[Report], pd.DataFrame]:
        """Return what makes the frame with columns of these dtypes that are missing in every row."""
        rows = len(self._frame)
        return lambda report: self._with(
            {name: pd.Series([None] * rows, dtype=dtype) for name, dtype in dtypes.items()}, report
        )

    def _column_at(self, values: NDArray[Any], rows: Indices, dtype: Any) -> pd.Series[Any]:
        """Return a column with these values in these rows, missing elsewhere."""
        column: pd.Series[Any] = pd.Series(values, index=rows, dtype=dtype).reindex(range(len(self._frame)))
        return column

    @staticmethod
    def _suffixed(into: Any, suffix: str) -> Any:
        """Return the name of a column that belongs to ``into``."""
        return (f"{into[0]}_{suffix}", *into[1:]) if isinstance(into, tuple) else f"{into}_{suffix}"


def failed_rows(data: pd.DataFrame | pd.Series[Any]) -> pd.DataFrame:
    """Return the rows that failed in the call that made this object or was made on it, with a column of reasons.

    Raises InputError without a report of such a call, or if the rows are no longer those of the call.
    """
    entry = attached_to(data)
    if entry is None:
        raise InputError(
            "No call was made on this object. Call failed() on the frame or column that a method was called on or "
            "returned, before it is copied or changed."
        )
    errors, failed = entry.report.errors, entry.failed
    if failed is None:
        if len(data) != entry.report.rows:
            raise InputError(
                f"The call had {entry.report.rows:,} rows, but this object has {len(data):,}. Call failed() on the "
                "frame that the method was called on."
            )
        frame = data if isinstance(data, pd.DataFrame) else data.to_frame("text" if data.name is None else data.name)
        failed = frame.iloc[list(errors)]
    name: Any = "error"
    while name in failed.columns:
        name = f"skytells_{name}"
    reasons = [f"{type(error).__name__}: {error}" for error in errors.values()]
    key = name if failed.columns.nlevels == 1 else (name, *[""] * (failed.columns.nlevels - 1))
    result = failed.copy()
    result[key] = pd.Series(reasons, index=failed.index, dtype=STRING_DTYPE).array
    return result
