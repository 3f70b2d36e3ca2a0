"""Variables of the notebook as text for a prompt: short, and only of kinds whose text is what people expect."""

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


ROWS = 20
COLUMNS = 40
CELL_CHARS = 200


def values_text(names: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, str]:
    """The named variables as text.

    A DataFrame or a Series gives its shape, its types and its first ``ROWS`` rows. Raises MagicUsageError for a name
    that does not exist and for a value of another kind.
    """
    values: dict[str, str] = {}
    for name in names:
        if name not in namespace:
            raise MagicUsageError(f"-v {name}: there is no variable of this name")
        values[name] = _text(name, namespace[name])
    return values


def _text(name: str, value: Any) -> str:
    if isinstance(value, (str, bool, numbers.Real)):
        return str(value)
    # A DataFrame can only exist where pandas is imported already.
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        return frame_text(value.to_frame(name if value.name is None else value.name))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return frame_text(value)
    raise MagicUsageError(
        f"-v {name}: a {type(value).__name__} has no agreed text; pass a str, a number, a DataFrame or a Series"
    )


def frame_text(frame: pd.DataFrame) -> str:
    """A DataFrame's shape, column types with counts of missing values, and first rows as CSV."""
    shown = frame.iloc[:ROWS, :COLUMNS]
    columns = shown.shape[1]
    missing = [int(frame.iloc[:, position].isna().sum()) for position in range(columns)]
    schema = [
        f"- {_short(label)}: {dtype}" + (f", {gaps:,} missing" if gaps else "")
        for label, dtype, gaps in zip(shown.columns, shown.dtypes, missing, strict=True)
    ]
    if frame.shape[1] > columns:
        schema.append(f"- and {frame.shape[1] - columns:,} columns more")
    rows = "all rows" if len(shown) == len(frame) else f"first {len(shown)} rows"
    cells = shown.map(_short)
    cells.columns = [_short(label) for label in shown.columns]
    return (
        f"{len(frame):,} rows, {frame.shape[1]:,} columns\n"
        + "\n".join(schema)
        + f"\n\n{rows}:\n{cells.to_csv(index=False, lineterminator=chr(10))}".rstrip()
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"


def placeholder(name: str) -> str:
    """How the body names a variable.

    >>> placeholder("city")
    '{{city}}'
    """
    return f"{{{{{name}}}}}"


def fill(body: str, values: Mapping[str, str]) -> str:
    """The body with ``{{name}}`` replaced for each name in ``values``, in one pass; all other braces stay.

    A value is text, never a template: what looks like a placeholder in it is not filled. Raises MagicUsageError where
    the body does not use a value.

    >>> fill('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    unused = [name for name in values if placeholder(name) not in body]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    if not values:
        return body
    pattern = re.compile("|".join(re.escape(placeholder(name)) for name in values))
    return pattern.sub(lambda found: values[found.group()[2:-2]], body)


def image_url(word: str, namespace: Mapping[str, Any]) -> str:
    """The picture that ``--image`` names: a web address as it is, everything else as a data URL.

    A variable of that name comes before a file of that name. Raises MagicUsageError for what is no PNG, JPEG, GIF or
    WebP, for what is too large, and for what cannot be read.
    """
    try:
        found = load_image(namespace.get(word, word))
        return found if isinstance(found, str) else found.url
    except InputError as problem:
        unknown = "no variable of this name, and " if word not in namespace else ""
        raise MagicUsageError(f"--image {word}: {unknown}{problem}") from None
