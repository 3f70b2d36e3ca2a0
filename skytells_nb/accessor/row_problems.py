"""Rows that were not sent, or got an answer without a word: each is null, and its report says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.values import Answers
from skytells_nb.engine.completed import Completed
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import AnswerError, InputError, RowError


def refuse(problems: Mapping[int, InputError], on_error: OnError) -> None:
    """Raises InputError where rows cannot be sent and ``on_error`` is "raise"."""
    if problems and on_error == "raise":
        row, reason = min(problems.items())
        raise InputError(f"Row {row} cannot be sent: {reason}. Nothing was sent ({len(problems):,} such rows).")


def told(call: Call, answers: Answers, problems: Mapping[int, InputError]) -> Answers:
    """The answers with an error for each row that could not be sent, and for each whose answer is empty.

    Raises RowError for an empty one under ``on_error="raise"``.
    """
    known = answers.report.errors
    unsaid: dict[int, Exception] = {
        row: _empty(completed)
        for row, completed in enumerate(answers.rows)
        if completed is not None and completed.is_unsaid
    }
    fresh: dict[int, Exception] = {row: why for row, why in unsaid.items() if row not in known}
    if not problems and not unsaid:
        return answers
    new: dict[int, Exception] = {**problems, **fresh}
    errors = dict(sorted({**known, **unsaid, **problems}.items()))
    report = call.revise(
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


def _empty(completed: Completed) -> AnswerError:
    return AnswerError(
        f"The answer is empty: all its {completed.tokens_out:,} tokens went to reasoning, and more room was no help. "
        "Raise max_tokens, or lower reasoning_effort",
        request_id=completed.request_id,
    )
