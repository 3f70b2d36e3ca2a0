"""Texts in, columns out: what embed, complete and classify do behind both accessors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from skytells_nb import columns
from skytells_nb.accessor.runs import Call, completions, spread, text_column, vector_column, warn_of_cuts
from skytells_nb.accessor.texts import STRING_DTYPE, Texts
from skytells_nb.accessor.typed import Schema, field_columns, field_names, reader, response_format
from skytells_nb.engine.job import Job, completion_job, embedding_job
from skytells_nb.engine.outcome import Outcome
from skytells_nb.engine.packed import check_rows, packed
from skytells_nb.engine.report import Report
from skytells_nb.engine.work import Completed
from skytells_nb.errors import AnswerError, ContentPolicyError, InputError, RowError
from skytells_nb.wire.models import Price
from skytells_nb.wire.safety import Safety


def embed_texts(
    call: Call,
    texts: Texts,
    index: pd.Index[Any],
    model: str | None,
    dimensions: int | None,
    dtype: Literal["numpy", "arrow"],
    name: Any,
) -> tuple[pd.Series[Any], Report]:
    """A column of vectors for these texts."""
    if dtype not in ("numpy", "arrow"):
        raise InputError(f"dtype is 'numpy' or 'arrow'; found {dtype!r}.")
    job = embedding_job(model or call.session.settings.embedding_model, dimensions)

    def column(outcome: Outcome) -> pd.Series[Any]:
        return vector_column(outcome, index, dtype=dtype, name=name)

    outcome = call.run(job, texts, column=column)
    return column(outcome), outcome.report


def prompt_job(
    call: Call,
    model: str | None,
    system: str | None,
    schema: Schema | None,
    params: Mapping[str, Any] | None,
    operation: str = "complete",
    rows_per_request: int | None = None,
) -> Job:
    """The job that completes prompts with these settings."""
    rows = check_rows(rows_per_request)
    extra = {"response_format": response_format(schema)} if schema is not None else {}
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    named = model or call.session.settings.model
    job = completion_job(named, system=system, params={**(params or {}), **extra}, operation=operation)
    return job if rows == 1 else packed(job, rows, None if schema is None else reader(schema))


@dataclass(frozen=True)
class Answers:
    """The completions of a call: ``column`` holds texts, or dicts where a schema was asked for."""

    column: pd.Series[Any]
    rows: list[Completed | None]
    report: Report
    schema: Schema | None
    price: Price | None
    packed: bool = False
    """Whether several rows could share a request."""

    def fields(self) -> dict[Any, pd.Series[Any]]:
        """One column for each field of the schema."""
        if self.schema is None:
            return {}
        records = list(self.column)
        frame = field_columns(records, field_names(self.schema), self.column.index)
        return {name: frame[name] for name in frame.columns}


def complete_texts(
    call: Call, job: Job, texts: Texts, index: pd.Index[Any], name: Any, schema: Schema | None
) -> Answers:
    """The model's answers to these prompts."""

    def column(outcome: Outcome) -> pd.Series[Any]:
        return text_column(completions(outcome), outcome, index, name=name)

    outcome = call.run(job, texts, column=column)
    kept = completions(outcome)
    if call.on_error == "warn":
        warn_of_cuts(kept, outcome)
    rows: list[Completed | None] = list(spread(list(kept), outcome.answered))
    for row, problem in outcome.report.errors.items():
        if isinstance(problem, ContentPolicyError):
            rows[row] = Completed.of_blocked(problem)
    call.session.record_safety([c.safety for c in {_exchange(c): c for c in rows if c is not None}.values()])
    price, shared = call.session.price(job.model), job.max_items > 1
    if schema is None:
        made = text_column(kept, outcome, index, name=name)
        return Answers(made, rows, outcome.report, None, price, shared)
    values, report = _read(kept, outcome, schema, call)
    return Answers(pd.Series(values, index=index, dtype=object, name=name), rows, report, schema, price, shared)


def _exchange(completed: Completed) -> object:
    """What tells the request behind an answer: rows that shared one have the same verdict, which counts once."""
    shared = completed.rows > 1 and completed.request_id
    return shared or id(completed)


