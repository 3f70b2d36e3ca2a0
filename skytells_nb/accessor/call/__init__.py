"""One vectorized call from texts to a column, and the reports attached to frames and columns."""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.call.dry_run import DryRun as DryRun
from skytells_nb.accessor.call.dry_run import DryRunComplete as DryRunComplete
from skytells_nb.accessor.call.dry_run import SampleRun as SampleRun
from skytells_nb.accessor.options import SessionOptions, plain
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.context import Retry
from skytells_nb.engine.engine import Engine, OnError
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import Job, RateOptions, embedding_job
from skytells_nb.engine.planning import RowTexts
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.engine.results import CompletionBuffer, RunResult
from skytells_nb.engine.results import ResultBuffer as Room
from skytells_nb.errors import ContentPolicyError, InputError, Interrupted, RefusalError, SkytellsError, warn
from skytells_nb.progress.events import GuardedCallback, Progress, ProgressCallback, no_progress
from skytells_nb.progress.line import LONG_STEP_S, UPDATE_INTERVAL_S
from skytells_nb.session import Session, current, current_or_keyless
from skytells_nb.types.models import Price


def dry_run_of(options: SessionOptions) -> DryRun | None:
    """Return what collects the estimates of a call with these options, ``None`` for a call that sends."""
    dry_run: Any = options.get("dry_run")
    return dry_run or None


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
    fresh: bool = False
    retry: Retry | None = None
    rows: Callable[[], pd.DataFrame] | None = None
    """The rows that the report's errors name by position, where they are not those of the owner."""
    assemble: Callable[[Any, Report], Any] | None = None
    """Makes what the method returns from partial results, for an error that ends the call."""
    dry_run: DryRun | None = None
    """What collects the estimates of a call that sends nothing."""
    sample: SampleRun | None = None
    defers_warning: bool = False
    """Whether the method itself warns of rows that failed, once it knows which."""
    is_main: bool = True
    """Whether its inputs are the rows of the method."""
    is_last: bool = True
    """Whether the method has no further runs, so that a dry run is complete after this one."""
    asks_catalog: bool = False
    """Whether an estimate reads the catalog for the price."""

    @classmethod
    def open(
        cls,
        on_error: OnError,
        progress: bool | ProgressCallback,
        options: SessionOptions,
        *,
        owner: Any = None,
        sends: bool = True,
    ) -> VectorizedCall:
        """Check the options that methods share; with ``sends=False`` no key is needed."""
        progress = plain(progress)
        if not isinstance(progress, bool) and not callable(progress):
            raise InputError(f"progress must be True, False or a function that takes events, got {progress!r}.")
        chosen, cache = options.get("session"), options.get("cache")
        if chosen is not None and not isinstance(chosen, Session):
            raise InputError(f"session must be a session that connect() returned, got {type(chosen).__name__}.")
        if cache is not None and not isinstance(cache, (str, Path)):
            raise InputError(f"cache must be a path, 'off' or 'memory', got {cache!r}.")
        dry_run = dry_run_of(options)
        sample: Any = options.get("sample")
        session = chosen or (current() if sends and not dry_run else current_or_keyless())
        engine = session.engine_for(cache)
        limits = ("max_in_flight", "requests_per_minute", "tokens_per_minute")
        pace = RateOptions(*(plain(options.get(name)) for name in limits))
        fresh, retry = options.get("fresh", False), options.get("retry")
        if not isinstance(fresh, (bool, np.bool_)):
            raise InputError(f"fresh must be True or False, got {fresh!r}.")
        if retry not in (None, "failed"):
            raise InputError(f"retry must be 'failed' or None, got {retry!r}.")
        if fresh and retry:
            raise InputError("fresh=True already requests every row; pass fresh or retry, not both.")
        budget = plain(options.get("budget"))
        if dry_run:
            if on_error not in ("warn", "raise", "null"):
                raise InputError(f"on_error must be 'warn', 'raise' or 'null', got {on_error!r}.")
            if budget is not None:
                Budget(budget, Price(0.0, 0.0), "any model")
        return cls(
            session,
            engine,
            on_error,
            progress,
            budget,
            pace,
            owner,
            fresh=bool(fresh),
            retry=retry,
            dry_run=dry_run,
            sample=sample,
            asks_catalog=not sends or (dry_run is not None and dry_run.asks_catalog),
        )

    def estimate(self, job: Job, texts: RowTexts) -> Estimate:
        """Return what a run of the job on these texts would send and cost."""
        return self.engine.estimate(
            job,
            texts,
            fresh=self.fresh,
            retry=self.retry,
            rate_options=self.pace,
            ask_catalog=self.asks_catalog,
        )

    def check_budget(self, model: str) -> None:
        """Raise InputError if the budget cannot be enforced for this model, before a run of another model is paid."""
        if self.budget is not None and self.dry_run is None:
            price = self.session.fetch_price(model)
            Budget(self.budget, price, model, None if price else self.session.price_note(model))

    def chat_model(self, given: Any) -> str:
        """Return the name of the chat model, by default that of the session."""
        return _model_name("model", given, self.session.settings.model)

    def embedding_job(self, model: Any, dimensions: Any) -> Job:
        """Return the job that embeds texts with this model, by default that of the session."""
        return embedding_job(_model_name("model", model, self.session.settings.embedding_model), plain(dimensions))

    def without_progress(self) -> VectorizedCall:
        """Return the same call without a progress line, for the few texts that a call needs beside its rows."""
        return replace(self, progress=False)

    def record(self, report: Report) -> None:
        """Store the report in the session and attach it to the owner."""
        if self.sample is not None:
            self.sample.reports.append(report)
            self.sample.max_in_flight = self.pace.max_in_flight or self.session.settings.max_in_flight
        self.session.record_run(report)
        clock = _clock.get()
        if clock is not None:
            clock.last_call = self
        self.attach(report)

    def attach(self, report: Report) -> None:
        """Attach the report to the owner."""
        if self.owner is not None:
            attach_report(self.owner, report, rows=self.rows)

    def amend(self, report: Report, **more: Any) -> Report:
        """Replace fields of a report that is already recorded; return the new report."""
        amended = replace(report, **more)
        self.session.revise_report(report, amended)
        self.attach(amended)
        return amended

    def attach_results(self, problem: SkytellsError | Interrupted, report: Report, results: Any) -> None:
        """Attach the report to an error that ends the call, and the partial results as the call returns them."""
        problem.report = report
        # What cannot become a frame must not turn one error into another.
        with contextlib.suppress(Exception):
            if self.assemble is not None:
                problem.frame = self.assemble(results, report)

    def run(
        self,
        job: Job,
        texts: RowTexts,
        *,
        column: Callable[[RunResult], Any],
        results: Callable[[RunResult], Any] | None = None,
        into: Callable[[int], Room] | None = None,
    ) -> RunResult:
        """Run the job on these texts.

        ``column`` builds the partial result of an interrupted call, ``results`` what ``assemble`` takes, by default the
        same.
        """
        if self.dry_run is not None:
            return self.dry_run.run(self, job, texts)
        clock = _clock.get()
        if clock is not None:
            clock.jobs.setdefault(job.name, job)
        listen, close = (
            _listener(self.progress, job.name)
            if clock is None
            else (clock.listen(self.progress, job.name), lambda: None)
        )
        ended: list[RunResult] = []
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
                on_result=ended.append,
                fresh=self.fresh,
                retry=self.retry,
            )
        except (Interrupted, SkytellsError) as problem:
            # Without a result nothing had begun. Results that cannot become a column must not turn an interrupt into
            # another error.
            with contextlib.suppress(SkytellsError):
                if ended and isinstance(problem, Interrupted):
                    ended[0] = replace(ended[0], report=self.amend(ended[0].report, partial=column(ended[0])))
            with contextlib.suppress(Exception):
                if ended:
                    problem.report = ended[0].report
                    if self.assemble is not None:
                        self.attach_results(problem, ended[0].report, (results or column)(ended[0]))
            raise
        finally:
            close()
        self.warn_of_failures(outcome.report)
        return outcome

    def warn_of_failures(self, report: Report) -> None:
        """Emit one warning for all rows that failed, with the first reasons."""
        if report.failed and self.on_error == "warn" and not self.defers_warning:
            blocked = all(isinstance(error, (ContentPolicyError, RefusalError)) for error in report.errors.values())
            again = (
                "call again with retry='failed' to retry them"
                if blocked
                else "calling again retries only the failed rows"
            )
            cached = "" if self.engine.cache_disabled else f"; completed rows are cached, and {again}"
            warn(
                f"{report.failed:,} of {report.rows:,} rows failed and are missing. "
                f"{'; '.join(report.reasons())}. See df.skytells.failed(){cached}."
            )


