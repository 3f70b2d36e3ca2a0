"""``import skytells_nb.polars``: the ``skytells`` namespace of polars frames and columns, over the same engine.

It has every method of ``df.skytells`` with the same keywords. A frame is converted through Arrow, and new columns are
converted back to polars; existing columns stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pandas as pd

from skytells_nb.accessor.call import copy_report
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.estimate import Sample
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.errors import InputError, Interrupted, MissingExtraError, SkytellsError
from skytells_nb.plots.safety_charts.findings import SAFETY_SUFFIX

try:
    import polars as pl
    import pyarrow  # noqa: F401 - converts the frames
except ImportError:
    raise MissingExtraError("The polars namespace", "polars") from None

TABLES = ("failed", "join", "mean", "safety", "share", "summarize", "topics")
"""Methods that return another table; the others return rows of the frame with more columns."""


_LABELS = (pl.Categorical, pl.Enum)
"""Types of columns of labels."""
_WIDE = tuple(getattr(pl, name) for name in ("Int128", "UInt128") if hasattr(pl, name))
"""Types of whole numbers that Arrow does not have."""


class _Namespace:
    """The methods of the pandas accessor on a polars frame or column."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        if name == "embed" and kwargs.setdefault("dtype", "arrow") != "arrow":
            raise InputError("dtype must be left out: vectors are always Array columns in polars.")
        source = _to_pandas(self._data)
        if isinstance(source, pd.DataFrame):
            _adapt_arguments(source, name, args, kwargs)
        try:
            method = getattr(source.skytells, name)
            if not callable(method):
                return _of_property(method)
            result = method(*map(_to_pandas, args), **{key: _to_pandas(value) for key, value in kwargs.items()})
        except (Interrupted, SkytellsError) as problem:
            problem.frame = self._to_polars(source, name, problem.frame)
            raise
        finally:
            # A call that failed or was interrupted has a report too.
            copy_report(source, self._data)
        converted = self._to_polars(source, name, result)
        if converted is not result and not isinstance(result, Sample):
            copy_report(result, converted)
        return converted

    def _to_polars(self, source: Any, name: str, result: Any) -> Any:
        """Return the result of a method as polars data; other objects unchanged."""
        if isinstance(result, pd.Series):
            return _to_polars_series(self._data.name, result)
        if isinstance(result, pd.DataFrame):
            has_same_rows = isinstance(source, pd.DataFrame) and name not in TABLES
            return _add_columns(self._data, source, result) if has_same_rows else _to_polars_frame(result)
        if isinstance(result, Sample):
            return replace(result, result=self._to_polars(source, name, result.result))
        return result


class FrameNamespace(_Namespace):
    """Language models for the columns of a polars frame: the methods of pandas' ``df.skytells``.

    Vectors are ``Array(Float32, d)``, labels ``Enum``; the fields of a schema are columns, as with ``flatten=True``.
    Rows keep their order; errors of a report are by position of the row.
    """


class SeriesNamespace(_Namespace):
    """Language models for a polars column of texts: the methods of pandas' ``series.skytells``."""


