"""Texts in, columns out: what embed, complete and classify do behind both accessors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from skytells_nb.accessor.call import VectorizedCall, completions, take, text_column, vector_column, warn_truncated
from skytells_nb.accessor.structured.columns import typed_columns
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS, check_repair, parse_with_repair
from skytells_nb.accessor.structured.schema import Record, Schema, answer_parser, response_format, schema_field_types
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.operations.jobs import Job, completion_job, embedding_job
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import ContentPolicyError, InputError, InvalidResponseError, RowError
from skytells_nb.types.models import Price
from skytells_nb.types.safety import Safety


def embed_texts(
    call: VectorizedCall,
    texts: Texts,
    index: pd.Index[Any],
    model: str | None,
    dimensions: int | None,
    dtype: Literal["numpy", "arrow"] = "numpy",
    name: Any = "vector",
) -> tuple[pd.Series[Any], Report]:
    """A column of vectors for these texts."""
    if dtype not in ("numpy", "arrow"):
        raise InputError(f"dtype is 'numpy' or 'arrow'; found {dtype!r}.")
    job = embedding_job(model or call.session.settings.embedding_model, dimensions)

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
    """The job that completes prompts with these settings."""
    extra = {"response_format": response_format(schema)} if schema is not None else {}
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    named = model or call.session.settings.model
    job = completion_job(named, system=system, params={**(params or {}), **extra}, operation=operation, options=options)
    if rows_per_request is not None:
        from skytells_nb.engine.operations.row_packing import batch_rows, check_rows

        rows = check_rows(rows_per_request)
        job = job if rows == 1 else batch_rows(job, rows, None if schema is None else answer_parser(schema))
    if schema is not None:
        from skytells_nb.engine.operations.response_format import with_format_fallback

        job = with_format_fallback(job, call.session.origin)
    return job


@dataclass(frozen=True)
class CompletionColumns:
    """The completions of a call: ``column`` holds texts, or dicts where a schema was asked for."""

    column: pd.Series[Any]
    rows: list[CachedCompletion | None]
    report: Report
    schema: Schema | None
    price: Price | None
    batched: bool = False
    """Whether several rows could share a request."""
    records: Sequence[Record | None] = ()
    """What a schema's answers say, by row."""

    def fields(self, prefix: str = "") -> dict[Any, pd.Series[Any]]:
        """One column for each field of the schema, under its name after ``prefix``."""
        if self.schema is None:
            return {}
        cells = [None if record is None else record.values for record in self.records]
        made = typed_columns(schema_field_types(self.schema), cells, self.column.index)
        return {f"{prefix}{name}": series for name, series in made.items()}


def complete_texts(
    call: VectorizedCall,
    job: Job,
    texts: Texts,
    index: pd.Index[Any],
    name: Any,
    schema: Schema | None,
    repair: int = DEFAULT_REPAIRS,
) -> CompletionColumns:
    """The model's answers to these prompts; those that do not fit the schema are asked for again ``repair`` times."""
    rounds = 0 if schema is None else check_repair(repair)
    read = None if schema is None else answer_parser(schema)

    def column(outcome: RunResult) -> pd.Series[Any]:
        return text_column(completions(outcome), outcome, index, name=name)

    outcome = call.run(job, texts, column=column)
    kept = completions(outcome)
    if call.on_error == "warn":
        warn_truncated(kept, outcome)
    call.session.record_safety([c.safety for c in {_exchange(c): c for c in _given(outcome, kept)}.values()])
    records: list[Record | None] = []
    report = outcome.report
    if read is not None:
        fitted = parse_with_repair(call, job, outcome, kept, read, rounds)
        kept, records, report = fitted.completions, fitted.records, fitted.report
    rows: list[CachedCompletion | None] = list(take(list(kept), outcome.result_index))
    for row, problem in outcome.report.errors.items():
        if isinstance(problem, ContentPolicyError):
            rows[row] = CachedCompletion.from_error(problem)
    price, shared = call.session.price(job.model), job.max_items > 1
    if schema is None:
        return CompletionColumns(text_column(kept, outcome, index, name=name), rows, report, None, price, shared)
    by_row = list(take(list(records), outcome.result_index))
    values = take([None if record is None else record.fields for record in records], outcome.result_index)
    made: pd.Series[Any] = pd.Series(values, index=index, dtype=object, name=name)
    return CompletionColumns(made, rows, report, schema, price, shared, by_row)


