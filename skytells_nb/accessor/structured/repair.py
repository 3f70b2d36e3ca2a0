"""Retry answers that do not match their schema, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any

import numpy as np

from skytells_nb.accessor.call import VectorizedCall, building, completions, take
from skytells_nb.accessor.multi_call import budget_note, replace_reports, sum_reports
from skytells_nb.accessor.structured.schema import Record
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job, follow_up_input, follow_up_job
from skytells_nb.engine.report import Report
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import (
    BudgetExceededError,
    ContentPolicyError,
    InputError,
    Interrupted,
    InvalidResponseError,
    RefusalError,
    RowError,
    SkytellsError,
)

DEFAULT_REPAIRS = 2
"""Default number of retries for an answer that does not match its schema."""
MAX_REPAIRS = 10
PARSED_AT_ONCE = 1_000
"""Answers between two looks at the progress line."""
_MAX_REASON_CHARACTERS = 200
"""Characters of the reason that a row's error quotes."""
_RETRY_PROMPT = "That answer cannot be used: {fault}. Answer again with one JSON object that fits, and nothing else."


def check_repair(repair: Any) -> int:
    """Return the number of retries; raise InputError if it is not an integer from 0 to ``MAX_REPAIRS``."""
    if not isinstance(repair, Integral) or isinstance(repair, bool) or not 0 <= int(repair) <= MAX_REPAIRS:
        raise InputError(
            f"repair must be an integer from 0 to {MAX_REPAIRS} (retries of an answer that does not match its schema), "
            f"got {repair!r}."
        )
    return int(repair)


@dataclass(slots=True)
class ParseAttempt:
    """The answer to one distinct input, and the state of parsing it."""

    completed: CachedCompletion
    """The latest answer, with the tokens of all attempts."""
    record: Record | None = None
    reason: str = ""
    """Why the latest answer does not fit."""
    final: bool = False
    """Whether a retry would not help."""
    retry_failure: str = ""
    """Why the latest retry returned no answer."""
    attempts: int = 1
    follow_up: list[dict[str, str]] = field(default_factory=list)
    """Messages after the prompt: each answer that does not fit, and the reason."""
    retries: dict[str, bytes] = field(default_factory=dict)
    """The answers of the retries as the cache has them, by input."""

    @property
    def error(self) -> InvalidResponseError | None:
        """The error of the rows with this input, ``None`` if the answer fits."""
        if self.record is not None:
            return None
        asked = f", asked {self.attempts} times" if self.attempts > 1 else ""
        return InvalidResponseError(
            f"The answer does not match the schema{asked}: {self.reason[:_MAX_REASON_CHARACTERS]}{self.retry_failure}",
            request_id=self.completed.request_id,
        )

    def parse(self, parser: Callable[[str], Record]) -> None:
        """Parse the latest answer."""
        completed = self.completed
        try:
            self.record = parser(completed.text)
            return
        except Exception as problem:
            # A schema's validators are the caller's code and may raise anything.
            reason = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
        self.reason = " ".join(reason.split())
        if completed.blocked or completed.finish_reason == "content_filter":
            self.reason, self.final = "the safety filter withheld it", True
        elif completed.finish_reason == "length":
            self.reason, self.final = "it was cut off at the token limit; raise max_tokens", True
        answer = [{"role": "assistant", "content": completed.text}] if completed.text.strip() else []
        self.follow_up += [*answer, {"role": "user", "content": _RETRY_PROMPT.format(fault=self.reason.rstrip("."))}]

    def parse_retry(self, completed: CachedCompletion, parser: Callable[[str], Record]) -> None:
        """Parse the answer of a retry, and count its tokens."""
        before = self.completed
        self.completed = replace(
            completed,
            tokens_in=before.tokens_in + completed.tokens_in,
            tokens_out=before.tokens_out + completed.tokens_out,
        )
        self.attempts += 1
        self.parse(parser)


