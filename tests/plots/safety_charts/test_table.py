"""The table of filtered rows with texts and reasons."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from safety_tables import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import filtered_rows

UNTRUSTED = "<script>alert(1)</script>\x00\u202e & more"


def rejected(**values: Any) -> list[dict[str, Any]]:
    return [finding(severity="high", filtered=True, **values), finding(category="violence", severity="low")]


def test_each_filtered_row_has_its_reason() -> None:
    """Only filtered findings are reasons, for each source."""
    both = [*rejected(), finding(source="completion", category="jailbreak", filtered=True, detected=True)]
    frame = completed([finding(severity="low")], rejected(), both, None, text=["a", "b", "c", "d"])
    frame.index = pd.Index(["k", "l", "m", "n"])
    assert filtered_rows(frame).to_dict("records") == [
        {"row": "l", "text": "b", "withheld": "prompt", "severity": "high", "why": "prompt: hate high"},
        {
            "row": "m",
            "text": "c",
            "withheld": "prompt and completion",
            "severity": "detected",
            "why": "prompt: hate high; completion: jailbreak",
        },
    ]


def test_a_rejection_without_a_category_is_in_the_table() -> None:
    """Its reason is unknown."""
    frame = completed([], text=["a"], reply_finish_reason=["content_filter"])
    assert filtered_rows(frame)["why"].tolist() == ["completion: no reason given"]


def test_the_text_is_the_longest_except_completions() -> None:
    """Neither a completion nor its metadata; text= selects another column."""
    frame = completed(rejected(), short=["x"], long=["a long question"], reply_error=["an error " * 9])
    assert filtered_rows(frame)["text"].tolist() == ["a long question"]
    assert filtered_rows(frame, text="short")["text"].tolist() == ["x"]


def test_no_text_is_html() -> None:
    """pandas escapes a frame; for its style, texts and reasons can be escaped."""
    untrusted = [finding(category=UNTRUSTED, filtered=True)]
    frame = completed(untrusted, text=[UNTRUSTED])
    assert "<script>" not in filtered_rows(frame).to_html()
    escaped = filtered_rows(frame, escape=True)
    assert not [cell for cell in escaped.loc[0, ["text", "why"]] if "<" in cell]
    assert escaped["text"].tolist() == ["&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"]


def test_long_texts_are_shortened() -> None:
    """To a number of characters."""
    assert filtered_rows(completed(rejected(), text=["word " * 100]), characters=12)["text"].tolist() == [
        "word word w…"
    ]


def test_severities_sort_by_level() -> None:
    """They are an ordered category."""
    data = table(finding(0, severity="high", filtered=True), finding(1, severity="low", filtered=True))
    assert filtered_rows(data).sort_values("severity")["row"].tolist() == [1, 0]


def test_nothing_filtered_gives_an_empty_table() -> None:
    """It has all columns."""
    rows = filtered_rows(completed([finding()], text=["a"]))
    assert rows.shape == (0, 5)
    assert list(rows.columns) == ["row", "text", "withheld", "severity", "why"]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (completed(rejected()), {"text": "nope"}, "no column 'nope'"),
        (table(*rejected()), {"text": "category"}, "a table of findings has no texts"),
        (completed(rejected()), {"characters": 0}, "characters must be at least 1"),
    ],
)
def test_invalid_arguments_raise(frame: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    """The error names the problem."""
    with pytest.raises(InputError, match=message):
        filtered_rows(frame, **options)
