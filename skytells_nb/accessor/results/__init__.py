"""Columns of results: the vectors and completions of texts, for both accessors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import VectorizedCall, building, completions, distinct, spread, take, vector_column
from skytells_nb.accessor.structured.columns import typed_columns
from skytells_nb.accessor.structured.repair import (
    DEFAULT_REPAIRS,
    ParsedAnswers,
    check_repair,
    parse_once,
    parse_with_repair,
)
from skytells_nb.accessor.structured.schema import Record, Schema, answer_parser, response_format, schema_field_types
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion, findings_text
from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.operations.jobs import Job, completion_job
from skytells_nb.engine.planning import RowTexts
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import ContentPolicyError, InputError, InvalidResponseError, RefusalError, RowError, warn
from skytells_nb.types.models import Price
from skytells_nb.types.safety import Safety


def text_column(
    answers: list[CachedCompletion | None], outcome: RunResult, index: pd.Index[Any], *, name: Any
) -> pd.Series[Any]:
    """Return the completions' texts, missing where there is none or the filter withheld all of it."""
    texts = [None if c is None or (c.blocked and not c.text) else c.text for c in answers]
    return spread(texts, outcome.result_index, STRING_DTYPE, index).rename(name)


def warn_truncated(answers: list[CachedCompletion | None], outcome: RunResult) -> None:
    """Emit one warning for completions that were cut at their limit, were withheld, or are empty without a reason."""
    rows = outcome.result_index
    for reason, what in (
        ("length", "were cut at max_tokens"),
        ("content_filter", "were withheld by the safety filter"),
    ):
        affected = np.array(
            [c is not None and c.finish_reason == reason and not c.is_empty_reasoning for c in answers] + [False]
        )
        count = int(affected[rows].sum())
        if count:
            warn(f"{count:,} of {len(rows):,} completions {what}. details=True shows which.")
    empty = np.array([c is not None and c.is_silent for c in answers] + [False])
    count = int(empty[rows].sum())
    if count:
        warn(
            f"{count:,} of {len(rows):,} completions are empty, although they ended as answers do. "
            "Change the prompt, or call again with retry='failed' to request them again."
        )


def embed_texts(
    call: VectorizedCall,
    texts: RowTexts,
    index: pd.Index[Any],
    model: str | None,
    dimensions: int | None,
    dtype: Literal["numpy", "arrow"] = "numpy",
    name: Any = "vector",
) -> tuple[pd.Series[Any], Report]:
    """Return a column of the vectors of these texts, and the report."""
    if dtype not in ("numpy", "arrow"):
        raise InputError(f"dtype must be 'numpy' or 'arrow', got {dtype!r}.")
    job = call.embedding_job(model, dimensions)

    def column(outcome: RunResult) -> pd.Series[Any]:
        return vector_column(outcome, index, dtype=dtype, name=name)

    outcome = call.run(job, texts, column=column)
    return column(outcome), outcome.report


def build_job(
    call: VectorizedCall,
    model: str | None,
    system: str | None,
    schema: Schema | None,
    params: Mapping[str, Any] | None,
    operation: str = "complete",
    rows_per_request: int | None = None,
    options: PromptOptions | None = None,
) -> Job:
    """Return the job that completes prompts with these settings."""
    schema_params = {"response_format": response_format(schema)} if schema is not None else {}
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params must be a dict of parameters such as {{'max_tokens': 100}}, got {params!r}.")
    job = completion_job(
        call.chat_model(model),
        system=system,
        params={**(params or {}), **schema_params},
        operation=operation,
        options=options,
    )
    if rows_per_request is not None:
        from skytells_nb.engine.operations.row_packing import batch_rows, check_rows

        rows = check_rows(rows_per_request)
        job = job if rows == 1 else batch_rows(job, rows, None if schema is None else answer_parser(schema))
    return job


@dataclass(frozen=True)
class CompletionColumns:
    """The completions of a call: ``column`` holds texts, or dicts with a schema."""

    column: pd.Series[Any]
    rows: list[CachedCompletion | None]
    report: Report
    schema: Schema | None
    price: Price | None
    batched: bool = False
    """Whether several rows could share a request."""
    records: Sequence[Record | None] = ()
    """The parsed answers to a schema, by row."""

    def fields(self, prefix: str = "") -> dict[Any, pd.Series[Any]]:
        """Return a column for each field of the schema, named ``prefix`` and the field."""
        if self.schema is None:
            return {}
        values = [None if record is None else record.values for record in self.records]
        columns = typed_columns(schema_field_types(self.schema), values, self.column.index)
        return {f"{prefix}{name}": series for name, series in columns.items()}


