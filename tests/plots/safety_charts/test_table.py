"""The table of what was withheld: which rows, what they said, and why."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from verdicts import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import filtered_rows

HOSTILE = "<script>alert(1)</script>\x00\u202e & more"


def blocked(**verdict: Any) -> list[dict[str, Any]]:
    return [finding(severity="high", filtered=True, **verdict), finding(category="violence", severity="low")]


def test_each_filtered_row_is_there_with_its_reason() -> None:
    """Only what was withheld is a reason, on each side."""
    both = [*blocked(), finding(source="completion", category="jailbreak", filtered=True, detected=True)]
    frame = completed([finding(severity="low")], blocked(), both, None, text=["a", "b", "c", "d"])
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


def test_a_refusal_without_a_category_says_so() -> None:
    """It is not left out for want of a reason."""
    frame = completed([], text=["a"], reply_finish_reason=["content_filter"])
    assert filtered_rows(frame)["why"].tolist() == ["completion: no reason given"]


def test_the_text_is_the_longest_beside_the_answers() -> None:
    """No answer and nothing that is known about one; text= names another."""
    frame = completed(blocked(), short=["x"], long=["a long question"], reply_error=["an error " * 9])
    assert filtered_rows(frame)["text"].tolist() == ["a long question"]
    assert filtered_rows(frame, text="short")["text"].tolist() == ["x"]


def test_no_text_reaches_a_page_as_html() -> None:
    """pandas escapes a frame; for a style the texts come escaped, reasons too."""
    evil = [finding(category=HOSTILE, filtered=True)]
    frame = completed(evil, text=[HOSTILE])
    assert "<script>" not in filtered_rows(frame).to_html()
    escaped = filtered_rows(frame, escape=True)
    assert not [cell for cell in escaped.loc[0, ["text", "why"]] if "<" in cell]
    assert escaped["text"].tolist() == ["&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"]


def test_long_texts_are_cut() -> None:
    """To the characters that were asked for."""
    assert filtered_rows(completed(blocked(), text=["word " * 100]), characters=12)["text"].tolist() == ["word word w…"]


def test_severities_sort_by_degree() -> None:
    """As an ordered category."""
    data = table(finding(0, severity="high", filtered=True), finding(1, severity="low", filtered=True))
    assert filtered_rows(data).sort_values("severity")["row"].tolist() == [1, 0]


def test_nothing_filtered_gives_an_empty_table() -> None:
    """With its columns."""
    found = filtered_rows(completed([finding()], text=["a"]))
    assert found.shape == (0, 5)
    assert list(found.columns) == ["row", "text", "withheld", "severity", "why"]


@pytest.mark.parametrize(
    ("frame", "options", "found"),
    [
        (completed(blocked()), {"text": "nope"}, "no column 'nope'"),
        (table(*blocked()), {"text": "category"}, "a table of findings has no texts"),
        (completed(blocked()), {"characters": 0}, "characters is at least 1"),
    ],
)
def test_what_cannot_be_shown_is_refused(frame: pd.DataFrame, options: dict[str, Any], found: str) -> None:
    """The error says what is missing."""
    with pytest.raises(InputError, match=found):
        filtered_rows(frame, **options)
