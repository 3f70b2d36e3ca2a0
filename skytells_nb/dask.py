"""``import skytells_nb.dask``: ``ddf.skytells`` and ``series.skytells`` on Dask DataFrames, over the same engine.

The methods that work row by row have the keywords of pandas' ``df.skytells``. They are lazy: nothing is sent while a
graph is built, and each partition is done by the method of pandas where it is. A worker has its own session, from its
own environment; no key is in the graph.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from skytells_nb import __version__
from skytells_nb import session as sessions
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.cache import without_password
from skytells_nb.errors import (
    ConfigurationError,
    InputError,
    MissingExtraError,
    RequestCancelledError,
    SkytellsError,
    warn,
)
from skytells_nb.partition import INSTEAD, ROW_METHODS, with_columns_only
from skytells_nb.session import Session

try:
    import pyarrow as pa
    from dask.dataframe.extensions import register_dataframe_accessor, register_series_accessor
except ImportError:
    raise MissingExtraError("The Dask accessor", "dask") from None

VECTOR_LENGTHS = {"skytells-embed-3-small": 1536, "skytells-embed-3-large": 3072}
"""Numbers in the vectors of the service's models, as it documents them."""
LOCAL_VECTOR_LENGTH = 512
CANCEL_POLL_S = 0.2
"""How often a task looks whether it was cancelled."""


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
    version: str = __version__

    def __call__(self, data: Any) -> Any:
        """Return the result of the method on a partition."""
        if self.version != __version__:
            raise ConfigurationError(
                f"The graph was built by skytells-nb {self.version}, and this worker has {__version__}. Nothing was "
                "sent. Install the same version on both."
            )
        if not len(data):
            return self.meta
        session = self.connection.session()
        try:
            with _ends_when_cancelled(session, self.options.get("cache")):
                result = _method(data, self.method)(*self.args, **self.options, session=session, progress=False)
        except SkytellsError as problem:
            # They are of one partition, and may be large: the error travels to the process that waits for it.
            problem.frame = None
            raise
        return _conform(result, self.meta)


def _method(data: Any, name: str) -> Callable[..., Any]:
    accessor = FrameAccessor(data) if isinstance(data, pd.DataFrame) else SeriesAccessor(data)
    return getattr(accessor, name)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _ends_when_cancelled(session: Session, cache: Any) -> Iterator[None]:
    """End what this thread sends in the block once its task is cancelled, and let the task be scheduled again if so."""
    is_cancelled = _cancellation()
    if is_cancelled is None:
        yield
        return
    engine, thread = session.engine_for(cache), threading.get_ident()
    done, cancelled = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(CANCEL_POLL_S):
            if is_cancelled():
                cancelled.set()
                engine.cancel(thread)

    watcher = threading.Thread(target=watch, name="skytells-dask", daemon=True)
    watcher.start()
    try:
        yield
    except RequestCancelledError:
        if not cancelled.is_set():
            raise
        from distributed import Reschedule

        # It matters only where the same task was asked for again meanwhile.
        raise Reschedule from None
    finally:
        done.set()
        watcher.join()


def _cancellation() -> Callable[[], bool] | None:
    """Return what tells whether the task of this thread was cancelled; ``None`` outside a task of a worker."""
    try:
        from distributed import get_worker
        from distributed.worker import thread_state  # type: ignore[attr-defined]

        worker, key = get_worker(), thread_state.key
    except (ImportError, ValueError, AttributeError):
        return None

    def is_cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return is_cancelled


def _conform(result: Any, meta: Any) -> Any:
    """Return the result of a partition with the dtypes that were promised for all of them."""
    if isinstance(meta, pd.Series):
        return _with_dtype(result, meta.dtype)
    if list(result.columns) != list(meta.columns):
        raise InputError(
            f"The partition has the columns {list(map(str, result.columns))}, and the graph was built for "
            f"{list(map(str, meta.columns))}: the frame's meta does not fit its partitions."
        )
    for name in meta.columns:
        if result[name].dtype != meta[name].dtype:
            result[name] = _with_dtype(result[name], meta[name].dtype)
    return result


