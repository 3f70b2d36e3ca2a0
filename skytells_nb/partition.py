"""The methods that work row by row, on one batch of rows: what engines such as Ray and Spark call on each partition.

>>> import pyarrow as pa
>>> enrich(pa.table({"text": ["a cat", None]}), "embed", column="text").column_names
['text', 'embedding']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import pandas as pd

from skytells_nb.accessor import frame_accessor
from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.files import with_lineage

RowMethod = Literal["classify", "complete", "embed", "extract", "filter", "moderate", "score", "translate"]
"""The methods whose result for a row depends on that row only."""
ROW_METHODS: tuple[RowMethod, ...] = (
    "classify",
    "complete",
    "embed",
    "extract",
    "filter",
    "moderate",
    "score",
    "translate",
)
INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        ("search", "similar"), "embed() the partitions, keep the best rows of each, and search those in pandas"
    ),
    **dict.fromkeys(
        ("cluster", "dedupe", "join", "topics"),
        "embed() the partitions, then call it on the pandas frame of the columns that it needs, or on a Dask DataFrame",
    ),
    "rank": "score() the partitions, keep the best rows of each, and rank those in pandas",
    "compare": "call it in pandas on some of the rows, such as ddf.head(1000, npartitions=-1)",
    "summarize": "shuffle by the groups, then call it on the pandas frame of each, or on all in pandas",
    "estimate": "pass dry_run=True to the method on a pandas frame, such as a sample of the rows",
    "preview": "call it on a few rows in pandas",
    "style": "call it on a few rows in pandas",
}
"""What to do in place of a method that needs all rows."""

Batch = TypeVar("Batch")


def enrich(batch: Batch, method: RowMethod, **options: Any) -> Batch:
    """Return the rows of a batch with what a method of ``df.skytells`` adds to them.

    Batches share the cache, so a text in two of them is paid for once. The session is that of the process: on a worker
    it connects from the environment (``SKYTELLS_API_KEY``, ``SKYTELLS_BASE_URL``, ``SKYTELLS_CACHE``) on first use.

    Parameters
    ----------
    batch : pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
        Some of the rows.
    method : {"classify", "complete", "embed", "extract", "filter", "moderate", "score", "translate"}
        Name of a method whose result for a row depends on that row only.
    **options : Any
        The method's arguments by name, such as ``column="text"``. Vectors are always ``fixed_size_list<float>``
        columns and the fields of a schema always columns; no progress is shown unless ``progress`` is passed.

    Returns
    -------
    pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame
        The same kind of batch, with the same rows in the same order (``filter`` returns those that match) and further
        columns; the others are as they were.

    Raises
    ------
    InputError
        If an argument is wrong, or the method needs all rows; nothing is sent.

    Examples
    --------
    >>> df = pd.DataFrame({"text": ["a cat", None]})
    >>> enrich(df, "embed", column="text")["embedding"].isna().tolist()
    [False, True]
    """
    check_row_method(method)
    for name in ("to", "safety_to", "dry_run", "sample"):
        if options.get(name) and (name, method) != ("to", "translate"):  # which is a language there
            raise InputError(f"{name} must be left out: the result of a batch is a batch. Use it on a pandas frame.")
    options = {"progress": False, **with_columns_only(method, options)}
    if isinstance(batch, pd.DataFrame):
        return getattr(frame_accessor(batch), method)(**options)  # type: ignore[no-any-return]
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("enrich()", "arrow") from None
    if not isinstance(batch, (pa.Table, pa.RecordBatch)):
        raise InputError(
            f"batch must be a pyarrow Table or RecordBatch, or a pandas DataFrame, got {type(batch).__name__}."
        )
    table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    frame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    result = getattr(frame_accessor(frame), method)(**options)
    if len(result) < len(frame):
        table = table.take(pa.array(result.index.to_numpy()))
    for name in result.columns:
        before = frame.get(name)
        if before is not None and result[name].dtype == before.dtype and result[name].equals(before.loc[result.index]):
            continue
        column = _arrow_array(result[name])
        field = with_lineage(pa.schema([pa.field(str(name), column.type)]), result.attrs).field(0)
        if before is None:
            table = table.append_column(field, column)
        else:
            table = table.set_column(table.column_names.index(name), field, column)
    if isinstance(batch, pa.Table):
        return table  # type: ignore[no-any-return]
    batches = table.combine_chunks().to_batches()
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in table.schema], schema=table.schema)
    return batches[0] if batches else empty  # type: ignore[no-any-return]


def check_row_method(method: str) -> None:
    """Raise InputError for a method that is unknown, or that needs all rows, with what to do in its place."""
    if method in ROW_METHODS:
        return
    known = ", ".join(ROW_METHODS)
    if method in INSTEAD:
        raise InputError(f"{method} needs all rows, and a partition has some of them: {INSTEAD[method]}.")
    raise InputError(f"method must be one of {known}, got {method!r}.")


def with_columns_only(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a method whose results are to be columns of Arrow types.

    Raises InputError for one that says otherwise.
    """
    changed = dict(options)
    for name, value in (("agree", None), ("gold", None), ("confidence", "proxy")):
        given = changed.get(name)
        if method in ("classify", "filter", "join") and given is not None and value in (None, given):
            shown = name if value is None else f"{name}={value!r}"
            raise InputError(
                f"{shown} learns from all rows, and a partition has some of them: call it on the pandas frame of the "
                "columns that it needs."
            )
    if method == "embed" and changed.setdefault("dtype", "arrow") != "arrow":
        raise InputError(f"dtype must be 'arrow' or left out here, got {options['dtype']!r}.")
    if method == "complete" and changed.get("schema") is not None and changed.setdefault("flatten", True) is not True:
        raise InputError("flatten must be True or left out here: the fields of a schema are columns.")
    return changed


def _arrow_array(series: pd.Series[Any]) -> Any:
    import pyarrow as pa

    array = pa.array(series, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
