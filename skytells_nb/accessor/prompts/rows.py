"""Prompts and parameters from a function of the row, or from columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import is_missing
from skytells_nb.columns import column_of
from skytells_nb.engine.operations.conversation import Api, Message, check_messages
from skytells_nb.engine.operations.endpoints import endpoint
from skytells_nb.errors import InputError

RenderedPrompt: TypeAlias = str | list[Message] | None
"""The prompt of a row: a text, messages, or ``None``, which is not sent."""
RowFunction: TypeAlias = Callable[[Any], Any]


class Row(Mapping[str, Any]):
    """One row: ``row["column"]`` or ``row.column``; ``label`` is its label in the index.

    Values are those of the frame, and None where the frame has a missing value of any kind. Read-only.
    """

    __slots__ = ("_columns", "_number", "label")

    def __init__(self, columns: Mapping[Any, Sequence[Any]], number: int, label: Any) -> None:
        self._columns = columns
        self._number = number
        self.label = label

    def __getitem__(self, name: Any) -> Any:
        return self._columns[name][self._number]

    def __getattr__(self, name: str) -> Any:
        # copy and notebooks look for special methods with getattr, and expect AttributeError.
        if name.startswith("_") or name not in self._columns:
            raise AttributeError(f"There is no column {name!r}. The columns are: {', '.join(map(str, self._columns))}.")
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Row({dict(self)!r}, label={self.label!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy has the values of this row, and not the columns of all rows.
        return Row, ({name: [value] for name, value in self.items()}, 0, self.label)


class _Columns(Mapping[Any, Sequence[Any]]):
    """The values of a frame by column; a column is read when a row is first asked for it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._positions = {name: position for position, name in enumerate(frame.columns)}
        self._read: dict[Any, list[Any]] = {}

    def __getitem__(self, name: Any) -> list[Any]:
        cells = self._read.get(name)
        if cells is None:
            cells = self._read[name] = _cells(self._frame.iloc[:, self._positions[name]])
        return cells

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[Any]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


def render_rows(frame: pd.DataFrame, function: RowFunction) -> list[RenderedPrompt]:
    """Return the prompt of each row; raise InputError naming the first row whose prompt cannot be sent."""
    if not frame.columns.is_unique:
        raise InputError("A function of rows needs columns with unique names; rename the duplicates.")
    columns = _Columns(frame)
    return [_render(function, Row(columns, number, label)) for number, label in enumerate(frame.index)]


def _cells(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column with ``None`` for missing ones."""
    missing = column.isna().to_numpy(dtype=bool)
    values = list(column)
    if missing.any():
        values = [None if absent else value for value, absent in zip(values, missing.tolist(), strict=True)]
    return values


def _render(function: RowFunction, row: Row) -> RenderedPrompt:
    try:
        prompt = function(row)
    except Exception as problem:
        reason = f"there is no column {problem}" if isinstance(problem, KeyError) else str(problem).rstrip(".")
        raise InputError(
            f"The function failed at row {row.label!r}: {type(problem).__name__}: {reason}. Nothing was sent."
        ) from problem
    if isinstance(prompt, str):
        return prompt
    if is_missing(prompt):
        return None
    if isinstance(prompt, Mapping):
        prompt = [prompt]
    if not isinstance(prompt, (list, tuple)):
        raise InputError(
            f"The function must return a string, a list of messages or None, got {type(prompt).__name__} "
            f"{str(prompt)[:60]!r} at row {row.label!r}. Nothing was sent."
        )
    try:
        return check_messages(prompt)
    except InputError as problem:
        raise InputError(f"The function's messages at row {row.label!r} cannot be sent: {problem}") from None


def params_of_rows(frame: pd.DataFrame, columns_by_name: Mapping[str, Any], api: Api) -> list[dict[str, Any]]:
    """Return the parameters of each row from their columns; a missing value leaves a parameter out.

    Raises InputError naming the row of a value that cannot be sent.
    """
    if not isinstance(columns_by_name, Mapping) or not all(isinstance(name, str) for name in columns_by_name):
        raise InputError(f"row_params must be a dict such as {{'temperature': 'a column'}}, got {columns_by_name!r}.")
    columns = {name: [_to_json(cell) for cell in column_of(frame, column)] for name, column in columns_by_name.items()}
    params_by_row = [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]
    checked: set[str] = set()
    for label, params in zip(frame.index, params_by_row, strict=True):
        # Most rows share few distinct parameters.
        key = repr(params)
        if key in checked:
            continue
        checked.add(key)
        try:
            endpoint(api).check("model", params)
        except InputError as problem:
            raise InputError(f"row_params at row {label!r}: {problem}") from None
    return params_by_row


def _to_json(cell: Any) -> Any:
    """Return a value as JSON represents it; ``None`` for every missing value."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    return None if is_missing(cell) else cell
