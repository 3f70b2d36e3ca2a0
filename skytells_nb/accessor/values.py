"""Texts in, columns out: what embed, complete and classify do behind both accessors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from skytells_nb.accessor.fitting import fit
from skytells_nb.accessor.forms import in_any_form
from skytells_nb.accessor.repair import REPAIRS, check_repair
from skytells_nb.accessor.runs import Call, completions, spread, text_column, vector_column, warn_of_cuts
from skytells_nb.accessor.schema_columns import columns_of_kinds
from skytells_nb.accessor.texts import STRING_DTYPE, Texts
from skytells_nb.accessor.typed import Record, Schema, field_kinds, reader, response_format
from skytells_nb.engine.dialogues import Form
from skytells_nb.engine.job import Job, completion_job, embedding_job
from skytells_nb.engine.outcome import Outcome
from skytells_nb.engine.packed import check_rows, packed
from skytells_nb.engine.report import Report
from skytells_nb.engine.work import Completed
from skytells_nb.errors import ContentPolicyError, InputError
from skytells_nb.wire.models import Price
from skytells_nb.wire.safety import Safety


def embed_texts(
    call: Call,
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
    form: Form | None = None,
) -> Job:
    """The job that completes prompts with these settings."""
    rows = check_rows(rows_per_request)
    extra = {"response_format": response_format(schema)} if schema is not None else {}
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params is a dict of parameters such as {{'max_tokens': 100}}; found {params!r}.")
    named = model or call.session.settings.model
    job = completion_job(named, system=system, params={**(params or {}), **extra}, operation=operation, form=form)
    if rows > 1:
        job = packed(job, rows, None if schema is None else reader(schema))
    return job if schema is None else in_any_form(job, call.session.origin)


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
    records: Sequence[Record | None] = ()
    """What a schema's answers say, by row."""

    def fields(self, prefix: str = "") -> dict[Any, pd.Series[Any]]:
        """One column for each field of the schema, under its name after ``prefix``."""
        if self.schema is None:
            return {}
        cells = [None if record is None else record.cells for record in self.records]
        made = columns_of_kinds(field_kinds(self.schema), cells, self.column.index)
        return {f"{prefix}{name}": series for name, series in made.items()}


def complete_texts(
    call: Call,
    job: Job,
    texts: Texts,
    index: pd.Index[Any],
    name: Any,
    schema: Schema | None,
    repair: int = REPAIRS,
) -> Answers:
    """The model's answers to these prompts; those that do not fit the schema are asked for again ``repair`` times."""
    rounds = check_repair(repair)
    read = None if schema is None else reader(schema)

    def column(outcome: Outcome) -> pd.Series[Any]:
        return text_column(completions(outcome), outcome, index, name=name)

    outcome = call.run(job, texts, column=column)
    kept = completions(outcome)
    if call.on_error == "warn":
        warn_of_cuts(kept, outcome)
    call.session.record_safety([c.safety for c in {_exchange(c): c for c in _given(outcome, kept)}.values()])
    records: list[Record | None] = []
    report = outcome.report
    if read is not None:
        fitted = fit(call, job, outcome, kept, read, rounds)
        kept, records, report = fitted.kept, fitted.records, fitted.report
    rows: list[Completed | None] = list(spread(list(kept), outcome.answered))
    for row, problem in outcome.report.errors.items():
        if isinstance(problem, ContentPolicyError):
            rows[row] = Completed.of_blocked(problem)
    price, shared = call.session.price(job.model), job.max_items > 1
    if schema is None:
        return Answers(text_column(kept, outcome, index, name=name), rows, report, None, price, shared)
    by_row = list(spread(list(records), outcome.answered))
    values = spread([None if record is None else record.fields for record in records], outcome.answered)
    made: pd.Series[Any] = pd.Series(values, index=index, dtype=object, name=name)
    return Answers(made, rows, report, schema, price, shared, by_row)


def _given(outcome: Outcome, kept: Sequence[Completed | None]) -> list[Completed]:
    """The completions of each row, those of blocked prompts among them."""
    blocked = [Completed.of_blocked(p) for p in outcome.report.errors.values() if isinstance(p, ContentPolicyError)]
    return [c for c in spread(list(kept), outcome.answered) if c is not None] + blocked


def _exchange(completed: Completed) -> object:
    """What tells the request behind an answer: rows that shared one have the same verdict, which counts once."""
    shared = completed.rows > 1 and completed.request_id
    return shared or id(completed)


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
