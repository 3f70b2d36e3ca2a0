"""Notebook variables as text for a prompt: short, and only of types with an obvious text form."""

from __future__ import annotations

import numbers
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skytells_nb.client.images import load_image
from skytells_nb.errors import InputError
from skytells_nb.magics.chat_arguments import MagicUsageError

if TYPE_CHECKING:
    import pandas as pd


MAX_ROWS = 20
MAX_COLUMNS = 40
MAX_CELL_CHARS = 200


def variables_as_text(names: Iterable[str], variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the named variables as text.

    A DataFrame or a Series becomes its shape, its types and its first ``MAX_ROWS`` rows. Raises MagicUsageError for a
    name that does not exist and for a value of another type.
    """
    texts: dict[str, str] = {}
    for name in names:
        if name not in variables:
            raise MagicUsageError(f"-v {name}: there is no variable of this name")
        texts[name] = _text(name, variables[name])
    return texts


def _text(name: str, value: Any) -> str:
    if isinstance(value, (str, bool, numbers.Real)):
        return str(value)
    # A DataFrame can only exist if pandas is imported already.
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        return frame_text(value.to_frame(name if value.name is None else value.name))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return frame_text(value)
    raise MagicUsageError(f"-v {name}: must be a str, a number, a DataFrame or a Series, got a {type(value).__name__}")


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

    Placeholders inside a value are not replaced. Raises MagicUsageError if the body does not use a value.

    >>> fill_placeholders('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    unused = [name for name in values if placeholder(name) not in body]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    if not values:
        return body
    pattern = re.compile("|".join(re.escape(placeholder(name)) for name in values))
    return pattern.sub(lambda match: values[match.group()[2:-2]], body)


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