def _model_name(what: str, given: Any, default: str) -> str:
    if given is None:
        return default
    if not isinstance(given, str) or not given.strip():
        raise InputError(f"{what} must be the name of a model, or None for that of the session, got {given!r}.")
    return given


@dataclass(frozen=True)
class BoundCall:
    """A method of an accessor with its arguments."""

    method: Callable[..., Any]
    data: pd.DataFrame | pd.Series[Any]
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    is_inner: bool = False
    """Whether it is part of the call of another method of a frame."""


class CallClock:
    """What a call of the user takes, from its first line to its result, and the progress line of its latest run.

    A run is not the end: its columns are built afterwards. So its final state is held back until the next run begins or
    the call returns. It also collects what is recorded of the call: its jobs, and the columns that it made.
    """

    def __init__(self, call: BoundCall | None = None) -> None:
        self.started = time.monotonic()
        self.call = call
        self.jobs: dict[str, Job] = {}
        """The first job of each operation."""
        self.columns: dict[Any, None] = {}
        """The names of the columns that were added to the frame."""
        self.last_call: VectorizedCall | None = None
        """The latest call that has a report."""
        self.notes: list[str] = []
        """What is to be known about the call, for its report."""
        self._unsaid: str | None = None
        self._show: ProgressCallback = no_progress
        self._close: Callable[[], None] = lambda: None
        self._final: Progress | None = None
        self._run_started = self.started
        self._next_event = 0.0

    def listen(self, progress: bool | ProgressCallback, label: str) -> ProgressCallback:
        """Return the callback for the events of a run that begins."""
        if self._final is not None:
            self._run_started = time.monotonic()
        self.end_run()
        self._show, self._close = _listener(progress, label)
        return self._hear if progress else no_progress

    def _hear(self, event: Progress) -> None:
        if event.state == "running":
            self._show(event)
        else:
            self._final = event
            self._next_event = time.monotonic() + LONG_STEP_S

    def note(self, text: str) -> None:
        """Say once what is to be known about the call: in its report, and where its first run ends."""
        if self.call is not None and not self.call.is_inner:
            self.notes.append(text)
            self._unsaid = text

    def step(self, step: str) -> None:
        """Show what follows the run, such as building columns, once that takes more than two seconds."""
        if self._final is not None and time.monotonic() >= self._next_event:
            self._next_event = time.monotonic() + UPDATE_INTERVAL_S
            self._tell(replace(self._final, state="running", step=step))

    def end_run(self) -> None:
        """Show the final state of the run."""
        final, self._final = self._final, None
        if final is not None:
            self._tell(replace(final, note=self._unsaid))
            self._unsaid = None
        self._close()
        self._show, self._close = no_progress, lambda: None

    def _tell(self, event: Progress) -> None:
        self._show(replace(event, seconds=time.monotonic() - self._run_started))


