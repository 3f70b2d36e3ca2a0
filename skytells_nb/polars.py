"""``import skytells_nb.polars``: ``skytells`` on polars' frames and columns, a second door over the same engine.

Every method of ``df.skytells`` is there under its name, with its keywords. A frame goes in through Arrow, and what is
made comes back as polars columns; the columns that were there are not touched.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import pandas as pd

from skytells_nb.accessor.call import copy_report
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.errors import InputError, MissingExtraError

try:
    import polars as pl
    import pyarrow  # noqa: F401 - what frames pass through
except ImportError:
    raise MissingExtraError("The door to polars", "polars") from None

TABLES = ("join", "safety", "summarize", "topics")
"""Methods whose result is another table; those of the others are rows of the frame, with more columns."""


class _Door:
    """A polars frame or column, asked as the pandas one it becomes."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def _call(self, name: str, /, *given: Any, **keywords: Any) -> Any:
        if name == "embed" and keywords.setdefault("dtype", "arrow") != "arrow":
            raise InputError("Vectors are Array columns in polars, which dtype= does not change.")
        asked = _pandas(self._given)
        if isinstance(asked, pd.DataFrame):
            _settle(asked, name, given, keywords)
        try:
            method = getattr(asked.skytells, name)
            if not callable(method):
                return method
            made = method(*map(_pandas, given), **{word: _pandas(value) for word, value in keywords.items()})
        finally:
            # A call that failed or was interrupted has left its report too.
            copy_report(asked, self._given)
        if isinstance(made, pd.Series):
            result: Any = _column(self._given.name, made)
        elif isinstance(made, pd.DataFrame):
            rows = isinstance(asked, pd.DataFrame) and name not in TABLES
            result = _rows(self._given, asked, made) if rows else _table(made)
        else:
            return made
        copy_report(made, result)
        return result


class FrameNamespace(_Door):
    """Language models over the columns of a polars frame: the methods of pandas' ``df.skytells``.

    Vectors are ``Array(Float32, d)``, labels ``Enum``; the fields of a schema are columns, as with ``flatten=True``.
    Rows keep their order, and an error of a report names the position of its row.
    """


class SeriesNamespace(_Door):
    """Language models over one polars column of texts: the methods of pandas' ``series.skytells``."""


def _settle(frame: pd.DataFrame, name: str, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """What polars has otherwise than pandas."""
    if name == "complete" and keywords.get("schema") is not None and not keywords.setdefault("flatten", True):
        raise InputError("A schema's fields are columns of their own in polars: leave flatten out.")
    if name == "topics" and (into := [*given, keywords.get("into", "cluster")][0]) in frame:
        frame[into] = frame[into].astype("category")


def _pandas(given: Any) -> Any:
    """The same in pandas, by way of Arrow; what is no polars is given back as it is."""
    if isinstance(given, pl.Series):
        return given.to_pandas(use_pyarrow_extension_array=True)
    if not isinstance(given, pl.DataFrame):
        return given
    made = given.to_pandas(use_pyarrow_extension_array=True)
    labels = [name for name, kind in given.schema.items() if kind in (pl.Categorical, pl.Enum)]
    made = made.astype(dict.fromkeys(labels, "category"))
    copy_report(given, made)
    return made


def _rows(frame: pl.DataFrame, asked: pd.DataFrame, made: pd.DataFrame) -> pl.DataFrame:
    """The rows of the polars frame that are in ``made``, with the columns that are new or not what they were."""
    whole = made.index.equals(asked.index)
    rows = frame if whole else frame[made.index.to_numpy()]
    before = asked if whole else asked.loc[made.index]

    def known(name: Any) -> bool:
        return name in asked and made[name].dtype == before[name].dtype and made[name].equals(before[name])

    return rows.with_columns([_column(name, made[name]) for name in made if not known(name)])


def _table(made: pd.DataFrame) -> pl.DataFrame:
    named = [name for name in made.index.names if name is not None]
    table = made.reset_index(level=named) if named else made
    return pl.DataFrame([_column(name, table[name]) for name in table])


def _column(name: Any, series: pd.Series[Any]) -> pl.Series:
    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype) and all(isinstance(label, str) for label in kind.categories):
        return pl.Series(name, series.astype(object).where(series.notna(), None).tolist(), pl.Enum(kind.categories))
    if isinstance(kind, pd.ArrowDtype) and "fixed_size_list" in str(kind) and not series.notna().any():
        size = cast(Any, kind.pyarrow_dtype).list_size
        return pl.Series(name, [None] * len(series), pl.Array(pl.Float32, size))
    return pl.from_pandas(series, nan_to_null=not isinstance(kind, pd.ArrowDtype)).alias(name)


def _method(name: str, of: Callable[..., Any] | property) -> Any:
    if isinstance(of, property):
        return property(lambda self: self._call(name), doc=of.__doc__)

    @functools.wraps(of)
    def method(self: Any, *given: Any, **keywords: Any) -> Any:
        return self._call(name, *given, **keywords)

    method.__doc__ = f"{name} of pandas' ``skytells``, from polars to polars.\n\n{inspect.getdoc(of)}"
    return method


for _namespace, _accessor in ((FrameNamespace, FrameAccessor), (SeriesNamespace, SeriesAccessor)):
    for _name in dir(_accessor):
        if not _name.startswith("_"):
            setattr(_namespace, _name, _method(_name, inspect.getattr_static(_accessor, _name)))

pl.api.register_dataframe_namespace("skytells")(FrameNamespace)
pl.api.register_series_namespace("skytells")(SeriesNamespace)
