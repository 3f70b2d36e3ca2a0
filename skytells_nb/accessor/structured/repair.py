"""Answers that do not fit their schema are asked for again, with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any

import numpy as np

from skytells_nb.accessor.call import VectorizedCall, completions, take
from skytells_nb.accessor.multi_call import settle, sum_reports
from skytells_nb.accessor.structured.schema import Record
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job, follow_up_input, follow_up_job
from skytells_nb.engine.operations.response_format import with_format_fallback
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import (
    BudgetExceededError,
    ContentPolicyError,
    InputError,
    Interrupted,
    InvalidResponseError,
    RowError,
)

REPAIRS = 2
MOST_REPAIRS = 10
_LONGEST_FAULT = 200
"""Characters of what is wrong that a row's error quotes."""
_ASK_AGAIN = "That answer cannot be used: {fault}. Answer again with one JSON object that fits, and nothing else."


def check_repair(repair: Any) -> int:
    """How often an answer may be asked for again; raises InputError for what is no such number."""
    if not isinstance(repair, Integral) or isinstance(repair, bool) or not 0 <= int(repair) <= MOST_REPAIRS:
        raise InputError(
            f"repair says how often an answer that does not fit is asked for again, 0 to {MOST_REPAIRS}; "
            f"found {repair!r}."
        )
    return int(repair)


@dataclass(slots=True)
class ParseAttempt:
    """The answer to one distinct input, and what became of reading it."""

    completed: CachedCompletion
    """With the tokens of all tries."""
    record: Record | None = None
    fault: str = ""
    """What is wrong with the last answer."""
    final: bool = False
    """Whether asking again would not help."""
    failure: str = ""
    """Why the last try to ask again brought no answer."""
    tries: int = 1
    said: list[dict[str, str]] = field(default_factory=list)
    """What was said after the prompt: each bad answer, and what is wrong with it."""

    @property
    def error(self) -> InvalidResponseError | None:
        """The error of the rows that this answers, ``None`` where it fits."""
        if self.record is not None:
            return None
        asked = f", asked {self.tries} times" if self.tries > 1 else ""
        return InvalidResponseError(
            f"The answer does not fit the schema{asked}: {self.fault[:_LONGEST_FAULT]}{self.failure}",
            request_id=self.completed.request_id,
        )

    def read(self, read: Callable[[str], Record]) -> None:
        """Read the answer that is there now."""
        completed = self.completed
        try:
            self.record = read(completed.text)
            return
        except Exception as problem:
            # A schema's validators are the caller's code and may raise anything.
            told = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
        self.fault = " ".join(told.split())
        if completed.blocked or completed.finish_reason == "content_filter":
            self.fault, self.final = "the safety filter withheld it", True
        elif completed.finish_reason == "length":
            self.fault, self.final = "it was cut before it was whole; give it more room with max_tokens", True
        answer = [{"role": "assistant", "content": completed.text}] if completed.text.strip() else []
        self.said += [*answer, {"role": "user", "content": _ASK_AGAIN.format(fault=self.fault.rstrip("."))}]

    def again(self, completed: CachedCompletion, read: Callable[[str], Record]) -> None:
        """Read the answer of another try."""
        before = self.completed
        self.completed = replace(
            completed,
            tokens_in=before.tokens_in + completed.tokens_in,
            tokens_out=before.tokens_out + completed.tokens_out,
        )
        self.tries += 1
        self.read(read)


@dataclass(frozen=True)
class RepairCall(VectorizedCall):
    """A call for the rows of another one; that one shows and keeps the report of both."""

    reports: list[Report] = field(default_factory=list)

    @classmethod
    def of(cls, call: VectorizedCall) -> RepairCall:
        given = {one.name: getattr(call, one.name) for one in fields(VectorizedCall)}
        return cls(**{**given, "asker": None, "on_error": "null"})

    def ended(self, report: Report) -> None:
        self.session.record_run(report)
        self.reports.append(report)

    def revise(self, report: Report, **more: Any) -> Report:
        revised = super().amend(report, **more)
        self.reports[:] = [revised if known is report else known for known in self.reports]
        return revised


