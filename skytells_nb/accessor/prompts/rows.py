"""Prompts from a function of the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skytells_nb.accessor.text_columns import column_of
from skytells_nb.engine.operations.conversation import Api, Message, check_messages
from skytells_nb.engine.operations.endpoints import endpoint
from skytells_nb.errors import InputError

Asked: TypeAlias = str | list[Message] | None
"""What is asked for a row: a prompt, messages, or nothing."""
RowFunction: TypeAlias = Callable[[Any], Any]


class Row(Mapping[str, Any]):
    """One row: ``row["column"]`` or ``row.column``; ``label`` is its place in the index.

    Values are those of the frame. It cannot be changed.
    """

    __slots__ = ("_places", "_values", "label")

    def __init__(self, places: Mapping[Any, int], values: Sequence[Any], label: Any) -> None:
        self._places = places
        self._values = values
        self.label = label

    def __getitem__(self, name: Any) -> Any:
        return self._values[self._places[name]]

    def __getattr__(self, name: str) -> Any:
        # Python asks this also for what a copy or a notebook looks for, so it raises what they expect.
        if name.startswith("_") or name not in self._places:
            raise AttributeError(f"There is no column {name!r}. The columns are: {', '.join(map(str, self._places))}.")
        return self[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"Row({dict(self)!r}, label={self.label!r})"


def render_rows(frame: pd.DataFrame, function: RowFunction) -> list[Asked]:
    """What ``function`` says for each row; raises InputError that names the first row where that is nothing to send."""
    if not frame.columns.is_unique:
        raise InputError("A function of rows needs columns whose names are all different; rename those that are not.")
    places = {name: place for place, name in enumerate(frame.columns)}
    columns = [list(frame.iloc[:, place]) for place in range(frame.shape[1])]
    values: Iterator[tuple[Any, ...]] = zip(*columns, strict=True) if columns else iter([()] * len(frame))
    return [_ask(function, Row(places, row, label)) for label, row in zip(frame.index, values, strict=True)]


def _ask(function: RowFunction, row: Row) -> Asked:
    try:
        asked = function(row)
    except Exception as problem:
        what = f"there is no column {problem}" if isinstance(problem, KeyError) else str(problem).rstrip(".")
        raise InputError(
            f"The function failed at row {row.label!r}: {type(problem).__name__}: {what}. Nothing was sent."
        ) from problem
    if isinstance(asked, str):
        return asked
    if asked is None or asked is pd.NA or asked is pd.NaT or (isinstance(asked, float) and asked != asked):
        return None
    if isinstance(asked, Mapping):
        asked = [asked]
    if not isinstance(asked, (list, tuple)):
        raise InputError(
            f"The function gave {type(asked).__name__} {str(asked)[:60]!r} at row {row.label!r}, not a text, a list of "
            "messages or None. Nothing was sent."
        )
    try:
        return check_messages(asked)
    except InputError as problem:
        raise InputError(f"The function's messages at row {row.label!r} cannot be sent: {problem}") from None


def params_of_rows(frame: pd.DataFrame, named: Mapping[str, Any], api: Api) -> list[dict[str, Any]]:
    """The parameters of each row, from the columns that ``named`` gives them; a null leaves a parameter out.

    Raises InputError that names the row for a value that cannot be sent.
    """
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise InputError(f"row_params is a dict such as {{'temperature': 'a column'}}; found {named!r}.")
    columns = {name: [_plain(cell) for cell in column_of(frame, column)] for name, column in named.items()}
    made = [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]
    checked: set[str] = set()
    for label, params in zip(frame.index, made, strict=True):
        # Few different ones in many rows is the rule.
        known = repr(params)
        if known in checked:
            continue
        checked.add(known)
        try:
            endpoint(api).check("model", params)
        except InputError as problem:
            raise InputError(f"row_params at row {label!r}: {problem}") from None
    return made


def _plain(cell: Any) -> Any:
    """A value as JSON has it; ``None`` for every null."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return None
    return cell
