"""From the answers of a run to records of a schema: read, asked for again where they do not fit, accounted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skytells_nb.accessor.one_report import settle, summed
from skytells_nb.accessor.repair import Reading, RepairCall, repair
from skytells_nb.accessor.runs import Call, spread
from skytells_nb.accessor.typed import Record
from skytells_nb.engine.job import Job
from skytells_nb.engine.outcome import Outcome
from skytells_nb.engine.report import Report
from skytells_nb.engine.work import Completed
from skytells_nb.errors import BudgetExceededError, Interrupted, RowError


@dataclass(frozen=True, slots=True)
class Fitted:
    """Answers by number of their distinct input; ``report`` has an error for each row whose answer does not fit."""

    kept: list[Completed | None]
    records: list[Record | None]
    report: Report


def fit(
    call: Call,
    job: Job,
    outcome: Outcome,
    kept: Sequence[Completed | None],
    read: Callable[[str], Record],
    rounds: int,
) -> Fitted:
    """Read each answer of a run, and ask up to ``rounds`` times again for those that do not fit.

    Raises RowError under ``on_error="raise"`` where one does not fit in the end, and what a run raises.
    """
    readings = {number: Reading(completed) for number, completed in enumerate(kept) if completed is not None}
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
    return Fitted(completed, [None if reading is None else reading.record for reading in found], report)


def _report(outcome: Outcome, readings: dict[int, Reading], others: Sequence[Report]) -> Report:
    """The report of all runs, with the errors of rows whose answers do not fit."""
    problems = {number: problem for number, reading in readings.items() if (problem := reading.error) is not None}
    rows = np.flatnonzero(np.isin(outcome.answered, list(problems))).tolist() if problems else []
    errors: dict[int, Exception] = {row: problems[int(outcome.answered[row])] for row in rows}
    whole = summed(outcome.report, *others)
    return replace(
        whole,
        state=others[-1].state if others else whole.state,
        errors=dict(sorted({**whole.errors, **errors}.items())),
        failed=whole.failed + len(errors),
        answered=whole.answered - len(errors),
    )


def _fields(outcome: Outcome, readings: dict[int, Reading], count: int) -> Any:
    """What an interrupted call has to show: the fields of each row that has them."""
    records = [readings[number].record if number in readings else None for number in range(count)]
    return spread([None if record is None else record.fields for record in records], outcome.answered)