def _given(outcome: RunResult, kept: Sequence[CachedCompletion | None]) -> list[CachedCompletion]:
    """The completions of each row, those of blocked prompts among them."""
    blocked = [
        CachedCompletion.from_error(p) for p in outcome.report.errors.values() if isinstance(p, ContentPolicyError)
    ]
    return [c for c in take(list(kept), outcome.result_index) if c is not None] + blocked


def _exchange(completed: CachedCompletion) -> object:
    """What tells the request behind an answer: rows that shared one have the same verdict, which counts once."""
    shared = completed.rows > 1 and completed.request_id
    return shared or id(completed)


def details_frame(into: Any, answers: CompletionColumns) -> dict[str, pd.Series[Any]]:
    """What is known of each answer, as columns named after ``into``."""
    rows, index = answers.rows, answers.column.index
    verdicts = [None if c is None else c.safety for c in rows]

    def made(values: list[Any], dtype: Any) -> pd.Series[Any]:
        series: pd.Series[Any] = pd.Series(values, index=index, dtype=dtype)
        return series

    def cost(c: CachedCompletion | None) -> float | None:
        return None if c is None or answers.price is None else answers.price.cost(c.tokens_in, c.tokens_out)

    errors = [answers.report.errors.get(row) for row in range(len(rows))]
    # A blocked prompt has a verdict, and no answer whose tokens are known.
    known = [None if c is None or isinstance(e, ContentPolicyError) else c for c, e in zip(rows, errors, strict=True)]
    columns_by_suffix = {
        "finish_reason": made([c and c.finish_reason for c in rows], STRING_DTYPE),
        "filtered": made([None if v is None else v.filtered for v in verdicts], "boolean"),
        "severity": made([_severity(v) for v in verdicts], STRING_DTYPE),
        "tokens_in": made([None if c is None else c.tokens_in for c in known], "Int64"),
        "tokens_out": made([None if c is None else c.tokens_out for c in known], "Int64"),
        "cost": made([cost(c) for c in known], "Float64"),
        "error": made([None if e is None else f"{type(e).__name__}: {e}" for e in errors], STRING_DTYPE),
        "model": made([c and c.model for c in known], STRING_DTYPE),
        "request_id": made([c and c.request_id for c in rows], STRING_DTYPE),
        "safety": made([None if c is None else json.dumps(list(c.findings)) for c in rows], STRING_DTYPE),
    }
    if answers.batched:
        columns_by_suffix["rows_in_request"] = made([c and c.rows for c in known], "Int64")
    return {f"{into}_{suffix}": series for suffix, series in columns_by_suffix.items()}


def _severity(verdict: Safety | None) -> str | None:
    if verdict is None:
        return None
    return "not checked" if not verdict.checked and verdict.severity in (None, "safe") else verdict.severity


def check_prompts(problems: Mapping[int, InputError], on_error: OnError) -> None:
    """Raises InputError where rows cannot be sent and ``on_error`` is "raise"."""
    if problems and on_error == "raise":
        row, reason = min(problems.items())
        raise InputError(f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(problems):,} such rows).")


def merge_row_errors(
    call: VectorizedCall, answers: CompletionColumns, problems: Mapping[int, InputError]
) -> CompletionColumns:
    """The answers with an error for each row that could not be sent, and for each whose answer is empty.

    Raises RowError for an empty one under ``on_error="raise"``.
    """
    known = answers.report.errors
    unsaid: dict[int, Exception] = {
        row: _empty(completed)
        for row, completed in enumerate(answers.rows)
        if completed is not None and completed.is_empty_reasoning
    }
    fresh: dict[int, Exception] = {row: why for row, why in unsaid.items() if row not in known}
    if not problems and not unsaid:
        return answers
    new: dict[int, Exception] = {**problems, **fresh}
    errors = dict(sorted({**known, **unsaid, **problems}.items()))
    report = call.amend(
        answers.report,
        errors=errors,
        nulls=answers.report.nulls - len(problems),
        answered=answers.report.answered - len(fresh),
        failed=answers.report.failed + len(new),
    )
    if fresh and call.on_error == "raise":
        raise RowError(f"{len(fresh):,} answers are empty: {next(iter(fresh.values()))}", report=report)
    if new:
        call.warn_of_failures(replace(report, errors=new, failed=len(new)))
    column = answers.column
    if fresh:
        column = column.copy()
        column.iloc[list(fresh)] = None
    return replace(answers, column=column, report=report)


def _empty(completed: CachedCompletion) -> InvalidResponseError:
    return InvalidResponseError(
        f"The answer is empty: all its {completed.tokens_out:,} tokens went to reasoning, and more room was no help. "
        "Raise max_tokens, or lower reasoning_effort",
        request_id=completed.request_id,
    )
