"""One method on one partition, in whatever process Dask runs it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
from dask.base import tokenize

from skytells_nb import __version__
from skytells_nb import session as sessions
from skytells_nb.accessor.call import attached_to
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.results.parts import Parts
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.dask.call_budget import CallBudget
from skytells_nb.dask.cancellation import ends_when_cancelled
from skytells_nb.dask.reports import PartitionReport, publish
from skytells_nb.dask.running_progress import PartitionProgress
from skytells_nb.engine.budget import counted_by
from skytells_nb.engine.report import Report
from skytells_nb.errors import ConfigurationError, InputError, RequestCancelledError, SkytellsError
from skytells_nb.session import Session


@dataclass(frozen=True)
class GraphConnection:
    """Where the requests of a graph go, and with which settings: what a worker must agree with. No key is in it."""

    base_url: str
    """An address, or ``"local"``."""
    model: str
    embedding_model: str
    cache: str | None
    """A cache setting, without a password."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that were chosen."""

    @classmethod
    def of(cls, session: Session) -> GraphConnection:
        """Return the connection of a session."""
        chosen = session.settings.model_dump(exclude_unset=True)
        own = {"base_url", "model", "embedding_model", "cache", "cache_dir"}
        return cls(
            sessions.LOCAL if session.is_local else session.client.base_url,
            session.settings.model,
            session.settings.embedding_model,
            session.settings.cache,
            {name: value for name, value in sorted(chosen.items()) if name not in own},
        )

    def session(self) -> Session:
        """Return the session of this process; connects from its environment on first use.

        Raises ConfigurationError if it would send elsewhere, or ask other models.
        """
        with _lock:
            session = sessions.current() if sessions.has_current() else self._connect()
        mine = GraphConnection.of(session)
        if mine.base_url != self.base_url:
            raise ConfigurationError(
                f"This worker would send to {mine.base_url}, and the graph was built for {self.base_url}. Nothing was "
                "sent. Set SKYTELLS_BASE_URL for the workers to the address of the process that builds the graph."
            )
        for name in ("model", "embedding_model"):
            if getattr(mine, name) != getattr(self, name):
                raise ConfigurationError(
                    f"This worker's session has {name}={getattr(mine, name)!r}, and the graph was built with "
                    f"{getattr(self, name)!r}. Nothing was sent. Do not call connect() on workers, or with the same "
                    "settings."
                )
        return session

    def _connect(self) -> Session:
        is_local = self.base_url == sessions.LOCAL
        # The address is the worker's own, to be compared: the graph must not choose where its key is sent.
        own_cache = sessions.settings().cache
        return sessions.connect(
            local=is_local,
            model=self.model,
            embedding_model=self.embedding_model,
            cache=own_cache or self.cache,
            **self.settings,
        )


_lock = threading.Lock()


