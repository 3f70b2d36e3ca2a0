"""Findings: what the filter said of each row, and what it left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdicts import completed, finding, table

import skytells_nb  # noqa: F401
from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import Findings, read_findings
from skytells_nb.plots.safety_charts.severity import WORDS


def words(found: Findings) -> list[str]:
    """The worst level of each row."""
    return ["none" if level < 0 else WORDS[level] for level in found.row_level.tolist()]


def test_an_answer_without_any_verdict_is_not_checked() -> None:
    """Every safety field is optional: silence is not a pass, and a row that was never asked is nothing at all."""
    found = read_findings(completed([], None, [finding(severity="safe")]))
    assert words(found) == ["not checked", "none", "safe"]
    assert found.row_unchecked.tolist() == [True, False, False]


def test_a_side_that_was_not_reported_is_not_checked() -> None:
    """A verdict on the prompt says nothing of the completion."""
    found = read_findings(completed([finding(source="prompt", severity="safe")]))
    assert words(found.of("prompt")) == ["safe"]
    assert words(found.of("completion")) == ["not checked"]


def test_a_blocked_prompt_has_no_completion_that_could_have_been_checked() -> None:
    """Nothing was written, so nothing is missing on that side."""
    found = read_findings(completed([finding(severity="high", filtered=True)]))
    assert words(found.of("completion")) == ["none"]


def test_a_text_that_was_withheld_without_a_reason_is_filtered() -> None:
    """The refusal or the finish reason says it where no category does."""
    frame = completed([], [], reply_filtered=pd.array([True, False], "boolean"))
    frame.loc[0, "reply"] = pd.NA
    frame["reply_finish_reason"] = ["content_filter", "content_filter"]
    found = read_findings(frame)
    assert found.row_filtered.tolist() == [True, True]
    assert found.of("prompt").row_filtered.tolist() == [True, False]
    assert words(found) == ["detected", "detected"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.none()
        | st.lists(
            st.builds(
                finding,
                source=st.sampled_from(["prompt", "completion"]),
                category=st.sampled_from(["hate", "jailbreak"]),
                severity=st.sampled_from([None, "safe", "low", "high"]),
                filtered=st.booleans(),
                checked=st.booleans(),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    )
)
def test_a_frame_and_its_table_of_findings_say_the_same(verdicts: list[list[dict[str, object]] | None]) -> None:
    """Whichever of the two is drawn."""
    frame = completed(*verdicts)
    lines = [{**f, "row": row} for row, found in enumerate(verdicts) for f in found or ()]
    told = read_findings(frame)
    rows = [row for row, found in enumerate(verdicts) if found]
    assert np.array(words(told))[rows].tolist() == words(read_findings(table(*lines)))
    assert told.row_filtered[rows].tolist() == read_findings(table(*lines)).row_filtered.tolist()


def test_rows_of_one_label_stay_apart_in_a_frame() -> None:
    """Positions count, not labels."""
    frame = completed([finding(severity="low")], [finding(severity="safe")])
    frame.index = pd.Index(["a", "a"])
    assert words(read_findings(frame)) == ["low", "safe"]


def test_of_several_columns_of_completions_one_is_chosen() -> None:
    """The error names them; into= takes one."""
    both = pd.concat([completed([finding(severity="low")], into=name) for name in ("first", "second")], axis=1)
    with pytest.raises(InputError, match=r"'first', 'second'\); choose one with into="):
        read_findings(both)
    assert words(read_findings(both, "second")) == ["low"]


@pytest.mark.parametrize("text", ["no JSON", '{"a": 1}', "[1]"])
def test_a_column_of_something_else_is_refused(text: str) -> None:
    """It says what the column should hold, and what it holds."""
    frame = pd.DataFrame({"reply": ["a"], "reply_safety": [text]})
    with pytest.raises(InputError, match="'reply_safety' holds JSON lists of findings"):
        read_findings(frame)
