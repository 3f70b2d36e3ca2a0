"""Parameters that differ from row to row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.texts import column_of
from skytells_nb.engine.dialogues import Api
from skytells_nb.engine.endpoints import endpoint
from skytells_nb.errors import InputError


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
