"""What the frame and series accessors share: one vectorised call from texts to a column."""

from __future__ import annotations

import contextlib
import difflib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
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


class RunOptions(TypedDict, total=False):
    """What every vectorised call takes."""

    budget: float | None
    """US dollars that the call may spend; it stops before it would spend more."""
    max_in_flight: int | None
    """Requests under way at once."""
    requests_per_minute: float | None
    tokens_per_minute: float | None
    """Limits to keep below, where they are lower than what the service allows."""
    cache: str | Path | None
    """A path, "off" or "memory" in the place of the session's cache."""
    session: Session | None
    """The session to use in the place of the default one."""


MODEL_PARAMETERS = frozenset(
    [
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "n",
        "user",
        "response_format",
        "tools",
        "tool_choice",
    ]
)
"""What people know as keywords of other clients; here they are parameters that go to the service as they are."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raises InputError for a keyword nobody knows, with the nearest one that exists."""
    known = list(RunOptions.__annotations__)
    for name, value in options.items():
        if name in MODEL_PARAMETERS:
            raise InputError(
                f"Unknown keyword {name!r}. Parameters of the model go into params, where a verb asks one: "
                f"params={{{name!r}: {value!r}}}."
            )
        if name not in known:
            near = difflib.get_close_matches(name, [*known, "model", "into", "on_error", "progress"], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known beside the named ones: {', '.join(known)}."
            raise InputError(f"Unknown keyword {name!r}.{hint}")


@dataclass(frozen=True)
class VectorizedCall:
    """One call on its way: where it goes and how it is watched."""

    session: Session
    engine: Engine
    on_error: OnError
    progress: bool | ProgressCallback
    budget: float | None
    pace: RateOptions
    owner: pd.DataFrame | pd.Series[Any] | None = None
    """Whose ``report`` this call is, however it ends."""

    @classmethod
    def open(
        cls, on_error: OnError, progress: bool | ProgressCallback, options: RunOptions, *, asker: Any = None
    ) -> VectorizedCall:
        if not isinstance(progress, bool) and not callable(progress):
            raise InputError(f"progress is True, False or a function that takes events; found {progress!r}.")
        given, cache = options.get("session"), options.get("cache")
        if given is not None and not isinstance(given, Session):
            raise InputError(f"session is what connect() returned; found {type(given).__name__}.")
        if cache is not None and not isinstance(cache, (str, Path)):
            raise InputError(f"cache is a path, 'off' or 'memory'; found {cache!r}.")
        session = given or current()
        engine = session.engine_for(cache)
        pace = RateOptions(
            options.get("max_in_flight"), options.get("requests_per_minute"), options.get("tokens_per_minute")
        )
        return cls(session, engine, on_error, progress, options.get("budget"), pace, asker)

    def check_budget(self, model: str) -> None:
        """Raises InputError where the budget cannot be kept for this model, before a run of another one is paid."""
        if self.budget is not None:
            Budget(self.budget, self.session.ask_price(model), model)

    def without_progress(self) -> VectorizedCall:
        """The same call without a progress line, for the few texts a call needs beside its rows."""
        return replace(self, progress=False)

    def record(self, report: Report) -> None:
        """Keep the report, for the session and for what was asked."""
        self.session.record_run(report)
        if self.owner is not None:
            attach_report(self.owner, report)

    def amend(self, report: Report, **more: Any) -> Report:
        """Put more into a report that is kept already."""
        revised = replace(report, **more)
        self.session.revise_report(report, revised)
        if self.owner is not None:
            attach_report(self.owner, revised)
        return revised

    def run(
        self,
        job: Job,
        texts: Texts,
        *,
        column: Callable[[RunResult], Any],
        into: Callable[[int], Room] | None = None,
    ) -> RunResult:
        """The outcome for these texts; ``column`` builds what an interrupted call has to show."""
        listen, close = _listener(self.progress, job.operation)
        try:
            outcome = self.engine.run(
                job,
                texts,
                on_error=self.on_error,
                budget=self.budget,
                pace=self.pace,
                into=into,
                listen=listen,
                ended=self.record,
            )
        except Interrupted as stop:
            if isinstance(stop.outcome, RunResult):
                # Answers that make no column must not turn an interrupt into another error.
                with contextlib.suppress(SkytellsError):
                    self.amend(stop.outcome.report, partial=column(stop.outcome))
            raise
        finally:
            close()
        self.warn_of_failures(outcome.report)
        return outcome

    def warn_of_failures(self, report: Report) -> None:
        """One warning for all rows that failed, with the first reasons."""
        if report.failed and self.on_error == "warn":
            kept = "" if self.engine.keeps_nothing else "; what was answered is in the cache and not sent again"
            warn(
                f"{report.failed:,} of {report.rows:,} rows have no answer and are null. "
                f"{'; '.join(report.reasons())}. See df.skytells.report.errors{kept}."
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
    """The vectors as a column, null where there is none."""
    return columns.from_matrix(outcome.matrix, index=index, rows=outcome.result_index, dtype=dtype, name=name)


def completions(outcome: RunResult) -> list[CachedCompletion | None]:
    """The completion of each distinct input."""
    return [None if value is None else CachedCompletion.from_bytes(value) for value in outcome.values]


def take(values: list[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """An object array with ``values[row]`` for each row number, ``None`` for -1."""
    table = np.empty(len(values) + 1, dtype=object)
    table[: len(values)] = values if values else []
    table[-1] = None
    result: NDArray[Any] = table[rows]
    return result


def text_column(
    kept: list[CachedCompletion | None], outcome: RunResult, index: pd.Index[Any], *, name: Any
) -> pd.Series[Any]:
    """The completions' texts; null where there is none or the filter withheld all of it."""
    texts = [None if c is None or (c.blocked and not c.text) else c.text for c in kept]
    return pd.Series(take(texts, outcome.result_index), index=index, dtype=STRING_DTYPE, name=name)


def warn_truncated(kept: list[CachedCompletion | None], outcome: RunResult) -> None:
    """One warning where answers ended at the token limit or were withheld."""
    rows = outcome.result_index
    for reason, what in (
        ("length", "were cut at max_tokens"),
        ("content_filter", "were withheld by the safety filter"),
    ):
        hit = np.array(
            [c is not None and c.finish_reason == reason and not c.is_empty_reasoning for c in kept] + [False]
        )
        count = int(hit[rows].sum())
        if count:
            warn(f"{count:,} of {len(rows):,} answers {what}. details=True shows which.")


_runs: dict[int, tuple[weakref.ref[Any], Report, Mapping[Any, Any]]] = {}


def attach_report(
    frame: pd.DataFrame | pd.Series[Any], report: Report, answers: Mapping[Any, Any] | None = None
) -> None:
    """Keep a run's report (and completions by column) for as long as this object lives."""
    key = id(frame)
    known = _runs.get(key)
    kept = {**(known[2] if known and known[0]() is frame else {}), **(answers or {})}
    _runs[key] = (weakref.ref(frame, lambda _: _runs.pop(key, None)), report, kept)


def get_report(frame: pd.DataFrame | pd.Series[Any]) -> tuple[Report | None, Mapping[Any, Any]]:
    """What ``remember`` kept for this object."""
    entry = _runs.get(id(frame))
    return (entry[1], entry[2]) if entry is not None and entry[0]() is frame else (None, {})


def copy_report(source: Any, target: Any) -> None:
    """Let ``target`` have the report that ``source`` has, if it has one."""
    report, answers = get_report(source)
    if report is not None:
        attach_report(target, report, answers)
