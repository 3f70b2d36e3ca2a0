"""Methods with several runs and one report: a shared budget, and the sum of what the runs used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from skytells_nb.accessor.call import VectorizedCall, end_run, get_report
from skytells_nb.engine.report import CascadeReport, Report
from skytells_nb.errors import BudgetExceededError, Interrupted, SkytellsError
from skytells_nb.formatting import format_digits
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.progress.line import LongStep
from skytells_nb.progress.long_step import long_step


def sum_reports(first: Report, *others: Report) -> Report:
    """Return the first report with the sums of all: requests, retries, tokens, dollars, seconds.

    Rows, answers and errors are those of ``first``, whose rows the caller sees.
    """
    reports = (first, *others)
    costs = [report.cost for report in reports if report.cost is not None]
    bounds = [report.cost_upper_bound for report in reports if report.cost_upper_bound is not None]
    is_known = all(report.cost is not None or report.missing_usage or not report.requests for report in reports)
    return replace(
        first,
        requests=sum(report.requests for report in reports),
        retries=sum(report.retries for report in reports),
        tokens_in=sum(report.tokens_in for report in reports),
        tokens_out=sum(report.tokens_out for report in reports),
        cost=sum(costs) if costs and is_known else None,
        missing_usage=sum(report.missing_usage for report in reports),
        cost_upper_bound=sum(bounds) if bounds else None,
        seconds=sum(report.seconds for report in reports),
        limit=next((report.limit for report in reversed(reports) if report.limit), None),
    )


def budget_note(budget: float, total: Report) -> str:
    """Return what a whole call spent of its budget, as the budget counts it: usage that was not reported included."""
    spent = (total.cost or 0.0) if total.cost_upper_bound is None else total.cost_upper_bound
    return f"${format_digits(spent)} of budget={format_digits(budget)} was used by the whole call."


def replace_reports(call: VectorizedCall, total: Report, parts: Sequence[Report]) -> Report:
    """Replace the reports of the parts of a call by that of the whole, for the session and the owner of the call."""
    *others, newest = parts
    call.session.revise_report(newest, total, *others)
    call.attach(total)
    return total


class CallTotals:
    """Context of the runs of one method: each may spend what the earlier ones left of the budget.

    However the method ends, the frame that it was called on has the total as its report.
    """

    def __init__(self, call: VectorizedCall) -> None:
        self._call = call
        self._reports: list[Report] = []
        self._previous: Report | None = None

    def __enter__(self) -> Self:
        self._previous = self._attached_report()
        return self

    def call(self) -> VectorizedCall:
        """Return the call for the next run."""
        budget = self._call.budget
        if budget is None:
            return self._call
        # The engine rejects a budget that is not a number.
        spent = sum(report.cost_upper_bound or report.cost or 0.0 for report in self._reports)
        return replace(self._call, budget=max(0.0, budget - spent)) if spent else self._call

    def add(self, report: Report) -> None:
        """Add the report of a run that ended."""
        self._reports.append(report)

    @property
    def budget(self) -> float | None:
        """The budget of all runs together, in US dollars."""
        return self._call.budget

    @property
    def has_runs(self) -> bool:
        """Whether a run ended so far, however it did."""
        return bool(self._reports)

    def total(self) -> Report:
        """Return rows, errors and state of the last run, with the sums of all runs."""
        *others, last = self._reports
        return replace(sum_reports(last, *others), state=last.state)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._attached_report()
        # A run that raised attached its report to the frame without add().
        if problem is not None and last is not None and all(last is not r for r in (*self._reports, self._previous)):
            self.add(last)
        if self._reports:
            replace_reports(self._call, self.total(), self._reports)

    def _attached_report(self) -> Report | None:
        return None if self._call.owner is None else get_report(self._call.owner)[0]


NO_MODEL = "no model"
"""The model in the report of a method that sent nothing."""


class _MainRunTotals(CallTotals):
    """Totals whose rows and errors are those of one run, the main one, however it ended."""

    main: Report | None = None
    next_is_main = False
    """Whether the next run is the main one."""

    def __init__(self, call: VectorizedCall, empty_report: Report) -> None:
        super().__init__(call)
        self._empty_report = empty_report

    def add(self, report: Report) -> None:
        super().add(report)
        if self.next_is_main:
            self.main = report

    def main_report(self) -> Report:
        """Return the report of the main run; without one, that of the last run with all rows answered."""
        rows, last = self._empty_report.rows, self._reports[-1]
        answered = rows if last.state == "done" else 0
        return self.main or replace(last, rows=rows, nulls=0, answered=answered, failed=0, errors={}, partial=None)

    def replace_main(self, report: Report) -> None:
        """Replace the report of the main run, without one that of the last run; the session's too, if it has it."""
        old = self.main or self._reports[-1]
        self._call.session.revise_report(old, report)
        self._reports = [report if known is old else known for known in self._reports]
        self.main = report

    def total(self) -> Report:
        main, last = self.main_report(), self._reports[-1]
        others = [report for report in self._reports if report is not (self.main or last)]
        models = ", ".join(dict.fromkeys(report.model for report in self._reports))
        return replace(
            sum_reports(main, *others), operation=self._empty_report.operation, model=models, state=last.state
        )