def complete_texts(
    call: VectorizedCall,
    job: Job,
    texts: Texts,
    index: pd.Index[Any],
    name: Any,
    schema: Schema | None,
    repair: int = DEFAULT_REPAIRS,
) -> CompletionColumns:
    """Return the completions of these prompts; answers that do not match the schema are retried ``repair`` times."""
    rounds = 0 if schema is None else check_repair(repair)
    parser = None if schema is None else answer_parser(schema)

    price, batched = call.session.price(job.model), job.max_items > 1

    def column(outcome: RunResult) -> pd.Series[Any]:
        return text_column(completions(outcome), outcome, index, name=name)

    def columns(outcome: RunResult, parsed: ParsedAnswers) -> CompletionColumns:
        building()
        answers, report = parsed.completions, parsed.report
        rows: list[CachedCompletion | None] = list(take(list(answers), outcome.result_index))
        for row, problem in outcome.report.errors.items():
            if isinstance(problem, (ContentPolicyError, RefusalError)):
                rows[row] = CachedCompletion.from_error(problem)
        if schema is None:
            texts = text_column(answers, outcome, index, name=name)
            return CompletionColumns(texts, rows, report, None, price, batched)
        records = list(take(list(parsed.records), outcome.result_index))
        values = take([None if r is None else r.fields for r in parsed.records], outcome.result_index)
        objects: pd.Series[Any] = pd.Series(values, index=index, dtype=object, name=name)
        return CompletionColumns(objects, rows, report, schema, price, batched, records)

    def columns_so_far(outcome: RunResult) -> CompletionColumns:
        return columns(outcome, parse_once(outcome, completions(outcome), parser))

    outcome = call.run(job, texts, column=column, results=columns_so_far)
    answers = completions(outcome)
    if call.dry_run is not None:
        nothing: pd.Series[Any] = pd.Series(take([None], np.full(len(texts), -1)), index=index, dtype=object, name=name)
        expected = nothing if schema is not None else text_column(answers, outcome, index, name=name)
        return CompletionColumns(expected, [None] * len(texts), outcome.report, None, None)
    if call.on_error == "warn":
        warn_truncated(answers, outcome)
    building()
    by_request = {_request_key(answer): answer for answer in _used_answers(outcome, answers)}
    results, codes = distinct([answer.safety for answer in by_request.values()])
    call.session.record_safety(results, np.bincount(codes, minlength=len(results)).tolist())
    if parser is None:
        return columns(outcome, ParsedAnswers(answers, [], outcome.report))
    return columns(
        outcome,
        parse_with_repair(call, job, outcome, answers, parser, rounds, lambda parsed: columns(outcome, parsed)),
    )


def _used_answers(outcome: RunResult, answers: Sequence[CachedCompletion | None]) -> list[CachedCompletion]:
    """Return the completions of all rows, each once, and those of blocked and refused prompts."""
    blocked = [
        CachedCompletion.from_error(p)
        for p in outcome.report.errors.values()
        if isinstance(p, (ContentPolicyError, RefusalError))
    ]
    used = np.zeros(len(answers) + 1, dtype=np.bool_)
    used[outcome.result_index] = True
    return [c for c, is_used in zip(answers, used[:-1].tolist(), strict=True) if is_used and c is not None] + blocked


def _request_key(completed: CachedCompletion) -> object:
    """Return a key of the answer's request: rows that share one have the same safety result, which counts once."""
    shared_request = completed.rows > 1 and completed.request_id
    return shared_request or id(completed)


DETAILS = (
    "finish_reason",
    "filtered",
    "severity",
    "tokens_in",
    "tokens_out",
    "cost",
    "error",
    "model",
    "request_id",
    "safety",
)
"""The details of an answer."""


def details_names(into: Any) -> list[Any]:
    """Return the names of the columns of details, which begin with ``into``."""
    return [f"{into}_{suffix}" for suffix in DETAILS]


