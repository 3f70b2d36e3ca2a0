"""Fields of answers as columns, with the dtypes that their schema decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

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
    """The dtype of a column of this kind; raises MissingExtraError where it takes pyarrow and that is not installed."""
    if kind.name in _DTYPES:
        return pd.api.types.pandas_dtype(_DTYPES[kind.name])
    if kind.name == "label":
        return pd.CategoricalDtype(list(kind.labels))
    if kind.name == "any" or (kind.name == "decimal" and kind.digits is None):
        return np.dtype(object)
    return pd.ArrowDtype(_arrow_type(kind))


def column_names(schema: Schema | None, prefix: str, flatten: bool = True) -> list[str]:
    """The names of the columns that the fields of a schema make, in order.

    Raises InputError for a schema without fields, MissingExtraError where a column takes pyarrow and that is missing.
    """
    if not isinstance(prefix, str):
        raise InputError(f"prefix is a text that begins the names of the columns; found {prefix!r}.")
    if not flatten:
        raise InputError("prefix needs flatten=True, which makes the columns whose names it begins.")
    if schema is None:
        raise InputError("flatten=True needs a schema whose fields become the columns.")
    response_format(schema)
    kinds = schema_field_types(schema)
    if not kinds:
        raise InputError("flatten=True needs a schema that names fields; this one names none.")
    for kind in kinds.values():
        dtype_of(kind)
    return [f"{prefix}{name}" for name in kinds]


def typed_column(kind: FieldType, cells: Sequence[Any], index: pd.Index[Any]) -> pd.Series[Any]:
    """A column of these cells, null where one is ``None``."""
    dtype = dtype_of(kind)
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        made: pd.Series[Any] = pd.Series(
            pd.arrays.ArrowExtensionArray(pa.array(cells, type=dtype.pyarrow_dtype)), index=index
        )
        return made
    if pd.api.types.is_object_dtype(dtype):
        values = np.empty(len(cells), dtype=object)
        values[:] = cells
        return pd.Series(values, index=index, dtype=object)
    if kind.name == "label":
        return pd.Series(pd.Categorical(list(cells), dtype=dtype), index=index)
    plain: pd.Series[Any] = pd.Series(list(cells), index=index, dtype=dtype)
    return plain


def typed_columns(
    kinds: Mapping[str, FieldType], records: Sequence[Mapping[str, Any] | None], index: pd.Index[Any]
) -> dict[str, pd.Series[Any]]:
    """One column for each field, from the cells of each row; null where there is no answer."""
    return {
        name: typed_column(kind, [None if record is None else record[name] for record in records], index)
        for name, kind in kinds.items()
    }


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
