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
    """A tally whose rows and errors are those of a named run."""

    main: Report | None = None

    def __init__(self, call: Call, operation: str) -> None:
        super().__init__(call)
        self._operation = operation

    @property
    def last(self) -> Report:
        return self._reports[-1]

    def put_main(self, report: Report) -> None:
        """Put this in the place of the main run, else of the last."""
        old = self.main or self.last
        self._reports = [report if known is old else known for known in self._reports]
        self.main = report

    def total(self) -> Report:
        main = self.main or self.last
        others = [report for report in self._reports if report is not main]
        models = ", ".join(dict.fromkeys(report.model for report in self._reports))
        return replace(summed(main, *others), operation=self._operation, model=models, state=self.last.state)


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

    def call(self) -> Call:
        """The call for the next run, with what is left of the budget."""
        return self._begun().call()

    def add(self, report: Report, *, main: bool = False) -> None:
        """A run that ended; the rows and errors of the whole are those of the ``main`` one, else of the last."""
        tally = self._begun()
        tally.add(report)
        self._asked = True
        if main:
            tally.main = report

    def blame(self, errors: Mapping[int, Exception]) -> None:
        """Rows of the main run, or of the verb, that failed in the last run."""
        tally = self._begun()
        rows = self._nothing.rows
        base = tally.main or replace(tally.last, rows=rows, nulls=0, answered=rows, failed=0, errors={})
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
            self._tally = self._stack.enter_context(_RowsOfOne(self._open(), self._nothing.operation))
        return self._tally
