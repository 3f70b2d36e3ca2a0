"""The row that a function of the row gets."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skytells_nb.accessor.prompts.rows import Row, render_rows
from skytells_nb.errors import InputError


class Unread(pd.arrays.IntegerArray):
    """A column that must not be read."""

    def isna(self) -> Any:
        raise AssertionError("the column was read")

    def __iter__(self) -> Any:
        raise AssertionError("the column was read")


def frame_with_an_unread_column() -> pd.DataFrame:
    unread: pd.Series[Any] = pd.Series(Unread(np.array([1, 2]), np.array([False, False])))
    return pd.DataFrame({"text": ["a", None], "other": [1.5, 2.5]}).assign(unread=unread)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)

    render_rows(frame, note)
    return rows


def test_a_function_reads_only_the_columns_that_it_touches() -> None:
    frame = frame_with_an_unread_column()
    assert render_rows(frame, lambda row: f"Say {row['text']} {row.other} {row.label} {len(row)}") == [
        "Say a 1.5 0 3",
        "Say None 2.5 1 3",
    ]
    assert render_rows(frame, lambda row: str("unread" in row)) == ["True", "True"]
    assert render_rows(frame, lambda row: str(row.get("nothing", "-"))) == ["-", "-"]
    with pytest.raises(InputError, match=r"at row 0: AssertionError: the column was read"):
        render_rows(frame, lambda row: str(row["unread"]))


def test_a_row_is_a_mapping_of_all_columns() -> None:
    frame = pd.DataFrame({"a": ["x", "y"], ("b", 1): [1, 2], 3: [pd.NA, 0.5]}, index=["first", "second"])
    first, second = rows_of(frame)
    assert isinstance(first, Mapping)
    assert dict(first) == {"a": "x", ("b", 1): 1, 3: None}
    assert list(second) == ["a", ("b", 1), 3]
    assert second == {"a": "y", ("b", 1): 2, 3: 0.5}
    assert (second[("b", 1)], second.a, second.label) == (2, "y", "second")
    assert repr(first) == "Row({'a': 'x', ('b', 1): 1, 3: None}, label='first')"
    assert "c" not in first
    with pytest.raises(KeyError, match="'c'"):
        first["c"]
    with pytest.raises(AttributeError, match=r"There is no column 'c'\. The columns are: a, "):
        _ = first.c


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
def test_a_copy_of_a_row_has_its_values_only(duplicate: Any) -> None:
    row = duplicate(rows_of(pd.DataFrame({"text": [f"text {n}" * 10 for n in range(1_000)]}))[7])
    assert dict(row) == {"text": "text 7" * 10}
    assert (row.text, row.label) == ("text 7" * 10, 7)
    assert len(pickle.dumps(row)) < 1_000