def _adapt_arguments(frame: pd.DataFrame, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Set the arguments and dtypes that differ between polars and pandas."""
    if name == "complete" and kwargs.get("schema") is not None and not kwargs.setdefault("flatten", True):
        raise InputError("flatten must be left out: the fields of a schema are always columns in polars.")
    if name == "topics" and (into := [*args, kwargs.get("into", "cluster")][0]) in frame:
        frame[into] = frame[into].astype("category")


def _to_pandas(value: Any) -> Any:
    """Convert polars data to pandas through Arrow; return other objects unchanged."""
    if isinstance(value, pl.Series):
        if value.dtype in _LABELS:
            return pd.Series(_to_categorical(value), name=value.name or None)
        return value.to_pandas(use_pyarrow_extension_array=True)
    if not isinstance(value, pl.DataFrame):
        return value
    # polars cannot convert labels with a null among them this way, so these go as texts.
    labels = [name for name, dtype in value.schema.items() if dtype in _LABELS]
    wide = [name for name, dtype in value.schema.items() if dtype in _WIDE]
    frame = value.with_columns(pl.col(labels + wide).cast(pl.String)).to_pandas(use_pyarrow_extension_array=True)
    for name in labels:
        frame[name] = _to_categorical(value[name])
    for name in wide:
        frame[name] = pd.Series(value[name].to_list(), dtype=object)
    copy_report(value, frame)
    return frame


def _of_property(value: Any) -> Any:
    """Return a table as a polars frame, with dicts as JSON; other values unchanged."""
    if not isinstance(value, pd.DataFrame):
        return value
    table = value.copy(deep=False)
    for name in table:
        if any(isinstance(cell, dict) for cell in table[name]):
            table[name] = [json.dumps(cell) for cell in table[name]]
    return _to_polars_frame(table)


def _to_categorical(labels: pl.Series) -> pd.Categorical:
    """Return a column of labels with all labels of an Enum, or those of a Categorical in order of appearance."""
    texts = labels.cast(pl.String)
    categories = (
        labels.dtype.categories if isinstance(labels.dtype, pl.Enum) else texts.drop_nulls().unique(maintain_order=True)
    )
    return pd.Categorical(texts.to_list(), categories=pd.Index(categories.to_list(), dtype=object))


def _add_columns(frame: pl.DataFrame, source: pd.DataFrame, result: pd.DataFrame) -> pl.DataFrame:
    """Return the rows of the polars frame that are in ``result``, with its new and changed columns."""
    has_all_rows = result.index.equals(source.index)
    rows = frame if has_all_rows else frame[result.index.to_numpy()]
    before = source if has_all_rows else source.loc[result.index]

    def is_unchanged(name: Any) -> bool:
        return name in source and result[name].dtype == before[name].dtype and result[name].equals(before[name])

    return rows.with_columns([_to_polars_series(name, result[name]) for name in result if not is_unchanged(name)])


def _to_polars_frame(frame: pd.DataFrame) -> pl.DataFrame:
    levels = [name for name in frame.index.names if name is not None]
    table = frame.reset_index(level=levels) if levels else frame
    return pl.DataFrame([_to_polars_series(name, table[name]) for name in table])


def _to_polars_series(name: Any, series: pd.Series[Any]) -> pl.Series:
    dtype = series.dtype
    if str(name).endswith(SAFETY_SUFFIX) and isinstance(dtype, pd.CategoricalDtype):
        # JSON text, whose few different values are no labels.
        return _to_polars_series(name, series.astype(dtype.categories.dtype))
    if isinstance(dtype, pd.CategoricalDtype) and all(isinstance(label, str) for label in dtype.categories):
        return pl.Series(name, series.astype(object).where(series.notna(), None).tolist(), pl.Enum(dtype.categories))
    if isinstance(dtype, pd.CategoricalDtype):
        return pl.Series(name, series.astype(object).where(series.notna(), None).tolist(), strict=False)
    if isinstance(dtype, pd.ArrowDtype) and "fixed_size_list" in str(dtype) and not series.notna().any():
        size = cast(Any, dtype.pyarrow_dtype).list_size
        return pl.Series(name, [None] * len(series), pl.Array(pl.Float32, size))
    return pl.from_pandas(series, nan_to_null=not isinstance(dtype, pd.ArrowDtype)).alias(name)


def _delegate(name: str, original: Callable[..., Any] | property) -> Any:
    if isinstance(original, property):
        return property(lambda self: self._call(name), doc=original.__doc__)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, *args, **kwargs)

    method.__doc__ = f"{name} of pandas' ``skytells``, for polars.\n\n{inspect.getdoc(original)}"
    return method


for _namespace, _accessor in ((FrameNamespace, FrameAccessor), (SeriesNamespace, SeriesAccessor)):
    for _name in dir(_accessor):
        if not _name.startswith("_"):
            setattr(_namespace, _name, _delegate(_name, inspect.getattr_static(_accessor, _name)))

pl.api.register_dataframe_namespace("skytells")(FrameNamespace)
pl.api.register_series_namespace("skytells")(SeriesNamespace)