def details_frame(into: Any, answers: CompletionColumns) -> dict[str, pd.Series[Any]]:
    """Return the details of each answer as columns, named ``into`` and the detail."""
    building("building details")
    index, errors = answers.column.index, answers.report.errors
    # Equal rows have the same completion, and most completions the same safety result.
    each, codes = distinct(answers.rows)
    safety, of_each = distinct([None if c is None else c.safety for c in each])
    verdicts = of_each[codes]
    # A blocked prompt has a safety result, and no answer whose tokens are known.
    answered = codes.copy()
    answered[[row for row, error in errors.items() if isinstance(error, ContentPolicyError)]] = -1

    def cost(c: CachedCompletion | None) -> float | None:
        usage_reported = tokens(c, "in") is not None
        if c is None or answers.price is None or not usage_reported:
            return None
        return answers.price.cost(c.tokens_in, c.tokens_out)

    def tokens(c: CachedCompletion | None, direction: Literal["in", "out"]) -> int | None:
        # An answer of its own request without tokens in is one whose usage was not reported.
        if c is None or (c.rows == 1 and not c.tokens_in):
            return None
        return c.tokens_in if direction == "in" else c.tokens_out

    reasons = np.full(len(codes), None, dtype=object)
    reasons[list(errors)] = [f"{type(e).__name__}: {e}" for e in errors.values()]
    columns_by_suffix = {
        "finish_reason": spread([c and c.finish_reason for c in each], codes, STRING_DTYPE, index),
        "filtered": spread([None if v is None else v.filtered for v in safety], verdicts, "boolean", index),
        "severity": spread([_severity(v) for v in safety], verdicts, STRING_DTYPE, index),
        "tokens_in": spread([tokens(c, "in") for c in each], answered, "Int64", index),
        "tokens_out": spread([tokens(c, "out") for c in each], answered, "Int64", index),
        "cost": spread([cost(c) for c in each], answered, "Float64", index),
        "error": pd.Series(reasons, index=index, dtype=STRING_DTYPE),
        "model": spread([c and c.model for c in each], answered, STRING_DTYPE, index),
        "request_id": spread([c and c.request_id for c in each], codes, STRING_DTYPE, index),
        "safety": _findings_column(each, codes, index),
    }
    if answers.batched:
        columns_by_suffix["rows_in_request"] = spread([c and c.rows for c in each], answered, "Int64", index)
    return {f"{into}_{suffix}": series for suffix, series in columns_by_suffix.items()}


def _findings_column(
    each: Sequence[CachedCompletion | None], codes: NDArray[np.int64], index: pd.Index[Any]
) -> pd.Series[Any]:
    """Return the findings of each row as JSON text, a category: few of the texts differ, and each has a kB."""
    numbers: dict[str, int] = {}
    of_each = [-1 if c is None else numbers.setdefault(findings_text(c.findings), len(numbers)) for c in each]
    # What files give back: texts before pandas 3 are objects there.
    categories = pd.Index(list(numbers), dtype="str")
    cells = pd.Categorical.from_codes(np.array([*of_each, -1])[codes], categories=categories)
    return pd.Series(cells, index=index)


def _severity(safety: Safety | None) -> str | None:
    if safety is None:
        return None
    return "not checked" if not safety.checked and safety.severity in (None, "safe") else safety.severity


def check_prompts(errors: Mapping[int, InputError], on_error: OnError) -> None:
    """Raise InputError if rows cannot be sent and ``on_error`` is "raise"."""
    if errors and on_error == "raise":
        row, reason = min(errors.items())
        raise InputError(f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(errors):,} such rows).")


def merge_row_errors(
    call: VectorizedCall, answers: CompletionColumns, prompt_errors: Mapping[int, InputError]
) -> CompletionColumns:
    """Return the answers with an error for each row that could not be sent, and for each empty answer.

    Raises RowError for an empty answer under ``on_error="raise"``.
    """
    run_errors = answers.report.errors
    each, codes = distinct(answers.rows)
    is_empty = np.fromiter((c is not None and c.is_empty_reasoning for c in each), dtype=np.bool_, count=len(each))
    empty: dict[int, Exception] = {
        row: _empty_error(completed)
        for row in np.flatnonzero(is_empty[codes]).tolist()
        if (completed := answers.rows[row]) is not None and not isinstance(run_errors.get(row), RefusalError)
    }
    new_empty: dict[int, Exception] = {row: error for row, error in empty.items() if row not in run_errors}
    if not prompt_errors and not empty:
        return answers
    new: dict[int, Exception] = {**prompt_errors, **new_empty}
    errors = dict(sorted({**run_errors, **empty, **prompt_errors}.items()))
    report = call.amend(
        answers.report,
        errors=errors,
        nulls=answers.report.nulls - len(prompt_errors),
        answered=answers.report.answered - len(new_empty),
        failed=answers.report.failed + len(new),
    )
    if new_empty and call.on_error == "raise":
        error = RowError(f"{len(new_empty):,} answers are empty: {next(iter(new_empty.values()))}", report=report)
        call.attach_results(error, report, replace(answers, report=report))
        raise error
    if new:
        call.warn_of_failures(replace(report, errors=new, failed=len(new)))
    column = answers.column
    if new_empty:
        column = column.copy()
        column.iloc[list(new_empty)] = None
    return replace(answers, column=column, report=report)


def _empty_error(completed: CachedCompletion) -> InvalidResponseError:
    return InvalidResponseError(
        f"The answer is empty: all its {completed.tokens_out:,} tokens went to reasoning, also with a higher limit. "
        "Raise max_tokens, or lower reasoning_effort",
        request_id=completed.request_id,
    )
