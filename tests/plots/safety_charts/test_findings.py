"""Findings of each row, and missing findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_tables import completed, finding, table

import skytells_nb  # noqa: F401
from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import Findings, read_findings
from skytells_nb.plots.safety_charts.severity import LEVEL_NAMES


def levels_of(findings: Findings) -> list[str]:
    """The worst level of each row."""
    return ["none" if level < 0 else LEVEL_NAMES[level] for level in findings.row_level.tolist()]


def test_a_completion_without_findings_is_not_checked() -> None:
    """All safety fields are optional: no result does not mean safe. A row without a request has no level."""
    findings = read_findings(completed([], None, [finding(severity="safe")]))
    assert levels_of(findings) == ["not checked", "none", "safe"]
    assert findings.row_unchecked.tolist() == [True, False, False]


def test_a_source_without_findings_is_not_checked() -> None:
    """The findings of the prompt are not those of the completion."""
    findings = read_findings(completed([finding(source="prompt", severity="safe")]))
    assert levels_of(findings.for_source("prompt")) == ["safe"]
    assert levels_of(findings.for_source("completion")) == ["not checked"]


def test_a_rejected_prompt_has_no_unchecked_completion() -> None:
    """There is no completion, so none of its findings is missing."""
    findings = read_findings(completed([finding(severity="high", filtered=True)]))
    assert levels_of(findings.for_source("completion")) == ["none"]


def test_a_text_filtered_without_a_reason_is_filtered() -> None:
    """By the rejection or the finish reason, without a category."""
    frame = completed([], [], reply_filtered=pd.array([True, False], "boolean"))
    frame.loc[0, "reply"] = pd.NA
    frame["reply_finish_reason"] = ["content_filter", "content_filter"]
    findings = read_findings(frame)
    assert findings.row_filtered.tolist() == [True, True]
    assert findings.for_source("prompt").row_filtered.tolist() == [True, False]
    assert levels_of(findings) == ["detected", "detected"]


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
def test_a_frame_and_its_table_of_findings_are_equivalent(
    findings_by_row: list[list[dict[str, object]] | None],
) -> None:
    """Both give the same levels."""
    frame = completed(*findings_by_row)
    lines = [{**f, "row": row} for row, findings in enumerate(findings_by_row) for f in findings or ()]
    from_frame = read_findings(frame)
    rows = [row for row, findings in enumerate(findings_by_row) if findings]
    assert np.array(levels_of(from_frame))[rows].tolist() == levels_of(read_findings(table(*lines)))
    assert from_frame.row_filtered[rows].tolist() == read_findings(table(*lines)).row_filtered.tolist()


def test_rows_with_equal_labels_are_separate_rows() -> None:
    """Rows are identified by position in a frame."""
    frame = completed([finding(severity="low")], [finding(severity="safe")])
    frame.index = pd.Index(["a", "a"])
    assert levels_of(read_findings(frame)) == ["low", "safe"]


def test_one_of_several_columns_of_completions_is_chosen() -> None:
    """By into=; the error names the columns."""
    both = pd.concat([completed([finding(severity="low")], into=name) for name in ("first", "second")], axis=1)
    with pytest.raises(InputError, match=r"'first', 'second'\)\. Choose one with into="):
        read_findings(both)
    assert levels_of(read_findings(both, "second")) == ["low"]


@pytest.mark.parametrize("text", ["not JSON", '{"a": 1}', "[1]"])
def test_an_invalid_column_of_findings_raises(text: str) -> None:
    """The error names the expected format and the value."""
    frame = pd.DataFrame({"reply": ["a"], "reply_safety": [text]})
    with pytest.raises(InputError, match="'reply_safety' must hold JSON lists of findings"):
        read_findings(frame)


def moderated() -> pd.DataFrame:
    """The columns that ``moderate`` adds: safe, withheld, two categories, detected, not checked, not requested."""
    severities = pd.Categorical(["safe", "high", "medium", None, None, None], ["safe", "low", "medium", "high"])
    return pd.DataFrame(
        {
            "text": list("abcdef"),
            "moderation_severity": severities,
            "moderation_filtered": pd.array([False, True, False, False, False, None], "boolean"),
            "moderation_categories": pd.array(["", "violence", "hate, sexual", "jailbreak", "", None], "string"),
            "moderation_checked": pd.array([True, True, True, True, False, None], "boolean"),
        }
    )


def test_the_columns_of_moderate_are_findings() -> None:
    """Without naming them; a row that was not requested has no level."""
    findings = read_findings(moderated())
    assert levels_of(findings) == ["safe", "high", "medium", "detected", "not checked", "none"]
    assert findings.row_filtered.tolist() == [False, True, False, False, False, False]
    named = [findings.categories[category] for category in findings.category]
    assert sorted(named) == ["all", "all", "hate", "jailbreak", "sexual", "violence"]


@pytest.mark.parametrize("change", ["mask", "concat", "parquet", "object"])
def test_verdicts_are_kept_with_their_rows(change: str, tmp_path: Path) -> None:
    """In masks, concatenations with the same labels, and files."""
    whole = moderated()
    expected = levels_of(read_findings(whole))
    if change == "mask":
        found, expected = read_findings(whole[whole["text"] > "b"]), expected[2:]
    elif change == "concat":
        found, expected = read_findings(pd.concat([whole, whole.iloc[:2]])), [*expected, *expected[:2]]
    elif change == "parquet":
        whole.to_parquet(tmp_path / "verdicts.parquet")
        found = read_findings(pd.read_parquet(tmp_path / "verdicts.parquet"))
    else:
        found = read_findings(whole.astype(object))
    assert levels_of(found) == expected


def test_completions_beside_verdicts_need_a_choice() -> None:
    """``into`` selects one."""
    both = moderated().assign(reply_safety=None, reply=None)
    with pytest.raises(InputError, match="'reply', 'moderation'"):
        read_findings(both)
    assert levels_of(read_findings(both, "moderation"))[1] == "high"