class MultiRun:
    """Context of the runs of one method. The first run opens the session: without a run, no API key is needed.

    ``rows`` is the number of rows of the method, for the report if it sends nothing. An error that ends the method has
    the total as its report, and the frame that ``unfinished`` makes of it if its run has none.
    """

    def __init__(
        self,
        operation: str,
        rows: int,
        open_call: Callable[[], VectorizedCall],
        unfinished: Callable[[Report], Any] | None = None,
        progress: bool | ProgressCallback = False,
    ) -> None:
        self._progress = progress
        self._empty_report = Report(operation, NO_MODEL, "done", rows=rows, answered=rows, cost=0.0)
        self._open = open_call
        self._stack = ExitStack()
        self._totals: _MainRunTotals | None = None
        self._has_runs = False
        self._unfinished = unfinished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, problem, trace)
        if isinstance(problem, (SkytellsError, Interrupted)) and self._totals is not None and self._totals.has_runs:
            problem.report = self._totals.total()
            if isinstance(problem, BudgetExceededError) and self._totals.budget is not None:
                problem.add_note(budget_note(self._totals.budget, problem.report))
            # What cannot become a frame must not turn one error into another.
            with suppress(Exception):
                if problem.frame is None and self._unfinished is not None:
                    problem.frame = self._unfinished(problem.report)

    def call(self, *, main: bool = False, last: bool | None = None) -> VectorizedCall:
        """Return the call for the next run, with the remaining budget.

        The total has the rows and errors of the ``main`` run, even if it is interrupted. A dry run ends with the
        ``last`` run, which is the main one unless it is said.
        """
        totals = self._open_totals()
        totals.next_is_main = main
        call = totals.call()
        return call if call.dry_run is None else replace(call, is_main=main, is_last=main if last is None else last)

    def step(
        self, step: str, total: int = 0, unit: str = "rows", *, prepares: bool = False
    ) -> AbstractContextManager[LongStep]:
        """Return a context that reports the progress of a step without requests, as ``long_step`` does.

        >>> with MultiRun("dedupe", 9, lambda: None).step("comparing", 9) as on_progress:
        ...     on_progress(4)
        """
        # The line of the run before is at its end.
        end_run()
        label = self._empty_report.operation
        return long_step(label, self._progress, step=step, total=total, unit=unit, prepares=prepares)

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is sent."""
        return self._open_totals().call().dry_run is not None

    def note(self, text: str) -> None:
        """Add a note to the estimate of a dry run."""
        dry_run = self._open_totals().call().dry_run
        if dry_run is not None:
            dry_run.notes.append(text)

    def check_budget_for(self, model: str | None) -> None:
        """Raise InputError if the budget cannot be enforced for this chat model, before earlier runs are paid."""
        call = self._open_totals().call()
        call.check_budget(call.chat_model(model))

    def add(self, report: Report) -> None:
        """Add the report of a run that ended."""
        self._open_totals().add(report)
        self._has_runs = True

    def replace_main(self, report: Report) -> None:
        """Replace the report of the main run by this one."""
        self._open_totals().replace_main(report)

    def add_errors(self, errors: Mapping[int, Exception]) -> None:
        """Add errors of the last run to the rows of the main run, or of the method."""
        totals = self._open_totals()
        base = totals.main_report()
        new_errors = {row: problem for row, problem in errors.items() if row not in base.errors}
        totals.replace_main(
            replace(
                base,
                errors=dict(sorted({**base.errors, **new_errors}.items())),
                failed=base.failed + len(new_errors),
                answered=base.answered - len(new_errors),
            )
        )

    @property
    def warns(self) -> bool:
        """Whether rows that fail are warned of."""
        return self._open_totals().call().on_error == "warn"

    def revise(self, errors: Mapping[int, Exception], nulls: int, **more: Any) -> None:
        """Say in the report of the whole, which has runs, how the rows of the method ended."""
        totals = self._open_totals()
        base = totals.main_report()
        revised = replace(
            base,
            errors=dict(sorted(errors.items())),
            failed=len(errors),
            nulls=nulls,
            answered=base.rows - nulls - len(errors),
            **more,
        )
        totals.replace_main(revised)

    def set_recall(self, recall: float) -> None:
        """State the recall of an approximate comparison in the report; nothing if it was exact."""
        if recall == 1:
            return
        if self._has_runs:
            totals = self._open_totals()
            totals.replace_main(replace(totals.main_report(), recall=recall))
        else:
            self._empty_report = replace(self._empty_report, recall=recall)

    def set_cascade(self, outcome: CascadeReport) -> None:
        """State in the report what a cascade left to its proxy, where its texts are not the rows of the method."""
        totals = self._open_totals()
        totals.replace_main(replace(totals.main_report(), cascade=outcome))

    @property
    def report(self) -> Report:
        """The total of all runs so far."""
        return self._open_totals().total() if self._has_runs else self._empty_report

    def _open_totals(self) -> _MainRunTotals:
        if self._totals is None:
            self._totals = self._stack.enter_context(_MainRunTotals(self._open(), self._empty_report))
        return self._totals