@dataclass(frozen=True)
class PartitionCall:
    """A call of a method on each partition."""

    method: str
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    connection: GraphConnection
    meta: Any
    """An empty frame or column with the dtypes of the result."""
    source: str = ""
    """What Dask calls the collection."""
    columns: tuple[Any, ...] | None = None
    """The columns that its partitions are to have; ``None`` for a column."""
    version: str = __version__
    budget: CallBudget | None = None
    shows_progress: bool = False
    parts: Parts | None = None
    """Where its results are written, if they are not to be returned."""

    @property
    def __name__(self) -> str:
        """What Dask calls the step."""
        return f"skytells-{self.method}"

    @functools.cached_property
    def topic(self) -> str:
        """Where the reports of its partitions are, the same in every process."""
        budget = None if self.budget is None else self.budget.topic
        parts = (self.method, self.args, dict(self.options), self.connection, self.source, budget)
        written = () if self.parts is None else (self.parts.call, str(self.parts.folder.path))
        return f"skytells-{tokenize(*parts, *written)}"

    @property
    def progress_topic(self) -> str:
        """Where its partitions tell what they do while they run."""
        return f"{self.topic}-progress"

    def __call__(self, data: Any, partition_info: Mapping[str, Any] | None = None) -> Any:
        """Return the result of the method on a partition, and report what it did."""
        number = int((partition_info or {}).get("number", 0))
        if self.version != __version__:
            raise ConfigurationError(
                f"The graph was built by skytells-nb {self.version}, and this worker has {__version__}. Nothing was "
                "sent. Install the same version on both."
            )
        if self.columns is not None and tuple(data.columns) != self.columns:
            raise InputError(
                f"A partition has the columns {_listed(data.columns)}, and the meta of the collection has "
                f"{_listed(self.columns)}. Nothing was sent for it. Give the collection the meta of its partitions."
            )
        there = self._part_there(number, data)
        if there or not len(data):
            told = {name: there.get(name, 0) for name in ("nulls", "answered", "failed")}
            known = Report(self.method, "", "done", rows=len(data), cost=0.0, **told)
            publish(self.topic, PartitionReport(number, time.time(), known))
            if self.shows_progress:
                PartitionProgress(self.progress_topic, number, len(data)).end(known, "done")
            return self.meta if self.parts is None else self._written(number, data, self.meta, known, there)
        session, started = self.connection.session(), time.time()
        cache, options = self.options.get("cache"), dict(self.options)
        counter = None
        if self.budget is not None:
            counter = self.budget.counter(session, cache)
            options["budget"] = self.budget.share if counter is None else self.budget.dollars
        progress = PartitionProgress(self.progress_topic, number, len(data)) if self.shows_progress else None
        options["progress"] = progress or False
        state = "failed"
        try:
            with ends_when_cancelled(session, cache, self.topic), counted_by(counter):
                result = bound_method(data, self.method)(*self.args, **options, session=session)
            state = "done"
        except SkytellsError as problem:
            state = "interrupted" if isinstance(problem, RequestCancelledError) else state
            # They are of one partition, and may be large: the error travels to the process that waits for it.
            problem.frame = problem.report = None
            raise
        except Exception as problem:
            state = "interrupted" if type(problem).__name__ == "Reschedule" else state
            raise
        finally:
            entry = attached_to(data)
            report = None if entry is None else entry.report
            if entry is not None and report is not None:
                # Of join the rows of both sides are counted.
                labels = data.index[list(report.errors)] if entry.failed is None else entry.failed.index
                publish(self.topic, PartitionReport.of(number, started, report, labels))
            if progress is not None:
                progress.end(report, state)
        result = _conform(result, self.meta)
        return result if self.parts is None else self._written(number, data, result, report)

    def _part_there(self, number: int, data: Any) -> Mapping[str, Any]:
        """Return what the part of this partition says about itself, if it was written before."""
        if self.parts is None:
            return {}
        for place in (self.parts.folder, self.parts.safety):
            if place is not None and not place.path.is_dir():
                raise InputError(
                    f"{place.path} is not there on this worker. Nothing was sent for the partition. to= and safety_to= "
                    "must be on a disk that all workers and the process that builds the graph share."
                )
        return {} if self.options.get("fresh") else self.parts.done(number, data)

    def _written(
        self, number: int, data: Any, result: Any, report: Report | None, there: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Write the result of a partition, unless it is there, and return what becomes of it at the driver."""
        assert self.parts is not None
        if not there:
            safety = functools.partial(FrameAccessor(result).safety, self.parts.into)
            self.parts.write(number, data, result, safety, report)
        return WRITTEN.assign(failed=[0 if report is None else report.failed]).set_axis([number])


WRITTEN = pd.DataFrame({"failed": pd.Series([0], dtype="int64")})
"""What a partition whose result is written becomes, of one row each."""


def bound_method(data: Any, name: str) -> Callable[..., Any]:
    accessor = FrameAccessor(data) if isinstance(data, pd.DataFrame) else SeriesAccessor(data)
    return getattr(accessor, name)  # type: ignore[no-any-return]


def _conform(result: Any, meta: Any) -> Any:
    """Return the result of a partition with the dtypes that were promised for all of them."""
    if isinstance(meta, pd.Series):
        return _with_dtype(result, meta.dtype)
    if list(result.columns) != list(meta.columns):
        raise InputError(
            f"The result of a partition has the columns {_listed(result.columns)}, and the graph was built for "
            f"{_listed(meta.columns)}: the meta of the collection does not fit its partitions."
        )
    for name in meta.columns:
        if result[name].dtype != meta[name].dtype:
            result[name] = _with_dtype(result[name], meta[name].dtype)
    return result


def _listed(columns: Iterable[Any]) -> str:
    return ", ".join(map(repr, columns))


def _with_dtype(series: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    if series.dtype == dtype:
        return series
    if series.isna().all():
        return pd.Series([None] * len(series), index=series.index, name=series.name, dtype=dtype)
    fits = not isinstance(dtype, pd.CategoricalDtype) or series.dropna().isin(dtype.categories).all()
    try:
        converted = series.astype(dtype) if fits else None
    except (TypeError, ValueError, NotImplementedError, pa.ArrowException):
        converted = None
    if converted is None or converted.isna().sum() != series.isna().sum():
        raise InputError(
            f"Column {series.name!r} of a partition is {series.dtype}, which does not fit the {dtype} that the graph "
            "was built for. Of embeddings, pass dimensions=; of other columns, check the meta of the frame."
        )
    return converted
