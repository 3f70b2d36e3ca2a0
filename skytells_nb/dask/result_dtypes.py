"""The dtypes of a result before anything is computed: from the method of pandas, on no rows."""

from __future__ import annotations

import inspect
from typing import Any

import pandas as pd
import pyarrow as pa

from skytells_nb import session as sessions
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.columns import column_of
from skytells_nb.dask.partition_call import bound_method
from skytells_nb.errors import InputError
from skytells_nb.session import Session

VECTOR_LENGTHS = {"skytells-embed-3-small": 1536, "skytells-embed-3-large": 3072}
"""Numbers in the vectors of the service's models, as it documents them."""
LOCAL_VECTOR_LENGTH = 512


def given_arguments(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> inspect.BoundArguments:
    """Return the arguments of a method of pandas; raises InputError for those that it does not have."""
    try:
        given = inspect.signature(getattr(FrameAccessor, name)).bind(None, *args, **options)
    except TypeError as problem:
        raise InputError(f"{name}: {problem}.") from None
    return given


def with_defaults(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    given = given_arguments(name, args, options)
    given.apply_defaults()
    return given.arguments


def is_text(values: pd.Series[Any]) -> bool:
    return isinstance(values.dtype, pd.StringDtype) or (len(values) > 0 and isinstance(values.iloc[0], str))


def check_arguments(data: Any, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return what the method of pandas makes of no rows of a collection, or a dry run on a pandas frame.

    Raises its InputError for a wrong argument.
    """
    shown = {option: value for option, value in options.items() if option not in ("budget", "dry_run", "sample")}
    if isinstance(data, pd.DataFrame):
        shown["dry_run"] = True
    with sessions.offline(sessions.current_or_keyless()) as offline:
        return bound_method(getattr(data, "_meta", data), name)(*args, **{**shown, "progress": False}, session=offline)


def meta_of(data: Any, name: str, args: tuple[Any, ...], options: dict[str, Any], session: Session) -> Any:
    """Return the empty result of a method on a collection.

    The method itself checks the arguments, on the values that Dask puts in the place of the real ones: a dry run sends
    nothing, and a run of no rows neither.
    """
    if name == "cluster":
        return meta_like(data, args, options)
    if name == "join":
        return _meta_joined(data, args, options)
    if name == "similar":
        result = data._meta.copy()
        result[with_defaults(name, args, options)["into"]] = pd.Series([], dtype="float32", index=result.index)
        return result
    with sessions.offline(session) as offline:
        has_values = options.get("images") is None  # which would be read
        bound_method(data._meta_nonempty if has_values else data._meta, name)(
            *args, **options, session=offline, dry_run=True
        )
        shown = {option: value for option, value in options.items() if option != "budget"}  # which needs a price
        if name == "classify" and shown.get("via") == "embedding":
            del shown["via"]  # the dtype is the same, and no label need be embedded for it
        result = bound_method(data._meta, name)(*args, **shown, session=offline, progress=False)
    if isinstance(result, pd.DataFrame):
        # Categories of whatever values occur would differ between partitions.
        for column in result.columns.difference(getattr(data._meta, "columns", []), sort=False):
            dtype = result[column].dtype
            if isinstance(dtype, pd.CategoricalDtype) and not len(dtype.categories):
                result[column] = result[column].astype(dtype.categories.dtype)
    if name != "embed":
        return result
    model = options.get("model") or session.settings.embedding_model
    dtype = vector_dtype(options.get("dimensions") or _vector_length(model, session))
    if isinstance(result, pd.Series):
        return result.astype(object).astype(dtype)
    into = inspect.signature(FrameAccessor.embed).bind(None, *args, **options).arguments.get("into", "embedding")
    result[into] = pd.Series([], dtype=dtype, index=result.index)
    return result


def meta_like(data: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the empty result of ``cluster(like=)``, whose clusters are known; the embeddings of both must be there."""
    given = inspect.signature(FrameAccessor.cluster).bind(None, *args, **options)
    given.apply_defaults()
    column, into, like = (given.arguments[name] for name in ("column", "into", "like"))
    result = data._meta.copy()
    for name, where in ((column, result), (column, like), (into, like)):
        column_of(where, name)
    for where in (result, like):
        values = where[column].dropna()
        if is_text(values):
            raise InputError(f"like= needs a column of embeddings here, and {column!r} is text: embed() both first.")
    result[into] = pd.Series([], dtype=like[into].dtype, index=result.index)
    result[f"{into}_score"] = pd.Series([], dtype="float32", index=result.index)
    return result


def _meta_joined(data: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the empty result of ``join`` with a pandas frame."""
    given = with_defaults("join", args, options)
    other = given["other"]
    if not isinstance(other, pd.DataFrame):
        raise InputError(
            f"other must be a pandas DataFrame, which every worker gets, got one of {type(other).__module__}: "
            "compute() the columns of it that are needed."
        )
    result = check_arguments(data, "join", args, options)
    if given["how"] == "left":
        # Where rows have no pair.
        missing = other.iloc[:0].set_axis(pd.RangeIndex(0), axis=0).reindex([0]).iloc[:0].set_axis(result.index, axis=0)
        for place, name in enumerate(result.columns[-1 - len(other.columns) : -1]):
            result[name] = missing.iloc[:, place]
    return result


def _vector_length(model: str, session: Session) -> int | None:
    """Return how many numbers the vectors of a model have, ``None`` where that is not known before it is asked."""
    if session.is_local:
        return LOCAL_VECTOR_LENGTH
    return VECTOR_LENGTHS.get(model) if session.is_public else None


def vector_dtype(length: int | None) -> pd.ArrowDtype:
    item = pa.float32()
    return pd.ArrowDtype(pa.list_(item) if length is None else pa.list_(item, int(length)))