def _read(kept: Sequence[Completed | None], outcome: Outcome, schema: Schema, call: Call) -> tuple[Any, Report]:
    """Each row's answer as the schema's fields; an answer that does not fit is null and an error of its row."""
    read = reader(schema)
    fields: list[dict[str, Any] | None] = []
    misfits: dict[int, AnswerError] = {}
    for number, completed in enumerate(kept):
        value = None
        if completed is not None:
            try:
                value = read(completed.text)
            except ValueError as problem:
                why = " ".join(str(problem).split())[:200]
                misfits[number] = AnswerError(
                    f"The answer does not fit the schema: {why}", request_id=completed.request_id
                )
        fields.append(value)
    report = outcome.report
    if misfits:
        codes = outcome.answered
        found = {int(row): misfits[int(codes[row])] for row in np.flatnonzero(np.isin(codes, list(misfits)))}
        errors = dict(sorted({**report.errors, **found}.items()))
        report = call.revise(report, errors=errors, failed=len(errors), answered=report.answered - len(found))
        if call.on_error == "raise":
            raise RowError(f"{len(found):,} answers do not fit the schema: {next(iter(found.values()))}", report=report)
        call.warn_of_failures(replace(report, errors=found, failed=len(found)))
    return spread(fields, outcome.answered), report


def classify_texts(
    call: Call, texts: Texts, index: pd.Index[Any], labels: list[str], model: str | None
) -> tuple[pd.Series[Any], Report]:
    """The label whose embedding is nearest to each text's. Raises RowError where a label has no embedding."""
    named, asked = embed_texts(
        call.quietly(), np.array(labels, dtype=object), pd.RangeIndex(len(labels)), model, None, "numpy", "labels"
    )
    targets, known = columns.to_matrix(named)
    if not known.all():
        label, reason = labels[int(np.argmin(known))], next(iter(asked.errors.values()))
        raise RowError(f"The label {label!r} could not be embedded: {reason}", report=asked)
    series, report = embed_texts(call, texts, index, model, None, "numpy", "texts")
    matrix, valid = columns.to_matrix(series)
    values = np.full(len(texts), None, dtype=object)
    if len(matrix):
        nearest = np.argmax(matrix @ targets.T, axis=1)
        values[valid] = np.array(labels, dtype=object)[nearest]
    return pd.Series(values, index=index, dtype=object), report


def details_frame(into: Any, answers: Answers) -> dict[str, pd.Series[Any]]:
    """What is known of each answer, as columns named after ``into``."""
    rows, index = answers.rows, answers.column.index
    verdicts = [None if c is None else c.safety for c in rows]

    def made(values: list[Any], dtype: Any) -> pd.Series[Any]:
        series: pd.Series[Any] = pd.Series(values, index=index, dtype=dtype)
        return series

    def cost(c: Completed | None) -> float | None:
        return None if c is None or answers.price is None else answers.price.cost(c.tokens_in, c.tokens_out)

    errors = [answers.report.errors.get(row) for row in range(len(rows))]
    # A blocked prompt has a verdict, and no answer whose tokens are known.
    told = [None if c is None or isinstance(e, ContentPolicyError) else c for c, e in zip(rows, errors, strict=True)]
    columns_by_suffix = {
        "finish_reason": made([c and c.finish_reason for c in rows], STRING_DTYPE),
        "filtered": made([None if v is None else v.filtered for v in verdicts], "boolean"),
        "severity": made([_severity(v) for v in verdicts], STRING_DTYPE),
        "tokens_in": made([None if c is None else c.tokens_in for c in told], "Int64"),
        "tokens_out": made([None if c is None else c.tokens_out for c in told], "Int64"),
        "cost": made([cost(c) for c in told], "Float64"),
        "error": made([None if e is None else f"{type(e).__name__}: {e}" for e in errors], STRING_DTYPE),
        "model": made([c and c.model for c in told], STRING_DTYPE),
        "request_id": made([c and c.request_id for c in rows], STRING_DTYPE),
        "safety": made([None if c is None else json.dumps(list(c.findings)) for c in rows], STRING_DTYPE),
    }
    if answers.packed:
        columns_by_suffix["rows_in_request"] = made([c and c.rows for c in told], "Int64")
    return {f"{into}_{suffix}": series for suffix, series in columns_by_suffix.items()}


def _severity(verdict: Safety | None) -> str | None:
    if verdict is None:
        return None
    return "not checked" if not verdict.checked and verdict.severity in (None, "safe") else verdict.severity