def repair(
    call: RepairCall,
    job: Job,
    prompts: Sequence[str],
    readings: Mapping[int, ParseAttempt],
    read: Callable[[str], Record],
    rounds: int,
    first: Report,
) -> None:
    """Ask again, up to ``rounds`` times, for those of ``readings`` (by number of their prompt) that do not fit.

    Each is a conversation of its own: the prompt, the answer that did not fit, what is wrong with it. Raises what any
    run raises; ``call.reports`` then has all that was done.
    """
    asked = replace(with_format_fallback(follow_up_job(job), call.session.origin), operation="repair")
    for _ in range(rounds):
        wrong = [n for n, reading in readings.items() if reading.record is None and not reading.final]
        if not wrong:
            return
        spent = sum_reports(first, *call.reports).cost
        left = None if call.budget is None else max(0.0, call.budget - (spent or 0.0))
        texts = np.array([follow_up_input(job, prompts[n], readings[n].said) for n in wrong], dtype=object)
        outcome = replace(call, budget=left).run(asked, texts, column=lambda _: None)
        answers = take(list(completions(outcome)), outcome.result_index)
        for place, (number, completed) in enumerate(zip(wrong, answers, strict=True)):
            reading, problem = readings[number], outcome.report.errors.get(place)
            if completed is not None:
                reading.again(completed, read)
            else:
                reading.final, reading.failure = True, f". Asking again failed: {type(problem).__name__}: {problem}"
            if isinstance(problem, ContentPolicyError):
                completed = CachedCompletion.of_blocked(problem)
            call.session.record_safety([] if completed is None else [completed.safety])


@dataclass(frozen=True, slots=True)
class ParsedAnswers:
    """Answers by number of their distinct input; ``report`` has an error for each row whose answer does not fit."""

    kept: list[CachedCompletion | None]
    records: list[Record | None]
    report: Report


def parse_with_repair(
    call: VectorizedCall,
    job: Job,
    outcome: RunResult,
    kept: Sequence[CachedCompletion | None],
    read: Callable[[str], Record],
    rounds: int,
) -> ParsedAnswers:
    """Read each answer of a run, and ask up to ``rounds`` times again for those that do not fit.

    Raises RowError under ``on_error="raise"`` where one does not fit in the end, and what a run raises.
    """
    readings = {number: ParseAttempt(completed) for number, completed in enumerate(kept) if completed is not None}
    for reading in readings.values():
        reading.read(read)
    again = RepairCall.of(call)
    try:
        repair(again, job, outcome.plan.inputs, readings, read, rounds, outcome.report)
    except BaseException as problem:
        report = _report(outcome, readings, again.reports)
        if isinstance(problem, Interrupted):
            report = replace(report, partial=_fields(outcome, readings, len(kept)))
        if isinstance(problem, BudgetExceededError) and call.budget is not None:
            problem.add_note(f"Of budget={call.budget:.4g}, ${report.cost or 0.0:.4g} is spent on the whole call.")
        settle(call, report, [outcome.report, *again.reports])
        raise
    report = _report(outcome, readings, again.reports)
    if again.reports or report.errors != outcome.report.errors:
        settle(call, report, [outcome.report, *again.reports])
    unfit = {row: problem for row, problem in report.errors.items() if row not in outcome.report.errors}
    if unfit and call.on_error == "raise":
        raise RowError(f"{len(unfit):,} answers do not fit the schema: {next(iter(unfit.values()))}", report=report)
    if unfit:
        call.warn_of_failures(replace(report, errors=unfit, failed=len(unfit)))
    found = [readings.get(number) for number in range(len(kept))]
    completed = [None if reading is None else reading.completed for reading in found]
    return ParsedAnswers(completed, [None if reading is None else reading.record for reading in found], report)


def _report(outcome: RunResult, readings: dict[int, ParseAttempt], others: Sequence[Report]) -> Report:
    """The report of all runs, with the errors of rows whose answers do not fit."""
    problems = {number: problem for number, reading in readings.items() if (problem := reading.error) is not None}
    rows = np.flatnonzero(np.isin(outcome.result_index, list(problems))).tolist() if problems else []
    errors: dict[int, Exception] = {row: problems[int(outcome.result_index[row])] for row in rows}
    whole = sum_reports(outcome.report, *others)
    return replace(
        whole,
        state=others[-1].state if others else whole.state,
        errors=dict(sorted({**whole.errors, **errors}.items())),
        failed=whole.failed + len(errors),
        answered=whole.answered - len(errors),
    )


def _fields(outcome: RunResult, readings: dict[int, ParseAttempt], count: int) -> Any:
    """What an interrupted call has to show: the fields of each row that has them."""
    records = [readings[number].record if number in readings else None for number in range(count)]
    return take([None if record is None else record.fields for record in records], outcome.result_index)
