"""Calls that send nothing, and calls on a sample: what their runs leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.planning import RowTexts, plan
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.engine.results import RunResult

if TYPE_CHECKING:
    from skytells_nb.accessor.call import VectorizedCall


class DryRunComplete(Exception):
    """Ends a method that sends nothing: all that it would send is estimated."""


class DryRun:
    """What the runs of a method would send, in place of sending it."""

    def __init__(self, *, asks_catalog: bool = False) -> None:
        self.asks_catalog = asks_catalog
        """Whether the catalog is read for prices."""
        self.estimates: list[Estimate] = []
        self.notes: list[str] = []
        self.has_placeholders = False
        """Whether placeholders stand for the results of a run, so that what follows from them is not known."""
        self.main: int = -1
        """The position of the estimate whose inputs are the rows of the method."""
        self.codes: NDArray[np.int64] | None = None
        """The number of the distinct input of each row in that run, -1 for none."""

    def run(self, call: VectorizedCall, job: Job, texts: RowTexts) -> RunResult:
        """Add the estimate of a run; return results that stand for those that it would have.

        Raises DryRunComplete if it is the last run of the method.
        """
        self.estimates.append(call.estimate(job, texts))
        planned = plan(texts, max_tokens=job.max_input_tokens)
        if call.is_main:
            self.main, self.codes = len(self.estimates) - 1, planned.codes
        if call.is_last:
            raise DryRunComplete
        if not self.estimates[-1].requests:
            return call.engine.run(job, texts, on_error="null")  # from the cache
        self.has_placeholders = True
        buffer = job.operation.make_buffer(len(planned.inputs))
        if len(planned.inputs):
            # Different answers of the expected length, and vectors that are similar to none.
            numbers, words = np.arange(len(planned.inputs)), " word" * round(0.8 * job.operation.output_tokens())
            answers = [CachedCompletion(f"{number}{words}").to_bytes() for number in numbers.tolist()]
            buffer.put(numbers, np.zeros((len(numbers), 1), dtype=np.float32) if job.single is None else answers)
        report = Report(job.name, job.model, "done", rows=planned.rows, distinct=len(planned.inputs))
        return RunResult(planned, buffer, buffer.filled, report)


class SampleRun:
    """The reports of all runs of a method on a sample of its rows."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.max_in_flight = 1
        """Requests that the method may have in flight at once."""
