"""Variables of the notebook as text for a prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.variables import MAX_CELL_CHARS, MAX_COLUMNS, MAX_ROWS, variables_as_text


def text_of(value: Any) -> str:
    return variables_as_text(["x"], {"x": value})["x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("a {b}", "a {b}"), (3, "3"), (0.5, "0.5"), (True, "True"), (np.int64(7), "7"), (np.float32(0.5), "0.5")],
)
def test_texts_and_numbers_are_themselves(value: Any, text: str) -> None:
    """Strings, numbers and booleans, NumPy's included, are written as they are."""
    assert text_of(value) == text


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, object(), print, pd, b"x", 1j], ids=lambda v: type(v).__name__)
def test_other_kinds_are_refused_by_name(value: Any) -> None:
    """Objects, which may hold keys or anything, do not get into a prompt by their repr."""
    with pytest.raises(MagicUsageError, match=f"-v x: must be a str, .*, got a {type(value).__name__}$"):
        text_of(value)


def test_an_unknown_name_is_an_error() -> None:
    """A name that does not exist is named."""
    with pytest.raises(MagicUsageError, match="-v y: there is no variable of this name"):
        variables_as_text(["y"], {"x": 1})


def test_a_frame_gives_schema_and_rows() -> None:
    """Shape, types, missing values and the rows as CSV."""
    frame = pd.DataFrame({"city": ["Oslo", None], "size": [1, 2]})
    lines = text_of(frame).splitlines()
    assert lines[0] == "2 rows, 2 columns"
    assert lines[1].startswith("- city: ")
    assert lines[1].endswith(", 1 missing")
    assert lines[2] == "- size: int64"
    assert lines[-4] == "all rows:"
    assert lines[-3] == "city,size"
    assert lines[-2] == "Oslo,1"


def test_a_large_frame_is_bounded() -> None:
    """Twenty rows, forty columns and short cells are sent, however large the frame is."""
    frame = pd.DataFrame({f"c{i}": ["x" * 5_000] * 1_000 for i in range(100)})
    text = text_of(frame)
    assert "1,000 rows, 100 columns" in text
    assert f"- and {100 - MAX_COLUMNS} more columns" in text
    assert f"first {MAX_ROWS} rows:" in text
    assert len(text) < (MAX_ROWS + 3) * MAX_COLUMNS * (MAX_CELL_CHARS + 20)
    assert len(text.split("rows:\n")[1].splitlines()) == MAX_ROWS + 1


def test_a_series_is_a_frame_of_one_column() -> None:
    """A Series keeps its name, or takes the variable's."""
    assert "- size: int64" in text_of(pd.Series([1, 2], name="size"))
    assert "- x: int64" in text_of(pd.Series([1, 2]))


def test_a_frame_with_repeated_columns_and_vectors_has_a_text() -> None:
    """Odd frames do not fail: repeated labels, vectors in cells, no rows."""
    odd = pd.DataFrame([[np.zeros(300), 1]], columns=["a", "a"])
    assert "1 rows, 2 columns" in text_of(odd)
    assert "0 rows, 0 columns" in text_of(pd.DataFrame())