@dataclass(frozen=True)
class RepairCall(VectorizedCall):
    """A call for some rows of another call, which reports on both."""

    reports: list[Report] = field(default_factory=list)

    @classmethod
    def of(cls, call: VectorizedCall) -> RepairCall:
        values = {one.name: getattr(call, one.name) for one in fields(VectorizedCall)}
        return cls(**{**values, "owner": None, "on_error": "null", "assemble": None})

    def record(self, report: Report) -> None:
        super().record(report)
        self.reports.append(report)

    def amend(self, report: Report, **more: Any) -> Report:
        revised = super().amend(report, **more)
        self.reports[:] = [revised if known is report else known for known in self.reports]
        return revised


def repair(
    call: RepairCall,
    job: Job,
    prompts: Sequence[str],
    attempts: Mapping[int, ParseAttempt],
    parser: Callable[[str], Record],
    rounds: int,
    first: Report,
) -> None:
    """Retry those of ``attempts`` (by index of their prompt) that do not match, up to ``rounds`` times.

    Each retry is a conversation of its own: the prompt, the answer that does not fit, and the reason. Raises what any
    run raises; ``call.reports`` then holds the reports of all runs so far.
    """
    follow_up = replace(follow_up_job(job), name="repair")
    for _ in range(rounds):
        invalid = [n for n, attempt in attempts.items() if attempt.record is None and not attempt.final]
        if not invalid:
            return
        spent = sum_reports(first, *call.reports).cost_upper_bound
        budget = None if call.budget is None else max(0.0, call.budget - (spent or 0.0))
        texts = np.array([follow_up_input(job, prompts[n], attempts[n].follow_up) for n in invalid], dtype=object)
        outcome = replace(call, budget=budget).run(follow_up, texts, column=lambda _: None)
        answers = take(list(completions(outcome)), outcome.result_index)
        for position, (number, completed) in enumerate(zip(invalid, answers, strict=True)):
            attempt, problem = attempts[number], outcome.report.errors.get(position)
            if completed is not None:
                attempt.retries[texts[position]] = completed.to_bytes()
                attempt.parse_retry(completed, parser)
            else:
                attempt.final = True
                attempt.retry_failure = f". The retry failed: {type(problem).__name__}: {problem}"
            if isinstance(problem, (ContentPolicyError, RefusalError)):
                completed = CachedCompletion.from_error(problem)
            call.session.record_safety([] if completed is None else [completed.safety])


@dataclass(frozen=True, slots=True)
class ParsedAnswers:
    """Answers by index of their distinct input; ``report`` has an error for each row whose answer does not fit."""

    completions: list[CachedCompletion | None]
    records: list[Record | None]
    report: Report


def parse_once(
    outcome: RunResult, answers: Sequence[CachedCompletion | None], parser: Callable[[str], Record] | None
) -> ParsedAnswers:
    """Parse each answer of a run that ended early; without a parser the answers are texts."""
    if parser is None:
        return ParsedAnswers(list(answers), [], outcome.report)
    attempts = _attempts(answers, parser)
    return _parsed(attempts, len(answers), _report(outcome, attempts, []))


def _attempts(answers: Sequence[CachedCompletion | None], parser: Callable[[str], Record]) -> dict[int, ParseAttempt]:
    attempts = {number: ParseAttempt(answer) for number, answer in enumerate(answers) if answer is not None}
    unparsed = list(attempts.values())
    for start in range(0, len(unparsed), PARSED_AT_ONCE):
        building("parsing answers")
        for attempt in unparsed[start : start + PARSED_AT_ONCE]:
            attempt.parse(parser)
    return attempts


def _parsed(attempts: Mapping[int, ParseAttempt], count: int, report: Report) -> ParsedAnswers:
    by_number = [attempts.get(number) for number in range(count)]
    completed = [None if attempt is None else attempt.completed for attempt in by_number]
    return ParsedAnswers(completed, [None if attempt is None else attempt.record for attempt in by_number], report)