_clock: ContextVar[CallClock | None] = ContextVar("skytells_nb_call", default=None)


def current_clock() -> CallClock | None:
    """Return the clock of the call that is running, ``None`` outside of one."""
    return _clock.get()


def note_columns(names: Iterable[Any]) -> None:
    """Note the columns that the call adds to its frame."""
    clock = _clock.get()
    if clock is not None:
        clock.columns.update(dict.fromkeys(names))


def building(step: str = "building columns") -> None:
    """Note that a call is at work on its result, for its progress line."""
    clock = _clock.get()
    if clock is not None:
        clock.step(step)


def end_run() -> None:
    """Show the final state of the latest run of the call."""
    clock = _clock.get()
    if clock is not None:
        clock.end_run()


def _record(record: Callable[[CallClock, Any], None], clock: CallClock, result: Any) -> None:
    """Record a call; what was paid for is returned, whatever comes of its record."""
    try:
        record(clock, result)
    except Exception as problem:
        warn(
            f"What made the new columns could not be recorded ({type(problem).__name__}), so lineage does not show it; "
            "the columns are complete. This is a fault in skytells-nb."
        )


def timed(method: Callable[..., Any], record: Callable[[CallClock, Any], None]) -> Callable[..., Any]:
    """Return the method, whose report has in ``seconds`` what the call took, its look-up and its columns included.

    ``record`` is called with the clock and with what the method returned, or what its error has as ``frame``.
    """

    @functools.wraps(method)
    def call(accessor: Any, /, *args: Any, **options: Any) -> Any:
        data = accessor._series if hasattr(accessor, "_series") else accessor._frame
        before, outer = attached_to(data), _clock.get()
        is_inner = outer is not None and outer.call is not None and isinstance(outer.call.data, pd.DataFrame)
        clock = CallClock(BoundCall(method, data, args, options, is_inner))
        token = _clock.set(clock)
        try:
            result = method(accessor, *args, **options)
            _set_seconds(clock, data, result, before)
            _record(record, clock, result)
            return result
        except (Interrupted, SkytellsError) as problem:
            revised = _set_seconds(clock, data, problem.frame, before)
            problem.report = next((new for old, new in revised if old is problem.report), problem.report)
            _record(record, clock, problem.frame)
            raise
        finally:
            _clock.reset(token)
            clock.end_run()
            if outer is not None:
                outer.last_call = clock.last_call or outer.last_call

    return call


