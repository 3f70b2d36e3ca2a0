"""Variables of the notebook as text for a prompt: short, and only of kinds whose text is what people expect."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skytells_nb.magics.args import MagicUsageError

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
