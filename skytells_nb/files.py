"""Reading columns back from files: nested ones from Parquet and Feather, vectors from CSV.

``docs/columns.md`` has a table of all kinds of columns and files.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.columns import from_matrix, to_matrix
from skytells_nb.errors import InputError, MissingExtraError

__all__ = ["from_text", "read", "to_text", "write"]

LINEAGE = "skytells_lineage"
"""The name of the records of calls in the ``attrs`` of a frame, and in the metadata of the Arrow field of a column."""
RECORD_ID = 16
"""Characters in the id of a record."""
_ATTRS = b"PANDAS_ATTRS"
"""Where pandas keeps ``attrs`` in a Parquet file."""
_ARROW = "[pyarrow]"
_PARQUET = b"PAR1"


def __dir__() -> list[str]:
    return __all__


def read(path: str | Path) -> pd.DataFrame:
    """Read the frame in a Parquet or Feather file, with its original index and dtypes.

    ``pd.read_parquet`` cannot read Arrow lists, structs and maps back (pandas 3.1 raises), and its
    ``dtype_backend="pyarrow"`` gives all other columns other dtypes.

    Parameters
    ----------
    path : str or Path
        The file, or a folder of parts: Parquet or Feather files, in the order of their names (``part-2`` before
        ``part-10``). Folders named like ``year=2026`` become columns; names that begin with a dot or an underscore are
        passed over.

    Returns
    -------
    pandas.DataFrame
        The frame. Vectors that were written without pandas, as ``embed(to=...)`` does, become float32 arrays. Parts
        that number their rows each from 0 get one new index.

    Raises
    ------
    InputError
        If the file is of another kind, does not exist, or a folder has no parts or parts of different columns.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "frame.parquet"
    >>> frame = pd.DataFrame({"v": from_matrix([[1, 2]], dtype="arrow"), "n": pd.array([1], dtype="Int64")})
    >>> frame.to_parquet(path)
    >>> read(path).dtypes.equals(frame.dtypes)
    True
    """
    try:
        import pyarrow as pa
        from pyarrow import feather, parquet
    except ImportError:
        raise MissingExtraError("A Parquet or Feather file", "arrow") from None
    try:
        if Path(path).is_dir():
            table = original = _read_parts(Path(path))
        else:
            is_parquet = _is_parquet(Path(path))
            table = original = parquet.read_table(path) if is_parquet else feather.read_table(path)
    except pa.ArrowException as problem:
        kind = "a folder of Parquet or Feather files" if Path(path).is_dir() else "a Parquet or Feather file"
        raise InputError(f"path must be {kind}, got {path}: {problem}.") from None
    metadata = table.schema.pandas_metadata or {}
    nested = [c["field_name"] for c in metadata.get("columns", ()) if str(c["numpy_type"]).endswith(_ARROW)]
    nested += _nested_of_parts(table.schema.metadata)
    for name in nested:
        position = table.column_names.index(name)
        table = table.set_column(position, pa.field(name, pa.null()), pa.nulls(len(table)))
    # pandas cannot parse the dtype names of nested columns.
    columns = [{**c, "numpy_type": "object"} if c["field_name"] in nested else c for c in metadata.get("columns", ())]
    schema_metadata = (
        {b"pandas": json.dumps({**metadata, "columns": columns}).encode()} if nested else table.schema.metadata
    )
    frame: pd.DataFrame = table.replace_schema_metadata(schema_metadata).to_pandas()
    for name in nested:
        frame[name] = pd.Series(pd.arrays.ArrowExtensionArray(original.column(name)), index=frame.index)
    frame.attrs |= _attrs_of(original.schema)
    return frame


def write(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame to a Parquet file, with what made each column in the metadata of its field.

    ``frame.to_parquet`` keeps it too, for pandas; here other readers of Parquet see it at the column.

    Parameters
    ----------
    frame : pandas.DataFrame
        The frame; vectors become ``fixed_size_list`` or lists.
    path : str or Path
        The file, which appears complete.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If Parquet cannot store the frame.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = write(pd.DataFrame({"n": [1, 2]}), Path(tempfile.mkdtemp()) / "frame.parquet")
    >>> read(path)["n"].tolist()
    [1, 2]
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Writing Parquet", "arrow") from None
    target = Path(path)
    unfinished = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.unfinished")
    try:
        bare = frame.copy(deep=False)
        bare.attrs = {}
        table = pa.Table.from_pandas(bare)
        table = table.cast(with_lineage(table.schema, frame.attrs))
        parquet.write_table(table, unfinished)
        unfinished.replace(target)
    except (pa.ArrowException, ValueError, TypeError) as problem:
        raise InputError(f"Parquet cannot store this frame: {problem}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def with_lineage(schema: Any, attrs: Mapping[Any, Any]) -> Any:
    """Return an Arrow schema with the attributes of a frame, and with the records of each column at its field."""
    schema = with_field_lineage(schema, attrs.get(LINEAGE))
    if not attrs:
        return schema
    try:
        return schema.with_metadata({**(schema.metadata or {}), _ATTRS: json.dumps(dict(attrs))})
    except TypeError as problem:
        raise InputError(f"frame.attrs must hold what JSON can store to be written to a file: {problem}.") from None


def with_field_lineage(schema: Any, records: str | None) -> Any:
    """Return an Arrow schema with the records of each column at its field."""
    for record in _records(records):
        for name in record.get("columns", ()):
            number = schema.get_field_index(str(name))
            if number >= 0:
                field = schema.field(number)
                known = [*_records((field.metadata or {}).get(LINEAGE.encode())), record]
                metadata = {**(field.metadata or {}), LINEAGE.encode(): json.dumps(known, ensure_ascii=False)}
                schema = schema.set(number, field.with_metadata(metadata))
    return schema


def _attrs_of(schema: Any) -> dict[Any, Any]:
    """Return the attributes that a file keeps, with the records of calls at its fields."""
    try:
        attrs = json.loads((schema.metadata or {}).get(_ATTRS, b"{}"))
    except ValueError:
        attrs = {}
    attrs = attrs if isinstance(attrs, dict) else {}
    of_fields = [_records((field.metadata or {}).get(LINEAGE.encode())) for field in schema]
    records = [*_records(attrs.get(LINEAGE)), *(record for field in of_fields for record in field)]
    if records:
        attrs[LINEAGE] = json.dumps(list({record.get("id"): record for record in records}.values()), ensure_ascii=False)
    return attrs


def _records(text: Any) -> list[dict[str, Any]]:
    """Return the records of calls in a JSON text, none if it is another one."""
    try:
        values = json.loads(text) if isinstance(text, (str, bytes)) else []
    except ValueError:
        return []
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _nested_of_parts(metadata: dict[bytes, bytes] | None) -> list[str]:
    """Return the names of Arrow columns that a folder written with ``to=`` says nothing of to pandas."""
    return list(_of_folder(metadata).get("nested", ()))


def _of_folder(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Return what a part of a folder written with ``to=`` says about itself, nothing of another file."""
    try:
        told = json.loads((metadata or {})[b"skytells_nb"])
    except (KeyError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _read_parts(folder: Path) -> Any:
    """Return the parts of a folder as one Arrow table."""
    import pyarrow as pa
    from pyarrow import dataset

    parts = sorted(
        (path for path in folder.rglob("*") if _is_part(path.relative_to(folder)) and path.is_file()),
        key=lambda path: [_natural(name) for name in path.relative_to(folder).parts],
    )
    if not parts:
        raise InputError(f"path must be a Parquet or Feather file, or a folder of them, got {folder}, which has none.")
    kinds = {"parquet" if _is_parquet(path) else "feather" for path in parts}
    if len(kinds) > 1:
        raise InputError(f"A folder of parts must hold Parquet files or Feather files, got both in {folder}.")
    named = [name for name in parts[0].relative_to(folder).parts[:-1] if "=" in name]
    options: dict[str, Any] = {"format": kinds.pop()}
    if named:
        options |= {"partitioning": "hive", "partition_base_dir": str(folder)}
    paths = [str(path) for path in parts]
    # A part whose column holds nulls only, or only whole numbers, has another type there than the others.
    schemas = [fragment.physical_schema for fragment in dataset.dataset(paths, **options).get_fragments()]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    added = dataset.dataset(paths, **options).schema
    for field in added:
        if schema.get_field_index(field.name) < 0:
            schema = schema.append(field)
    table = dataset.dataset(paths, schema=schema, **options).to_table()
    schema = _with_joined_lineage(table.schema, schemas)
    schema = schema.with_metadata(_joined_metadata(schemas, schema.metadata))
    return pa.Table.from_arrays(table.columns, schema=schema)


_SUMMED = ("rows", "cached", "sent", "requests", "tokens_in", "tokens_out", "cost", "seconds")


def _with_joined_lineage(schema: Any, parts: list[Any]) -> Any:
    """Return the schema with the records of all parts at its fields: one of each call, with the sums of its parts."""
    made_by = [_of_folder(part.metadata).get("call", "")[:RECORD_ID] for part in parts]
    for number, field in enumerate(schema):
        # What was recorded before there were parts is the same in each. Two parts may have begun in one millisecond.
        records = {
            (record.get("id"), at if record.get("id") == own else record.get("time")): record
            for at, (part, own) in enumerate(zip(parts, made_by, strict=True))
            for record in _of(part, field.name)
        }
        calls: dict[Any, dict[str, Any]] = {}
        for (call, _), record in records.items():
            known = calls.get(call)
            sums = {name: _sum(known.get(name), record.get(name)) for name in _SUMMED} if known else {}
            calls[call] = {**(known or record), **sums}
        if calls:
            text = json.dumps(list(calls.values()), ensure_ascii=False)
            schema = schema.set(number, field.with_metadata({**(field.metadata or {}), LINEAGE.encode(): text}))
    return schema


def _of(schema: Any, name: str) -> list[dict[str, Any]]:
    at = schema.get_field_index(name)
    return _records(((schema.field(at).metadata if at >= 0 else None) or {}).get(LINEAGE.encode()))


def _sum(one: Any, other: Any) -> Any:
    return one + other if isinstance(one, (int, float)) and isinstance(other, (int, float)) else None


def _is_part(path: Path) -> bool:
    return not any(name.startswith((".", "_")) for name in path.parts)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that orders numbers in names by their size."""
    return [(int(text), "") if text.isdecimal() and text.isascii() else (-1, text) for text in re.split(r"(\d+)", name)]


def _joined_metadata(schemas: list[Any], metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """Return pandas' metadata for all parts: an index of numbers goes from that of the first to that of the last."""
    described = [(schema.pandas_metadata or {}).get("index_columns") for schema in schemas]
    ranges = [index[0] for index in described if index and isinstance(index[0], dict)]
    if not metadata or b"pandas" not in metadata or not ranges:
        return metadata
    joined = all(one["stop"] == next["start"] and one["step"] == next["step"] for one, next in pairwise(ranges))
    pandas = json.loads(metadata[b"pandas"])
    whole = len(ranges) == len(schemas) and joined
    pandas["index_columns"] = [{**ranges[0], "stop": ranges[-1]["stop"]}] if whole else []
    return {**metadata, b"pandas": json.dumps(pandas).encode()}


def to_text(series: pd.Series[Any]) -> pd.Series[Any]:
    """Write a column of vectors as texts, a JSON list each, for CSV and other text files.

    Nothing is lost; ``to_csv`` alone leaves out the middle of vectors with more than 1,000 numbers.

    Parameters
    ----------
    series : pandas.Series
        A column of vectors, as in ``columns.to_matrix``.

    Returns
    -------
    pandas.Series of str
        The texts, with the same index and name; missing cells stay missing.

    Raises
    ------
    InputError
        If the cells are not vectors.

    Examples
    --------
    >>> to_text(pd.Series([[0.1, 2.0], None])).tolist()
    ['[0.1, 2.0]', None]
    """
    matrix, valid = to_matrix(series)
    # A float32 needs at most nine digits; as a Python float it would take seventeen.
    texts = iter(f"[{', '.join(map(str, row))}]" for row in matrix)
    cells = np.array([next(texts) if present else None for present in valid], dtype=object)
    return pd.Series(cells, index=series.index, name=series.name, dtype=object)


def from_text(series: pd.Series[Any]) -> pd.Series[Any]:
    """Read a column of vectors from texts: those of ``to_text``, or those that ``to_csv`` alone wrote.

    Parameters
    ----------
    series : pandas.Series of str
        The texts; missing cells stay missing.

    Returns
    -------
    pandas.Series
        A column of float32 vectors, as ``embed`` makes one, with the same index and name.

    Raises
    ------
    InputError
        If a text is not a list of numbers, or its middle is missing.

    Examples
    --------
    >>> from_text(pd.Series(["[0.5, 2]", None])).tolist()
    [array([0.5, 2. ], dtype=float32), None]
    """
    rows = zip(series.index, series, series.isna(), strict=True)
    cells = [None if missing else _parse_vector(text, label) for label, text, missing in rows]
    matrix, valid = to_matrix(pd.Series(cells, index=series.index, name=series.name, dtype=object))
    return from_matrix(matrix, index=series.index, valid=valid, name=series.name)


def _parse_vector(text: Any, label: Any) -> Any:
    try:
        if "," in text:
            return np.array(json.loads(text), dtype=np.float32)
        return np.array(text.strip().removeprefix("[").removesuffix("]").split(), dtype=np.float32)
    except (TypeError, ValueError):
        hint = " Its middle was left out when it was written: write it with to_text()." if "..." in str(text) else ""
        raise InputError(f"Row {label!r} must hold a vector, got {str(text)[:40]!r}.{hint}") from None
