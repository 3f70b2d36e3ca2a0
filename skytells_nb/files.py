"""Reading columns back from files: nested ones from Parquet and Feather, vectors from CSV.

``docs/columns.md`` has a table of all kinds of columns and files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.columns import from_matrix, to_matrix
from skytells_nb.errors import InputError, MissingExtraError

__all__ = ["from_text", "read", "to_text"]

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
        The file, or the folder of a Parquet data set.

    Returns
    -------
    pandas.DataFrame
        The frame. Vectors that were written without pandas, as ``embed(to=...)`` does, become float32 arrays.

    Raises
    ------
    InputError
        If the file is of another kind.
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
        with Path(path).open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        table = original = parquet.read_table(path) if is_parquet else feather.read_table(path)
    except pa.ArrowInvalid as problem:
        raise InputError(f"path must be a Parquet or Feather file, got {path}: {problem}.") from None
    metadata = table.schema.pandas_metadata or {}
    nested = [c["field_name"] for c in metadata.get("columns", ()) if str(c["numpy_type"]).endswith(_ARROW)]
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
    return frame


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
