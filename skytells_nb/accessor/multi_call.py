"""The runs that a verb turns out to need: none for vectors that are there, else several with one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from skytells_nb.accessor.call import VectorizedCall, attach_report, get_report
from skytells_nb.engine.report import Report


def sum_reports(first: Report, *others: Report) -> Report:
    """The first report, with what all of them used: requests, retries, tokens, dollars, seconds.

    Rows, answers and errors are those of ``first``, whose rows the caller sees.
    """
    reports = (first, *others)
    costs = [report.cost for report in reports if report.cost is not None]
    return replace(
        first,
        requests=sum(report.requests for report in reports),
        retries=sum(report.retries for report in reports),
        tokens_in=sum(report.tokens_in for report in reports),
        tokens_out=sum(report.tokens_out for report in reports),
        cost=sum(costs) if len(costs) == len(reports) else None,
        seconds=sum(report.seconds for report in reports),
        limit=next((report.limit for report in reversed(reports) if report.limit), None),
    )


def replace_reports(call: VectorizedCall, whole: Report, parts: Sequence[Report]) -> Report:
    """Put the report of the whole call in the place of its parts, for the session and for what was asked."""
    *others, newest = parts
    call.session.revise_report(newest, whole, *others)
    if call.owner is not None:
        attach_report(call.owner, whole)
    return whole


class CallTotals:
    """The runs of one verb, as a context: each may spend what the ones before left of the budget.

    However the verb ends, the frame it was asked of has the total as its report.
    """

    def __init__(self, call: VectorizedCall) -> None:
        self._call = call
        self._reports: list[Report] = []
        self._before: Report | None = None

    def __enter__(self) -> Self:
        self._before = self._known()
        return self

    def call(self) -> VectorizedCall:
        """The call for the next run."""
        budget = self._call.budget
        if budget is None:
            return self._call
        # A limit that is no number goes on to the engine, which says so.
        spent = sum(report.cost or 0.0 for report in self._reports)
        return replace(self._call, budget=max(0.0, budget - spent)) if spent else self._call

    def add(self, report: Report) -> None:
        """A run that came to its end."""
        self._reports.append(report)

    def total(self) -> Report:
        """Rows, errors and ending of the last run, with what all of them sent and spent."""
        *others, last = self._reports
        return replace(sum_reports(last, *others), state=last.state)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._known()
        # A run that raised has left its report with the frame and not here.
        if problem is not None and last is not None and all(last is not r for r in (*self._reports, self._before)):
            self.add(last)
        if self._reports:
            replace_reports(self._call, self.total(), self._reports)

    def _known(self) -> Report | None:
        return None if self._call.owner is None else get_report(self._call.owner)[0]


NO_MODEL = "no model"
"""What a report names where nothing had to be asked."""


class _RowsOfOne(CallTotals):
    """A tally whose rows and errors are those of one run, however that one ended."""

    main: Report | None = None
    of_rows = False
    """Whether the next run is the one."""

    def __init__(self, call: VectorizedCall, nothing: Report) -> None:
        super().__init__(call)
        self._nothing = nothing

    def add(self, report: Report) -> None:
        super().add(report)
        if self.of_rows:
            self.main = report

    def shown(self) -> Report:
        """The run of the rows; before there is one, the last run with rows that had to ask nothing."""
        rows, last = self._nothing.rows, self._reports[-1]
        answered = rows if last.state == "done" else 0
        return self.main or replace(last, rows=rows, nulls=0, answered=answered, failed=0, errors={}, partial=None)

    def put_main(self, report: Report) -> None:
        """Put this in the place of the run of the rows, else of the last."""
        old = self.main or self._reports[-1]
        self._reports = [report if known is old else known for known in self._reports]
        self.main = report

    def total(self) -> Report:
        main, last = self.shown(), self._reports[-1]
        others = [report for report in self._reports if report is not (self.main or last)]
        models = ", ".join(dict.fromkeys(report.model for report in self._reports))
        return replace(sum_reports(main, *others), operation=self._nothing.operation, model=models, state=last.state)


class MultiRun:
    """The runs of one verb, as a context. The session is asked for with the first: without one, no key is needed.

    ``rows`` are the rows that the verb is about, for the report of a verb that had to ask nothing.
    """

    def __init__(self, operation: str, rows: int, open_call: Callable[[], VectorizedCall]) -> None:
        self._nothing = Report(operation, NO_MODEL, "done", rows=rows, answered=rows, cost=0.0)
        self._open = open_call
        self._stack = ExitStack()
        self._tally: _RowsOfOne | None = None
        self._asked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, problem, trace)

    def call(self, *, of_rows: bool = False) -> VectorizedCall:
        """The call for the next run, with what is left of the budget.

        Rows and errors of the whole are those of the run ``of_rows``, also where it is interrupted.
        """
        tally = self._begun()
        tally.of_rows = of_rows
        return tally.call()

    def check_budget_for(self, model: str | None) -> None:
        """A later run asks this chat model; raises InputError now where the budget cannot be kept for it."""
        call = self._begun().call()
        call.check_budget(model or call.session.settings.model)

    def add(self, report: Report) -> None:
        """A run that ended."""
        self._begun().add(report)
        self._asked = True

    def add_errors(self, errors: Mapping[int, Exception]) -> None:
        """Rows of the main run, or of the verb, that failed in the last run."""
        tally = self._begun()
        base = tally.shown()
        fresh = {row: problem for row, problem in errors.items() if row not in base.errors}
        tally.put_main(
            replace(
                base,
                errors=dict(sorted({**base.errors, **fresh}.items())),
                failed=base.failed + len(fresh),
                answered=base.answered - len(fresh),
            )
        )

    @property
    def report(self) -> Report:
        """All runs so far in one."""
        return self._begun().total() if self._asked else self._nothing

    def _begun(self) -> _RowsOfOne:
        if self._tally is None:
            self._tally = self._stack.enter_context(_RowsOfOne(self._open(), self._nothing))
        return self._tally
