"""``import skytells_nb.dask``: ``ddf.skytells`` and ``series.skytells`` on Dask DataFrames, over the same engine.

The methods that work row by row have the keywords of pandas' ``df.skytells``. They are lazy: nothing is sent while a
graph is built, and each partition is done by the method of pandas where it is. A worker has its own session, from its
own environment; no key is in the graph.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from skytells_nb import session as sessions
from skytells_nb.accessor.base import check_count
from skytells_nb.accessor.call import BoundCall
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.cluster import only_centers
from skytells_nb.accessor.methods.estimate import Sample
from skytells_nb.accessor.multi_call import sum_reports
from skytells_nb.accessor.results.parts import Parts, has_parts, parquet_schema
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.accessor.text_columns import resolve_texts
from skytells_nb.cache import without_password
from skytells_nb.columns import column_of, text_columns
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.errors import InputError, MissingExtraError, SkytellsError, warn
from skytells_nb.partition import INSTEAD, ROW_METHODS, with_columns_only
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.progress.parts import PartsProgress

try:
    import pyarrow  # noqa: F401
    from dask import delayed  # type: ignore[attr-defined]
    from dask.dataframe import DataFrame
    from dask.dataframe.dask_expr._expr import MapPartitions
    from dask.dataframe.extensions import register_dataframe_accessor, register_series_accessor
except ImportError:
    raise MissingExtraError("The Dask accessor", "dask") from None

from skytells_nb.dask.call_budget import CallBudget
from skytells_nb.dask.cancellation import watch_computations
from skytells_nb.dask.estimates import best_of_all, cluster_estimate_of, embedding_options, estimate_of, sample_of
from skytells_nb.dask.partial_summaries import GROUP, several_partials, whole_summaries
from skytells_nb.dask.partition_call import WRITTEN, GraphConnection, PartitionCall, bound_method
from skytells_nb.dask.reports import MAX_TOPICS, published, total_of
from skytells_nb.dask.result_dtypes import check_arguments, given_arguments, is_text, meta_like, meta_of, with_defaults
from skytells_nb.dask.running_progress import show_progress
from skytells_nb.dask.whole_frames import (
    VECTORS,
    computed_rows,
    deduped,
    labeled_row,
    sample_rows,
    topics_of,
    with_row_first,
)

OF_FRAMES = ("cluster", "dedupe", "similar")
"""Methods over all partitions of a frame, which may embed a column of it first."""
OVER_ALL = (*OF_FRAMES, "estimate", "search", "summarize", "topics")
"""Methods over all partitions, which are not done by row."""
SUMMARIZED_AGAIN = (
    "Groups in several partitions are summarized once more from the summaries of each, which is not counted."
)


class _Accessor:
    """The methods of the pandas accessor that work row by row, on a Dask DataFrame or Series."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def _call(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        options = dict(options)
        if name == "join":
            args, options = self._with_pandas_frame(args, options)
        to = safety_to = None
        if isinstance(self._data._meta, pd.DataFrame) and has_parts(getattr(FrameAccessor, name)):
            to, safety_to = options.pop("to", None), options.pop("safety_to", None)
        if options.get("dry_run") or options.get("sample") is not None:
            return self._trial(name, args, options)
        if to is not None:
            return self._write(name, args, options, to, safety_to)
        if safety_to is not None:
            raise InputError("safety_to must be left out without to=: pass details=True, and write the result.")
        return self._mapped(name, args, options)

    def _write(self, name: str, args: tuple[Any, ...], options: dict[str, Any], to: Any, safety_to: Any) -> Path:
        """Compute the partitions, each to a part of the folder, and return the folder."""
        if name == "embed" and isinstance(to, (str, Path)) and Path(to).suffix.lower() in (".parquet", ".parq", ".pq"):
            raise InputError(f"to must be a folder for the parts on a Dask collection, got {str(to)!r}.")
        known, _ = _checked(name, options)
        session, partitions = sessions.current_or_keyless(), self._data.npartitions
        meta_of(self._data, name, args, known, session)
        schema = parquet_schema(self._data._meta_nonempty)
        # Of objects the types are those of each partition.
        types = self._data._meta.dtypes
        for number in reversed(range(len(types))):
            if pd.api.types.is_object_dtype(types.iloc[number]) or isinstance(types.iloc[number], pd.CategoricalDtype):
                schema = schema.remove(number)
        call = BoundCall(getattr(FrameAccessor, name), self._data._meta, args, known)
        parts = Parts.of(to, safety_to, call, session, (partitions,), schema)
        with parts.begun(partitions, self._data._name):
            return self._write_parts(name, args, options, parts)

    def _write_parts(self, name: str, args: tuple[Any, ...], options: dict[str, Any], parts: Parts) -> Path:
        partitions = self._data.npartitions
        # Where its rows are, so that none travel; of parts that are there, up to the first that has the same.
        rows = self._data.to_delayed()
        parts.check_rows(partitions, lambda number: delayed(parts.digest)(rows[number]).compute())
        written = self._mapped(name, args, options, parts)
        _keep_newest(_made_from, self._data._name, written)
        try:
            told = written.compute()
        except SkytellsError as problem:
            there = f"{parts.count():,} of {partitions:,} parts are in {parts.folder.path}"
            problem.add_note(f"{there}; the same call goes on from there.")
            raise
        if parts.count() < partitions:
            raise InputError(
                f"{partitions - parts.count():,} of {partitions:,} parts are not in {parts.folder.path}, although they "
                "were written: it must be on a disk that all workers and this process share."
            )
        failed = int(told["failed"].sum())
        if failed and options.get("on_error", "warn") == "warn":
            warn(
                f"{failed:,} rows failed and are missing; ddf.skytells.failed() lists them. The same call does the "
                "parts with failed rows again."
            )
        return parts.folder.path

    def _mapped(
        self,
        name: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
        parts: Parts | None = None,
        budget: CallBudget | None = None,
    ) -> Any:
        options, progress = _checked(name, options)
        if isinstance(options.get("cache"), str):
            options["cache"] = without_password(options["cache"])
        watch_computations()
        session = sessions.current_or_keyless()
        if session.cache.url in ("off", "memory://") and options.get("cache") is None:
            _warn_without_cache(session.cache.url)
        connection = GraphConnection.of(session)
        meta = meta_of(self._data, name, args, options, session)
        columns = getattr(self._data._meta, "columns", None)
        own = None if columns is None else tuple(columns)
        dollars = options.pop("budget", None)
        partitions = self._data.npartitions
        if dollars is not None:
            budget = CallBudget.opened(float(dollars), partitions, session, options.get("cache"))
        shows = bool(progress)
        call = PartitionCall(
            *(name, args, options, connection, meta, self._data._name, own),
            budget=budget,
            shows_progress=shows,
            parts=parts,
        )
        if progress:
            show_progress(call.progress_topic, PartsProgress(name, partitions, progress))
        made = meta if parts is None else WRITTEN[:0]
        has_other_rows = parts is not None or name == "summarize"
        return self._data.map_partitions(call, meta=made, enforce_metadata=False, clear_divisions=has_other_rows)

    def _trial(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return the estimate of a call, or the results and the estimate of a sample."""
        options = dict(options)
        dry_run, sample = options.pop("dry_run", False), options.pop("sample", None)
        if dry_run and sample is not None:
            raise InputError("dry_run=True sends nothing and sample= sends some rows; pass one of them.")
        if not isinstance(dry_run, bool):
            raise InputError(f"dry_run must be True or False, got {dry_run!r}.")
        options, _ = _checked(name, options)
        if name not in OF_FRAMES:
            meta_of(self._data, name, args, options, sessions.current_or_keyless())
        estimate = cluster_estimate_of if name == "cluster" else estimate_of
        if sample is not None:
            return sample_of(self._data, name, args, options, sample, estimate)
        return estimate(self._data, name, args, options, options.get("budget"))

    def _with_pandas_frame(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of ``join`` with the rows of the other collection, computed here, if it is one."""
        given = given_arguments("join", args, options)
        other = given.arguments["other"]
        if isinstance(other, DataFrame):
            given.arguments["other"] = other._meta
            check_arguments(self._data, "join", given.args[1:], given.kwargs)
            given.arguments["other"] = computed_rows(other)
        return given.args[1:], given.kwargs

    def _estimate(self, args: tuple[Any, ...], options: dict[str, Any]) -> Estimate:
        known = (*ROW_METHODS, "join", "search")
        name = args[0] if args else None
        columns, options = getattr(self._data._meta, "columns", None), {**options, "dry_run": True}
        if columns is not None and name in OF_FRAMES:
            return getattr(self, name)(*args[1:], **options)  # type: ignore[no-any-return]
        if isinstance(name, str) and name in INSTEAD and name not in known:
            raise InputError(f"{name} needs all rows, which a Dask collection has not in one place: {INSTEAD[name]}.")
        is_column = columns is not None and isinstance(name, Hashable) and name in columns
        if isinstance(name, str) and name in known and (len(args) > 1 or not is_column):
            return self._trial(name, args[1:], options)  # type: ignore[no-any-return]
        if columns is None:
            raise InputError(f"method must be one of {', '.join(ROW_METHODS)}, got {name!r}.")
        return self._trial("embed" if is_column else "complete", args, options)  # type: ignore[no-any-return]

    def _search(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Search each partition, and keep the best of what they found."""
        given = given_arguments("search", args, options)
        query, queries = given.arguments["query"], None
        if not isinstance(query, str) and isinstance(query, Sequence):
            # Each partition is asked each once.
            queries = list(query)
            given.arguments["query"] = list(dict.fromkeys(queries))
        found = self._call("search", given.args[1:], given.kwargs)
        if isinstance(found, (Estimate, Sample)):
            return found
        given.apply_defaults()
        k, into = given.arguments["k"], given.arguments["into"]
        column = None if queries is None else found._meta.columns[-1]
        whole = found.repartition(npartitions=1)
        merged = (queries, k, into, column)
        return whole.map_partitions(best_of_all, *merged, meta=found._meta, enforce_metadata=False)

    def _summarize(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Summarize the groups of each partition, and then what several partitions say of the same group."""
        given = given_arguments("summarize", args, options)
        by, into = given.arguments.get("by"), given.arguments.get("into", "summary")
        if isinstance(by, list):
            raise InputError(
                f"by must be one column on a Dask collection, got {by!r}: assign() a column that joins several."
            )
        if options.get("sample") is not None:
            raise InputError("sample must be left out of summarize on a Dask collection: pass dry_run=True instead.")
        if options.get("dry_run"):
            estimate = self._trial("summarize", args, options)
            return replace(estimate, notes=(*estimate.notes, SUMMARIZED_AGAIN))
        dollars, budget = options.pop("budget", None), None
        if dollars is not None:
            session, twice = sessions.current_or_keyless(), 2 * self._data.npartitions
            budget = CallBudget.opened(float(dollars), twice, session, options.get("cache"))
        partial = self._mapped("summarize", args, options, budget=budget).repartition(npartitions=1)
        meta = partial._meta
        inner = partial.map_partitions(
            several_partials, into, meta=meta.reset_index(names=GROUP), enforce_metadata=False
        )
        again = type(self)(inner)._mapped(
            "summarize",
            (into, GROUP),
            {name: value for name, value in options.items() if name not in ("column", "by")},
            budget=budget,
        )
        return partial.map_partitions(whole_summaries, again, into, meta=meta, enforce_metadata=False)

    def _cluster(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Cluster a sample here, and give each row the cluster whose center is most similar."""
        given = with_defaults("cluster", args, options)
        column, into, like, text = (given[name] for name in ("column", "into", "like", "text"))
        asked = {**options, **dict(zip(("column", "n"), args, strict=False))}
        if like is not None:
            meta_like(self._data, args, options)
        elif given["n"] is not None:
            check_count("n", given["n"])
        check_arguments(
            self._data, "cluster", (), {name: asked[name] for name in asked if name != "n" or like is not None}
        )
        if _is_trial(options):
            return self._trial("cluster", args, options)
        data, source = self._data, column
        if like is None:
            data, source = self._embedded(column, options)
            if source != column:
                asked = {"text": column, **{name: asked[name] for name in asked if name not in ("model", "dimensions")}}
                text = column if text is None else text
            if text is not None or given["name"]:
                resolve_texts(self._data._meta_nonempty, text, "The names of clusters")
            texts = text_columns(data._meta_nonempty, exclude=[source]) if text is None else [text]
            rows = sample_rows(data[list(dict.fromkeys([source, *texts]))])
            if not rows[source].notna().any():
                raise InputError(f"Column {column!r} has no embedding in any row.")
            like = bound_method(rows, "cluster")(**{**asked, "column": source})
        centers = {"like": only_centers(like, source, into), "into": into, "progress": given["progress"]}
        found = type(self)(data)._mapped("cluster", (source,), centers)
        return found if source == column else found.drop(columns=source)

    def _dedupe(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Compare the partitions one after the other, each with what is kept of those before it."""
        given = with_defaults("dedupe", args, options)
        column, threshold, keep, into, recall = (
            given[name] for name in ("column", "threshold", "keep", "into", "recall")
        )
        check_arguments(self._data, "dedupe", args, options)
        if recall not in (None, 1):
            raise InputError(f"recall must be 1 or left out on a Dask collection, which compares all, got {recall!r}.")
        if _is_trial(options):
            return self._trial("dedupe", args, options)
        data, source = self._embedded(column, options)
        result = deduped(data, source, float(threshold), keep, into, [] if source == column else [source])
        _keep_newest(_made_from, result._name, data)
        return result

    def _similar(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Find the row here, compare it with those of each partition, and keep the best of what they found."""
        given = with_defaults("similar", args, options)
        if options.get("sample") is not None:
            raise InputError("sample must be left out of similar on a Dask collection: pass dry_run=True instead.")
        row = labeled_row(self._data, given["row"])
        check_arguments(row, "similar", args, options)
        seen = self._data.map_partitions(
            with_row_first, row, given["column"], meta=self._data._meta, enforce_metadata=False, clear_divisions=True
        )
        found = type(self)(seen)._call("similar", args, options)
        if isinstance(found, Estimate):
            return found
        merged = (None, given["k"], given["into"], None)
        whole = found.repartition(npartitions=1)
        return whole.map_partitions(best_of_all, *merged, meta=found._meta, enforce_metadata=False)

    def _embedded(self, column: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        """Return the collection with a column of embeddings, and its name: texts are embedded, lazily."""
        if not is_text(column_of(self._data._meta_nonempty, column)):
            return self._data, column
        if options.get("budget") is not None:
            raise InputError("budget must be left out with a column of texts on a Dask collection: embed() it before.")
        return self._call("embed", (column,), {**embedding_options(options), "into": VECTORS}), VECTORS

    def _topics(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Count the clusters of each partition, and add up."""
        given = with_defaults("topics", args, options)
        if given["levels"] != 1:
            raise InputError(
                f"levels must be 1 on a Dask collection, got {given['levels']!r}: the parts of a cluster are found in "
                "its vectors. Call topics(levels=2) on a pandas frame of some of the rows."
            )
        dtype = column_of(self._data._meta, given["into"]).dtype
        if isinstance(dtype, pd.CategoricalDtype) and not self._data[given["into"]].cat.known:
            raise InputError(f"Column {given['into']!r} must have known categories: use .cat.as_known() on it.")
        return topics_of(self._data, given["into"], given["text"], given["examples"])

    @property
    def report(self) -> Report:
        """The report of the partitions that were computed, of all workers together.

        Its rows, answers and errors are those of the last call in the collection, and its requests, tokens and dollars
        those of all of them, whatever was computed twice included. A text in several partitions is counted as distinct
        in each. Its state is "running" until every partition has been computed.

        Raises
        ------
        InputError
            If no method was called on what the collection is made from, or nothing of it has been computed yet.
        """
        (last, _), *others = self._totals()
        return replace(sum_reports(last, *(report for report, _ in others)), seconds=last.seconds)

    def failed(self) -> pd.DataFrame:
        """Return the index labels of the rows that failed in the last call, with the reasons.

        Returns
        -------
        pandas.DataFrame
            A column ``error``; at most 1,000 rows of each partition.

        Raises
        ------
        InputError
            If no method was called on what the collection is made from, or nothing of it has been computed yet.
        """
        rows = self._totals()[0][1]
        index = pd.Index([label for label, _ in rows], name=self._data._meta.index.name)
        return pd.DataFrame({"error": pd.Series([reason for _, reason in rows], index=index, dtype="string")})

    def _totals(self) -> list[tuple[Report, list[tuple[Any, str]]]]:
        collection = _made_from.get(self._data._name, self._data)
        steps = {step.func.topic: step for step in collection.expr.walk() if _is_call(step)}
        if not steps:
            raise InputError("No method of skytells was called on what this collection is made from.")
        found = [(published(topic, step.npartitions), step.npartitions) for topic, step in steps.items()]
        totals = [total_of(reports, partitions) for reports, partitions in found if reports]
        if not totals:
            raise InputError("Nothing of this collection has been computed yet, so there is no report: compute() it.")
        return totals


_made_from: dict[str, Any] = {}
"""By the name of a collection without calls the one that has them: what ``to=`` computed, or it is made from."""


def _keep_newest(known: dict[str, Any], name: str, value: Any) -> None:
    known.pop(name, None)
    known[name] = value
    while len(known) > MAX_TOPICS:
        del known[next(iter(known))]


def _is_trial(options: dict[str, Any]) -> bool:
    return options.get("dry_run") not in (None, False) or options.get("sample") is not None


def _is_call(step: Any) -> bool:
    return isinstance(step, MapPartitions) and isinstance(step.func, PartitionCall)


def _checked(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], bool | ProgressCallback]:
    """Return the options of a call on partitions, and what shows its progress.

    Raises InputError for those that only pandas has.
    """
    options = with_columns_only(name, options)
    reasons = {
        "session": "workers use the session of their own process",
        "to": "this method writes nothing itself; use to_parquet() on the result",
        "safety_to": "this method writes nothing itself; use to_parquet() on the result",
    }
    if name == "translate":
        del reasons["to"]  # a language
    for option, reason in reasons.items():
        if options.get(option) not in (None, False):
            raise InputError(f"{option} must be left out on a Dask collection: {reason}.")
        options.pop(option, None)
    progress = options.pop("progress", True)
    if not isinstance(progress, bool) and not callable(progress):
        raise InputError(f"progress must be True, False or a function that takes events, got {progress!r}.")
    return options, progress


def _warn_without_cache(url: str) -> None:
    warn(
        f"The cache of this session is {url.removesuffix('://')}: whatever Dask computes twice is paid for twice, and "
        "so is a text in two partitions. Use a cache file, or redis:// or postgresql:// for several machines."
    )


def _delegate(name: str, original: Callable[..., Any], is_frame: bool) -> Any:
    if name in ROW_METHODS or name == "join":

        @functools.wraps(original)
        def method(self: Any, *args: Any, **options: Any) -> Any:
            return self._call(name, args, options)

        doc = inspect.getdoc(original)
        method.__doc__ = f"{name} of pandas' ``skytells``, for each partition of a Dask collection.\n\n{doc}"
        return method

    if name in OVER_ALL and (is_frame or name not in OF_FRAMES):

        @functools.wraps(original)
        def over_all(self: Any, *args: Any, **options: Any) -> Any:
            return getattr(self, f"_{name}")(args, options)

        over_all.__doc__ = f"{name} of pandas' ``skytells``, over all partitions.\n\n{inspect.getdoc(original)}"
        return over_all

    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        instead = INSTEAD.get(name, "compute() the collection first, then call it in pandas")
        if name in OVER_ALL:
            instead = f"call {name}() on the Dask DataFrame that has the column"
        raise InputError(f"{name} needs all rows, which a Dask collection has not in one place: {instead}.")

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
        if not _name.startswith("_") and not hasattr(_Accessor, _name):
            _original = inspect.getattr_static(_pandas, _name)
            setattr(_accessor, _name, _delegate(_name, _original, _pandas is FrameAccessor))

register_dataframe_accessor("skytells")(DaskFrameAccessor)  # type: ignore[no-untyped-call]
register_series_accessor("skytells")(DaskSeriesAccessor)  # type: ignore[no-untyped-call]
