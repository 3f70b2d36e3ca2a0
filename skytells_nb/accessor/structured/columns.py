"""Fields of answers as columns whose dtypes follow from the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.call import building
from skytells_nb.accessor.structured.field_types import FieldType
from skytells_nb.accessor.structured.schema import Schema, response_format, schema_field_types
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.errors import InputError, MissingExtraError

_DTYPES = {
    "string": STRING_DTYPE,
    "integer": "Int64",
    "number": "Float64",
    "boolean": "boolean",
    "date": "datetime64[us]",
    "datetime": "datetime64[us]",
    "instant": "datetime64[us, UTC]",
    "duration": "timedelta64[us]",
}


def dtype_of(kind: FieldType) -> Any:
    """Return the dtype of a column of this type; raise MissingExtraError if it needs pyarrow and that is missing."""
    if kind.name in _DTYPES:
        return pd.api.types.pandas_dtype(_DTYPES[kind.name])
    if kind.name == "label":
        return pd.CategoricalDtype(list(kind.labels))
    if kind.name == "any" or (kind.name == "decimal" and kind.digits is None):
        return np.dtype(object)
    return pd.ArrowDtype(_arrow_type(kind))


def column_names(schema: Schema | None, prefix: str, flatten: bool = True) -> list[str]:
    """Return the names of the columns for the fields of a schema, in order.

    Raises InputError for a schema without fields, MissingExtraError if a column needs pyarrow and that is missing.
    """
    if not isinstance(prefix, str):
        raise InputError(f"prefix must be a string that the column names start with, got {prefix!r}.")
    if not flatten:
        raise InputError("prefix needs flatten=True, which adds the columns that the prefix names.")
    if schema is None:
        raise InputError("flatten=True needs schema=, whose fields become the columns.")
    response_format(schema)
    kinds = schema_field_types(schema)
    if not kinds:
        raise InputError("flatten=True needs a schema with fields; this schema names none.")
    for kind in kinds.values():
        dtype_of(kind)
    return [f"{prefix}{name}" for name in kinds]


def typed_column(kind: FieldType, values: Sequence[Any], index: pd.Index[Any]) -> pd.Series[Any]:
    """Return a column of these values, with a missing value for each ``None``."""
    dtype = dtype_of(kind)
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        array = pd.arrays.ArrowExtensionArray(pa.array(values, type=dtype.pyarrow_dtype))
        column: pd.Series[Any] = pd.Series(array, index=index)
        return column
    if pd.api.types.is_object_dtype(dtype):
        objects = np.empty(len(values), dtype=object)
        objects[:] = values
        return pd.Series(objects, index=index, dtype=object)
    if kind.name == "label":
        return pd.Series(pd.Categorical(list(values), dtype=dtype), index=index)
    plain_column: pd.Series[Any] = pd.Series(list(values), index=index, dtype=dtype)
    return plain_column


def typed_columns(
    kinds: Mapping[str, FieldType], records: Sequence[Mapping[str, Any] | None], index: pd.Index[Any]
) -> dict[str, pd.Series[Any]]:
    """Return a column for each field, with missing values in rows without an answer."""
    columns: dict[str, pd.Series[Any]] = {}
    for name, kind in kinds.items():
        building()
        columns[name] = typed_column(kind, [None if record is None else record[name] for record in records], index)
    return columns


def _arrow_type(kind: FieldType) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("A column of nested fields", "arrow") from None
    if kind.name == "struct":
        return pa.struct([pa.field(name, _arrow_type(part)) for name, part in kind.parts])
    if kind.item is not None:
        item = _arrow_type(kind.item)
        return pa.list_(item) if kind.name == "list" else pa.map_(pa.string(), item)
    if kind.name == "decimal":
        return pa.decimal128(kind.digits, kind.places)
    if kind.name == "label":
        return {str: pa.string(), int: pa.int64()}.get(type(kind.labels[0]), pa.float64())
    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "datetime": pa.timestamp("us"),
        "instant": pa.timestamp("us", "UTC"),
        "duration": pa.duration("us"),
    }
    return types.get(kind.name, pa.string())
