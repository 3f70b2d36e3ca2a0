"""Values of a notebook as text for a prompt: only of types with an obvious text form, frames and arrays shortened."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import numbers
import sys
import uuid
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import pydantic

from skytells_nb.errors import InputError
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response

if TYPE_CHECKING:
    import pandas as pd


MAX_ROWS = 20
MAX_COLUMNS = 40
MAX_CELL_CHARS = 200

_USUAL_TEXT = (
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction),
    uuid.UUID,
)


def variable_text(name: str, value: Any) -> str:
    """Return a value as text; ``name`` is the column of a Series without a name.

    An answer becomes its text; a dict, a list or a pydantic object JSON; a date, a decimal or an array its usual text;
    a DataFrame or a Series its shape, its types and its first ``MAX_ROWS`` rows. Raises InputError, whose message
    continues the name of the value, for a value of another type.

    >>> variable_text("facts", {"a": 1})
    '{"a": 1}'
    """
    if isinstance(value, (str, bool, numbers.Real)) and not isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, (ChatCompletion, Response, *_USUAL_TEXT)):
        return str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind != "O":
        return str(value)
    if isinstance(value, (pydantic.BaseModel, enum.Enum, Mapping, list, tuple, Set)) or _is_dataclass(value):
        value = value.value if isinstance(value, enum.Enum) else value
        return str(value) if isinstance(value, (str, numbers.Real)) else _json(value)
    # A DataFrame can only exist if pandas is imported already.
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        return frame_text(value.to_frame(name if value.name is None else value.name))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return frame_text(value)
    raise InputError(
        f"must be a str, a number, a date, an answer, a dict, a list, a pydantic object, an array, "
        f"a DataFrame or a Series, got a {type(value).__name__}"
    )


def _json(value: Any) -> str:
    """Return the value as JSON; raises InputError for what has no JSON form within it."""

    def default(part: Any) -> Any:
        if isinstance(part, (ChatCompletion, Response)):
            return str(part)
        if isinstance(part, pydantic.BaseModel):
            return part.model_dump(mode="json")
        if _is_dataclass(part):
            return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        if isinstance(part, Mapping):
            return dict(part)
        if isinstance(part, Set):
            return sorted(part, key=str)
        if isinstance(part, enum.Enum):
            return part.value
        if isinstance(part, _USUAL_TEXT):
            return str(part)
        numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
        if numpy is not None and isinstance(part, (numpy.ndarray, numpy.generic)) and part.dtype.kind != "O":
            return part.tolist()
        if pandas is not None and isinstance(part, (pandas.Series, pandas.DataFrame)):
            return json.loads(part.to_json(orient="records", date_format="iso"))
        raise InputError(f"holds a {type(part).__name__}, which has no JSON form; leave it out")

    try:
        return json.dumps(value, ensure_ascii=False, default=default)
    except InputError:
        raise
    except (TypeError, ValueError, RecursionError, pydantic.ValidationError) as problem:
        raise InputError(f"has no JSON form: {problem}") from None


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def frame_text(frame: pd.DataFrame) -> str:
    """Return a DataFrame's shape, its column types with counts of missing values, and its first rows as CSV."""
    head = frame.iloc[:MAX_ROWS, :MAX_COLUMNS]
    columns = head.shape[1]
    missing = [int(frame.iloc[:, position].isna().sum()) for position in range(columns)]
    schema = [
        f"- {_truncate(label)}: {dtype}" + (f", {count:,} missing" if count else "")
        for label, dtype, count in zip(head.columns, head.dtypes, missing, strict=True)
    ]
    if frame.shape[1] > columns:
        schema.append(f"- and {frame.shape[1] - columns:,} more columns")
    rows = "all rows" if len(head) == len(frame) else f"first {len(head)} rows"
    cells = head.map(_truncate)
    cells.columns = [_truncate(label) for label in head.columns]
    return (
        f"{len(frame):,} rows, {frame.shape[1]:,} columns\n"
        + "\n".join(schema)
        + f"\n\n{rows}:\n{cells.to_csv(index=False, lineterminator=chr(10))}".rstrip()
    )


def _truncate(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
