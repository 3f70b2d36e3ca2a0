"""Notebook variables as text for a prompt: only of types with an obvious text form, frames and arrays shortened."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import numbers
import re
import sys
import uuid
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import pydantic

from skytells_nb.client.images import load_image
from skytells_nb.errors import InputError
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response

if TYPE_CHECKING:
    import pandas as pd


MAX_ROWS = 20
MAX_COLUMNS = 40
MAX_CELL_CHARS = 200


def variables_as_text(names: Iterable[str], variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the named variables as text.

    An answer becomes its text; a dict, a list or a pydantic object JSON; a date, a decimal or an array its usual text;
    a DataFrame or a Series its shape, its types and its first ``MAX_ROWS`` rows. Raises MagicUsageError for a name that
    does not exist and for a value of another type.
    """
    return {name: _text(name, find_variable("-v", name, variables)) for name in names}


def find_variable(option: str, name: str, variables: Mapping[str, Any]) -> Any:
    """Return the variable that an option names; raises MagicUsageError, and says where a local one is."""
    if name in variables:
        return variables[name]
    where = f"{option} {name}: there is no variable of this name"
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals is variables and name in frame.f_locals:
            function = frame.f_code.co_name
            raise MagicUsageError(
                f"{where} in the notebook; it is local to {function}(), and a magic sees only the notebook's "
                f"variables. Write `global {name}` in {function}(), or fill the prompt there and send it with "
                "sky.current().client.chat.completions.create(…)"
            )
        frame = frame.f_back  # type: ignore[assignment]
    raise MagicUsageError(where)


_USUAL_TEXT = (
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction),
    uuid.UUID,
)


def _text(name: str, value: Any) -> str:
    if isinstance(value, (str, bool, numbers.Real)) and not isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, (ChatCompletion, Response, *_USUAL_TEXT)):
        return str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind != "O":
        return str(value)
    if isinstance(value, (pydantic.BaseModel, enum.Enum, Mapping, list, tuple, Set)) or _is_dataclass(value):
        value = value.value if isinstance(value, enum.Enum) else value
        return str(value) if isinstance(value, (str, numbers.Real)) else _json(name, value)
    # A DataFrame can only exist if pandas is imported already.
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        return frame_text(value.to_frame(name if value.name is None else value.name))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return frame_text(value)
    raise MagicUsageError(
        f"-v {name}: must be a str, a number, a date, an answer, a dict, a list, a pydantic object, an array, "
        f"a DataFrame or a Series, got a {type(value).__name__}"
    )


def _json(name: str, value: Any) -> str:
    """Return the value as JSON; raises MagicUsageError for what has no JSON form within it."""

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
        raise MagicUsageError(f"-v {name}: holds a {type(part).__name__}, which has no JSON form; leave it out")

    try:
        return json.dumps(value, ensure_ascii=False, default=default)
    except MagicUsageError:
        raise
    except (TypeError, ValueError, RecursionError, pydantic.ValidationError) as problem:
        raise MagicUsageError(f"-v {name}: has no JSON form: {problem}") from None


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


def placeholder(name: str) -> str:
    """Return the placeholder of a variable in the body.

    >>> placeholder("city")
    '{{city}}'
    """
    return f"{{{{{name}}}}}"


def fill_placeholders(body: str, values: Mapping[str, str]) -> str:
    """Replace ``{{name}}`` in the body for each name in ``values``, in one pass; other braces are left as they are.

    Spaces within the braces make no difference. Placeholders inside a value are not replaced. Raises MagicUsageError if
    the body does not use a value.

    >>> fill_placeholders('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    if not values:
        return body
    pattern = re.compile(rf"\{{\{{[ \t]*({'|'.join(map(re.escape, values))})[ \t]*\}}\}}")
    used = {match[1] for match in pattern.finditer(body)}
    unused = [name for name in values if name not in used]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    return pattern.sub(lambda match: values[match[1]], body)


def image_url(reference: str, variables: Mapping[str, Any]) -> str:
    """Return the URL of the image that ``--image`` names: a web address unchanged, everything else as a data URL.

    A variable of that name takes precedence over a file of that name. Raises MagicUsageError for an image that is not
    PNG, JPEG, GIF or WebP, is too large, or cannot be read.
    """
    try:
        image = load_image(variables.get(reference, reference))
        return image if isinstance(image, str) else image.url
    except InputError as error:
        unknown = "no variable of this name, and " if reference not in variables else ""
        raise MagicUsageError(f"--image {reference}: {unknown}{error}") from None