def _set_seconds(clock: CallClock, data: Any, result: Any, before: Attached | None) -> list[tuple[Report, Report]]:
    """Put the seconds of the call into its report, in the session and attached to the data and to the result.

    Returns the reports that are replaced, with the new ones.
    """
    seconds = time.monotonic() - clock.started
    entries = [(target, attached_to(target)) for target in (data, result)]
    revised: list[tuple[Report, Report]] = []
    for target, entry in entries:
        if entry is None or entry is before:
            continue
        old = entry.report
        report = next((new for known, new in revised if known is old), None)
        if report is None:
            report = replace(old, seconds=seconds, notes=(*old.notes, *clock.notes))
            revised.append((old, report))
            if clock.last_call is not None:
                clock.last_call.session.revise_report(old, report)
        attach(target, report, entry.answers, entry.failed)
    return revised


def _listener(progress: bool | ProgressCallback, label: str) -> tuple[ProgressCallback, Callable[[], None]]:
    if callable(progress):
        return GuardedCallback(progress), lambda: None
    if not progress:
        return no_progress, lambda: None
    from skytells_nb.progress.long_step import ProgressLine

    line = ProgressLine(label)
    return line, line.close


def vector_column(
    outcome: RunResult, index: pd.Index[Any], *, dtype: Literal["numpy", "arrow"], name: Any
) -> pd.Series[Any]:
    """Return the vectors as a column, missing where there is none."""
    return columns.from_matrix(outcome.matrix, index=index, rows=outcome.result_index, dtype=dtype, name=name)


def completions(outcome: RunResult) -> list[CachedCompletion | None]:
    """Return the completion of each distinct input, read once; afterwards their bytes are no longer in memory."""
    if not isinstance(outcome.buffer, CompletionBuffer):
        raise TypeError("This result holds vectors; use matrix.")
    return outcome.buffer.read(outcome.has_result, CachedCompletion.from_parts)


def take(values: list[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return an object array with ``values[row]`` for each row number, ``None`` for -1."""
    table = np.empty(len(values) + 1, dtype=object)
    table[: len(values)] = values
    table[-1] = None
    result: NDArray[Any] = table[rows]
    return result


def spread(values: Sequence[Any], rows: NDArray[np.int64], dtype: Any, index: pd.Index[Any]) -> pd.Series[Any]:
    """Return a column with ``values[row]`` for each row number, missing for -1: each value is converted once."""
    array: Any = pd.Series(list(values), dtype=dtype).array
    if isinstance(array, pd.api.extensions.ExtensionArray) and len(values):
        array = array.take(rows, allow_fill=True)
    else:
        array = take(list(values), rows)
    column: pd.Series[Any] = pd.Series(array, index=index, dtype=dtype)
    return column


def distinct(objects: Sequence[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the different objects, in order of appearance, and the number (n,) of each row's; by identity."""
    ids = np.fromiter(map(id, objects), dtype=np.int64, count=len(objects))
    codes, first = pd.factorize(ids)
    places = np.zeros(len(first), dtype=np.int64)
    places[codes[::-1]] = np.arange(len(objects))[::-1]
    return [objects[place] for place in places.tolist()], codes.astype(np.int64)


@dataclass(frozen=True)
class Attached:
    """What is known about the call that made an object, or was made on it."""

    to: weakref.ref[Any]
    report: Report
    answers: Mapping[Any, Any]
    """Completions by column."""
    failed: pd.DataFrame | None
    """The rows that failed, where they are not rows of the object by position."""


_attached: dict[int, Attached] = {}


def attach_report(
    frame: pd.DataFrame | pd.Series[Any],
    report: Report,
    answers: Mapping[Any, Any] | None = None,
    *,
    rows: Callable[[], pd.DataFrame] | None = None,
) -> None:
    """Attach a run's report, and completions by column, for as long as this object lives.

    ``rows`` makes the frame whose rows the report's errors name by position, where it is not this object.
    """
    failed = None
    if rows is not None:
        named = rows()
        # A run beside the rows of the method, such as one on parts of texts, has positions of its own.
        failed = named.iloc[list(report.errors)] if max(report.errors, default=-1) < len(named) else None
    attach(frame, report, {**get_report(frame)[1], **(answers or {})}, failed)


def attach(target: Any, report: Report, answers: Mapping[Any, Any], failed: pd.DataFrame | None) -> None:
    """Attach all of this to an object, in place of what is attached to it."""
    key = id(target)
    _attached[key] = Attached(weakref.ref(target, lambda _: _attached.pop(key, None)), report, answers, failed)


def attached_to(target: Any) -> Attached | None:
    """Return what is attached to this object."""
    entry = _attached.get(id(target))
    return entry if entry is not None and entry.to() is target else None


def get_report(frame: pd.DataFrame | pd.Series[Any]) -> tuple[Report | None, Mapping[Any, Any]]:
    """Return the report and the completions that are attached to this object."""
    entry = attached_to(frame)
    return (None, {}) if entry is None else (entry.report, entry.answers)


def copy_report(source: Any, target: Any) -> None:
    """Attach the report of ``source``, if it has one, to ``target``."""
    entry = attached_to(source)
    if entry is not None:
        attach(target, entry.report, entry.answers, entry.failed)