def _with_dtype(series: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    if series.dtype == dtype:
        return series
    if series.isna().all():
        return pd.Series([None] * len(series), index=series.index, name=series.name, dtype=dtype)
    try:
        converted = series.astype(dtype)
    except (TypeError, ValueError, NotImplementedError, pa.ArrowException):
        converted = None
    if converted is None or converted.isna().sum() != series.isna().sum():
        raise InputError(
            f"Column {series.name!r} of a partition is {series.dtype}, which does not fit the {dtype} that the graph "
            "was built for. Of embeddings, pass dimensions=; of other columns, check the meta of the frame."
        )
    return converted


class _Accessor:
    """The methods of the pandas accessor that work row by row, on a Dask DataFrame or Series."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def _call(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        options = _checked(name, options)
        if isinstance(options.get("cache"), str):
            options["cache"] = without_password(options["cache"])
        session = sessions.current_or_keyless()
        if session.cache.url in ("off", "memory://") and options.get("cache") is None:
            _warn_without_cache(session.cache.url)
        connection = GraphConnection.of(session)
        meta = _meta(self._data, name, args, options, session)
        call = PartitionCall(name, args, options, connection, meta)
        return self._data.map_partitions(call, meta=meta, enforce_metadata=False)


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a call on partitions; raises InputError for those that only pandas has."""
    options = with_columns_only(name, options)
    reasons = {
        "session": "workers use the session of their own process",
        "to": "use to_parquet() on the result",
        "budget": "it would hold for each partition on its own; use dry_run=True in pandas on a sample of the rows",
        "dry_run": "use it in pandas on a sample of the rows, such as ddf.sample(frac=0.001).compute()",
        "sample": "use it in pandas on some of the rows, such as ddf.head(1000, npartitions=-1)",
    }
    if name == "translate":
        del reasons["to"]  # a language
    for option, reason in reasons.items():
        if options.get(option) not in (None, False):
            raise InputError(f"{option} must be left out on a Dask collection: {reason}.")
        options.pop(option, None)
    progress = options.pop("progress", True)
    if not isinstance(progress, bool):
        raise InputError("progress must be True or False on a Dask collection: its partitions run in other processes.")
    return options


def _warn_without_cache(url: str) -> None:
    warn(
        f"The cache of this session is {url.removesuffix('://')}: whatever Dask computes twice is paid for twice, and "
        "so is a text in two partitions. Use a cache file, or redis:// or postgresql:// for several machines."
    )


def _meta(data: Any, name: str, args: tuple[Any, ...], options: dict[str, Any], session: Session) -> Any:
    """Return the empty result of a method on a collection.

    The method itself checks the arguments, on the values that Dask puts in the place of the real ones: a dry run sends
    nothing, and a run of no rows neither.
    """
    with sessions.offline(session) as offline:
        has_values = options.get("images") is None  # which would be read
        _method(data._meta_nonempty if has_values else data._meta, name)(
            *args, **options, session=offline, dry_run=True
        )
        shown = dict(options)
        if name == "classify" and shown.get("via") == "embedding":
            del shown["via"]  # the dtype is the same, and no label need be embedded for it
        result = _method(data._meta, name)(*args, **shown, session=offline, progress=False)
    if name != "embed":
        return result
    model = options.get("model") or session.settings.embedding_model
    dtype = _vector_dtype(options.get("dimensions") or _vector_length(model, session))
    if isinstance(result, pd.Series):
        return result.astype(object).astype(dtype)
    into = inspect.signature(FrameAccessor.embed).bind(None, *args, **options).arguments.get("into", "embedding")
    result[into] = pd.Series([], dtype=dtype, index=result.index)
    return result


def _vector_length(model: str, session: Session) -> int | None:
    """Return how many numbers the vectors of a model have, ``None`` where that is not known before it is asked."""
    if session.is_local:
        return LOCAL_VECTOR_LENGTH
    return VECTOR_LENGTHS.get(model) if session.is_public else None


def _vector_dtype(length: int | None) -> pd.ArrowDtype:
    item = pa.float32()
    return pd.ArrowDtype(pa.list_(item) if length is None else pa.list_(item, int(length)))


def _delegate(name: str, original: Callable[..., Any]) -> Any:
    if name in ROW_METHODS:

        @functools.wraps(original)
        def method(self: Any, *args: Any, **options: Any) -> Any:
            return self._call(name, args, options)

        doc = inspect.getdoc(original)
        method.__doc__ = f"{name} of pandas' ``skytells``, for each partition of a Dask collection.\n\n{doc}"
        return method

    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        raise InputError(
            f"{name} needs all rows, which a Dask collection has not in one place: "
            f"{INSTEAD.get(name, 'compute() the collection first, then call it in pandas')}."
        )

    refuse.__name__, refuse.__doc__ = name, f"Refuse, and say what to do in place of {name}."
    return refuse


class DaskFrameAccessor(_Accessor):
    """Language models for the columns of a Dask DataFrame: the methods of pandas' ``df.skytells`` that work by row.

    Vectors are ``fixed_size_list<float>[d]`` columns, labels categories with all labels, and the fields of a schema
    columns, so that all partitions have the same dtypes. Order, index and divisions are kept.
    """


class DaskSeriesAccessor(_Accessor):
    """Language models for a Dask column of texts: the methods of pandas' ``series.skytells`` that work by row."""


for _accessor, _pandas in ((DaskFrameAccessor, FrameAccessor), (DaskSeriesAccessor, SeriesAccessor)):
    for _name in dir(_pandas):
        if not _name.startswith("_") and not isinstance(inspect.getattr_static(_pandas, _name), property):
            setattr(_accessor, _name, _delegate(_name, inspect.getattr_static(_pandas, _name)))

register_dataframe_accessor("skytells")(DaskFrameAccessor)  # type: ignore[no-untyped-call]
register_series_accessor("skytells")(DaskSeriesAccessor)  # type: ignore[no-untyped-call]