def parse_with_repair(
    call: VectorizedCall,
    job: Job,
    outcome: RunResult,
    answers: Sequence[CachedCompletion | None],
    parser: Callable[[str], Record],
    rounds: int,
    columns: Callable[[ParsedAnswers], Any],
) -> ParsedAnswers:
    """Parse each answer of a run, and retry those that do not match up to ``rounds`` times.

    Those that do not match in the end are marked in the cache, so that a later call requests them again. Raises
    RowError under ``on_error="raise"`` if there are some, and what a run raises, with what ``columns`` makes of the
    rest.
    """
    attempts = _attempts(answers, parser)
    repairs = RepairCall.of(call)
    try:
        repair(repairs, job, outcome.plan.inputs, attempts, parser, rounds, outcome.report)
    except BaseException as problem:
        report = _report(outcome, attempts, repairs.reports)
        if isinstance(problem, Interrupted):
            report = replace(report, partial=_fields(outcome, attempts, len(answers)))
        if isinstance(problem, BudgetExceededError) and call.budget is not None:
            problem.add_note(budget_note(call.budget, report))
        replace_reports(call, report, [outcome.report, *repairs.reports])
        if isinstance(problem, (SkytellsError, Interrupted)):
            call.attach_results(problem, report, columns(_parsed(attempts, len(answers), report)))
        raise
    _mark_mismatches(call, job, outcome, attempts)
    report = _report(outcome, attempts, repairs.reports)
    if repairs.reports or report.normalized or report.errors != outcome.report.errors:
        replace_reports(call, report, [outcome.report, *repairs.reports])
    else:
        # The very report that the session has, by which the one of a whole method finds what it sums up.
        report = outcome.report
    new_errors = {row: problem for row, problem in report.errors.items() if row not in outcome.report.errors}
    if new_errors and call.on_error == "raise":
        first_error = next(iter(new_errors.values()))
        error = RowError(f"{len(new_errors):,} answers do not match the schema: {first_error}", report=report)
        call.attach_results(error, report, columns(_parsed(attempts, len(answers), report)))
        raise error
    if new_errors:
        call.warn_of_failures(replace(report, errors=new_errors, failed=len(new_errors)))
    return _parsed(attempts, len(answers), report)


def _mark_mismatches(call: VectorizedCall, job: Job, outcome: RunResult, attempts: Mapping[int, ParseAttempt]) -> None:
    """Mark the cached answers to inputs that have none that fits, unless it was withheld or cut, or a retry is due."""
    mismatched = {number: attempt for number, attempt in attempts.items() if not (attempt.record or attempt.final)}
    if mismatched:
        answers, inputs = completions(outcome), outcome.plan.inputs
        first = {inputs[number]: c.to_bytes() for number in mismatched if (c := answers[number]) is not None}
        call.engine.mark_schema_mismatch(job, first)
        retried = {text: value for attempt in mismatched.values() for text, value in attempt.retries.items()}
        call.engine.mark_schema_mismatch(follow_up_job(job), retried)


def _report(outcome: RunResult, attempts: dict[int, ParseAttempt], repairs: Sequence[Report]) -> Report:
    """Return the report of all runs, with the errors of rows whose answers do not match."""
    problems = {number: problem for number, attempt in attempts.items() if (problem := attempt.error) is not None}
    rows = np.flatnonzero(np.isin(outcome.result_index, list(problems))).tolist() if problems else []
    errors: dict[int, Exception] = {row: problems[int(outcome.result_index[row])] for row in rows}
    total = sum_reports(outcome.report, *repairs)
    normalized = [number for number, attempt in attempts.items() if attempt.record and attempt.record.normalized]
    return replace(
        total,
        normalized=int(np.isin(outcome.result_index, normalized).sum()) if normalized else 0,
        state=repairs[-1].state if repairs else total.state,
        errors=dict(sorted({**total.errors, **errors}.items())),
        failed=total.failed + len(errors),
        answered=total.answered - len(errors),
    )


def _fields(outcome: RunResult, attempts: dict[int, ParseAttempt], count: int) -> Any:
    """Return the partial result of an interrupted call: the fields of each row that has them."""
    records = [attempts[number].record if number in attempts else None for number in range(count)]
    return take([None if record is None else record.fields for record in records], outcome.result_index)
