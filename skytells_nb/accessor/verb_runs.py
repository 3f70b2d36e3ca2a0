"""The runs that a verb turns out to need: none for vectors that are there, else several with one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from skytells_nb.accessor.one_report import summed
from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.totals import Tally
from skytells_nb.engine.report import Report

NO_MODEL = "no model"
"""What a report names where nothing had to be asked."""


class _RowsOfOne(Tally):
    """A tally whose rows and errors are those of one run, however that one ended."""

    main: Report | None = None
    of_rows = False
    """Whether the next run is the one."""

    def __init__(self, call: Call, nothing: Report) -> None:
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
        return replace(summed(main, *others), operation=self._nothing.operation, model=models, state=last.state)


class VerbRuns:
    """The runs of one verb, as a context. The session is asked for with the first: without one, no key is needed.

    ``rows`` are the rows that the verb is about, for the report of a verb that had to ask nothing.
    """

    def __init__(self, operation: str, rows: int, open_call: Callable[[], Call]) -> None:
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

    def call(self, *, of_rows: bool = False) -> Call:
        """The call for the next run, with what is left of the budget.

        Rows and errors of the whole are those of the run ``of_rows``, also where it is interrupted.
        """
        tally = self._begun()
        tally.of_rows = of_rows
        return tally.call()

    def will_complete(self, model: str | None) -> None:
        """A later run asks this chat model; raises InputError now where the budget cannot be kept for it."""
        call = self._begun().call()
        call.check_budget(model or call.session.settings.model)

    def add(self, report: Report) -> None:
        """A run that ended."""
        self._begun().add(report)
        self._asked = True

    def blame(self, errors: Mapping[int, Exception]) -> None:
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
