"""A verb that takes several runs: one budget and one report for all of them."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Self

from skytells_nb.accessor.one_report import settle, summed
from skytells_nb.accessor.runs import Call, remembered
from skytells_nb.engine.report import Report


class Tally:
    """The runs of one verb, as a context: each may spend what the ones before left of the budget.

    However the verb ends, the frame it was asked of has the total as its report.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reports: list[Report] = []
        self._before: Report | None = None

    def __enter__(self) -> Self:
        self._before = self._known()
        return self

    def call(self) -> Call:
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
        return replace(summed(last, *others), state=last.state)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._known()
        # A run that raised has left its report with the frame and not here.
        if problem is not None and last is not None and all(last is not r for r in (*self._reports, self._before)):
            self.add(last)
        if self._reports:
            settle(self._call, self.total(), self._reports)

    def _known(self) -> Report | None:
        return None if self._call.asker is None else remembered(self._call.asker)[0]
