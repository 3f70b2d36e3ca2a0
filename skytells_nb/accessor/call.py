"""One vectorized call from texts to a column, and the reports attached to frames and columns."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.options import RunOptions
from skytells_nb.accessor.text_columns import STRING_DTYPE, Texts
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.engine import Engine, OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job, RateOptions
from skytells_nb.engine.report import ProgressCallback, Report, no_progress
from skytells_nb.engine.results import ResultBuffer as Room
from skytells_nb.engine.results import RunResult
from skytells_nb.errors import InputError, Interrupted, SkytellsError, warn
from skytells_nb.session import Session, current


@dataclass(frozen=True)
class VectorizedCall:
    """One call: the session and engine it uses, how it treats errors, and how it reports."""

    session: Session
    engine: Engine
    on_error: OnError
    progress: bool | ProgressCallback
    budget: float | None
    pace: RateOptions
    owner: pd.DataFrame | pd.Series[Any] | None = None
    """The object that gets the report, however the call ends."""

    @classmethod
    def open(
        cls, on_error: OnError, progress: bool | ProgressCallback, options: RunOptions, *, owner: Any = None
    ) -> VectorizedCall:
        if not isinstance(progress, bool) and not callable(progress):
            raise InputError(f"progress must be True, False or a function that takes events, got {progress!r}.")
        given, cache = options.get("session"), options.get("cache")
        if given is not None and not isinstance(given, Session):
            raise InputError(f"session must be a session that connect() returned, got {type(given).__name__}.")
        if cache is not None and not isinstance(cache, (str, Path)):
            raise InputError(f"cache must be a path, 'off' or 'memory', got {cache!r}.")
        session = given or current()
        engine = session.engine_for(cache)
        pace = RateOptions(
            options.get("max_in_flight"), options.get("requests_per_minute"), options.get("tokens_per_minute")
        )
        return cls(session, engine, on_error, progress, options.get("budget"), pace, owner)

    def check_budget(self, model: str) -> None:
        """Raise InputError if the budget cannot be enforced for this model, before a run of another model is paid."""
        if self.budget is not None:
            Budget(self.budget, self.session.fetch_price(model), model)

    def without_progress(self) -> VectorizedCall:
        """Return the same call without a progress line, for the few texts that a call needs beside its rows."""
        return replace(self, progress=False)

    def record(self, report: Report) -> None:
        """Store the report in the session and attach it to the owner."""
        self.session.record_run(report)
        if self.owner is not None:
            attach_report(self.owner, report)

    def amend(self, report: Report, **more: Any) -> Report:
        """Replace fields of a report that is already recorded; return the new report."""
        amended = replace(report, **more)
        self.session.revise_report(report, amended)
        if self.owner is not None:
            attach_report(self.owner, amended)
        return amended

    def run(
        self,
        job: Job,
        texts: Texts,
        *,
        column: Callable[[RunResult], Any],
        into: Callable[[int], Room] | None = None,
    ) -> RunResult:
        """Run the job on these texts; ``column`` builds the partial result of an interrupted call."""
        listen, close = _listener(self.progress, job.operation)
        try:
            outcome = self.engine.run(
                job,
                texts,
                on_error=self.on_error,
                budget=self.budget,
                rate_options=self.pace,
                make_buffer=into,
                on_progress=listen,
                on_end=self.record,
            )
        except Interrupted as stop:
            if isinstance(stop.outcome, RunResult):
                # Results that cannot become a column must not turn an interrupt into another error.
                with contextlib.suppress(SkytellsError):
                    self.amend(stop.outcome.report, partial=column(stop.outcome))
            raise
        finally:
            close()
        self.warn_of_failures(outcome.report)
        return outcome

    def warn_of_failures(self, report: Report) -> None:
        """Emit one warning for all rows that failed, with the first reasons."""
        if report.failed and self.on_error == "warn":
            cached = "" if self.engine.cache_disabled else "; completed rows are cached and not sent again"
            warn(
                f"{report.failed:,} of {report.rows:,} rows failed and are missing. "
                f"{'; '.join(report.reasons())}. See df.skytells.report.errors{cached}."
            )


def _listener(progress: bool | ProgressCallback, label: str) -> tuple[ProgressCallback, Callable[[], None]]:
    if callable(progress):
        return progress, lambda: None
    if not progress:
        return no_progress, lambda: None
    from skytells_nb.widgets.progress import ProgressLine

    line = ProgressLine(label)
    return line, line.close


def vector_column(
    outcome: RunResult, index: pd.Index[Any], *, dtype: Literal["numpy", "arrow"], name: Any
) -> pd.Series[Any]:
    """Return the vectors as a column, missing where there is none."""
    return columns.from_matrix(outcome.matrix, index=index, rows=outcome.result_index, dtype=dtype, name=name)


def completions(outcome: RunResult) -> list[CachedCompletion | None]:
    """Return the completion of each distinct input."""
    return [None if value is None else CachedCompletion.from_bytes(value) for value in outcome.values]


def take(values: list[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return an object array with ``values[row]`` for each row number, ``None`` for -1."""
    table = np.empty(len(values) + 1, dtype=object)
    table[: len(values)] = values if values else []
    table[-1] = None
    result: NDArray[Any] = table[rows]
    return result


def text_column(
    distinct: list[CachedCompletion | None], outcome: RunResult, index: pd.Index[Any], *, name: Any
) -> pd.Series[Any]:
    """Return the completions' texts, missing where there is none or the filter withheld all of it."""
    texts = [None if c is None or (c.blocked and not c.text) else c.text for c in distinct]
    return pd.Series(take(texts, outcome.result_index), index=index, dtype=STRING_DTYPE, name=name)


def warn_truncated(distinct: list[CachedCompletion | None], outcome: RunResult) -> None:
    """Emit one warning for completions that ended at the token limit, and one for those that were withheld."""
    rows = outcome.result_index
    for reason, what in (
        ("length", "were cut at max_tokens"),
        ("content_filter", "were withheld by the safety filter"),
    ):
        affected = np.array(
            [c is not None and c.finish_reason == reason and not c.is_empty_reasoning for c in distinct] + [False]
        )
        count = int(affected[rows].sum())
        if count:
            warn(f"{count:,} of {len(rows):,} completions {what}. details=True shows which.")


_runs: dict[int, tuple[weakref.ref[Any], Report, Mapping[Any, Any]]] = {}


def attach_report(
    frame: pd.DataFrame | pd.Series[Any], report: Report, answers: Mapping[Any, Any] | None = None
) -> None:
    """Attach a run's report, and completions by column, for as long as this object lives."""
    key = id(frame)
    attached = _runs.get(key)
    completions_by_column = {**(attached[2] if attached and attached[0]() is frame else {}), **(answers or {})}
    _runs[key] = (weakref.ref(frame, lambda _: _runs.pop(key, None)), report, completions_by_column)


def get_report(frame: pd.DataFrame | pd.Series[Any]) -> tuple[Report | None, Mapping[Any, Any]]:
    """Return the report and the completions that are attached to this object."""
    entry = _runs.get(id(frame))
    return (entry[1], entry[2]) if entry is not None and entry[0]() is frame else (None, {})


def copy_report(source: Any, target: Any) -> None:
    """Attach the report of ``source``, if it has one, to ``target``."""
    report, answers = get_report(source)
    if report is not None:
        attach_report(target, report, answers)
