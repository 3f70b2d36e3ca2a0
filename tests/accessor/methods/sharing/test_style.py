"""df.skytells.style: a table that a notebook can hold, however long the frame is."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from skytells_nb.errors import InputError


def rows_of(html: str) -> list[str]:
    """Return the labels of the rows in the order of the table."""
    return re.findall(r'class="row_heading[^>]*>([^<]*)<', html)


def test_a_long_frame_is_shown_by_its_first_and_last_rows() -> None:
    frame = pd.DataFrame({f"c{number}": "some words" for number in range(10)}, index=range(10_000))
    html = frame.skytells.style().to_html()
    assert rows_of(html) == [str(row) for row in (*range(30), *range(9_970, 10_000))]
    assert "10,000 rows, 10 columns; 60 rows are shown" in html
    assert len(html) < 500_000


@pytest.mark.parametrize(
    ("rows", "shown"), [(1, ["a"]), (3, ["a", "b", "e"]), (5, list("abcde")), (None, list("abcde"))]
)
def test_rows_is_the_most_that_is_shown(rows: int | None, shown: str) -> None:
    frame = pd.DataFrame({"n": range(5)}, index=list("abcde"))
    html = frame.skytells.style(rows).to_html()
    assert rows_of(html) == [*shown]
    assert ("rows are shown" in html) == (len(shown) < 5)


def test_labels_need_to_be_unique_only_where_they_are_shown() -> None:
    frame = pd.DataFrame({"n": range(5)}, index=list("abbcd"))
    assert rows_of(frame.skytells.style(2).to_html()) == ["a", "d"]


@pytest.mark.parametrize("rows", [0, -1, 2.5, "5", True])
def test_rows_that_are_no_count_are_refused(rows: Any) -> None:
    with pytest.raises(InputError, match="rows must be a positive integer, got"):
        pd.DataFrame({"n": [1, 2, 3]}).skytells.style(rows)
