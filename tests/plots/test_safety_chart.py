"""The safety chart: every finding counted once, nothing unchecked drawn as safe."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.errors import InputError
from skytells_nb.plots import safety, summary
from skytells_nb.plots.safety import COLUMNS, LEVELS


def finding(row: int = 0, source: str = "prompt", category: str = "hate", **verdict: Any) -> dict[str, Any]:
    rest = {"severity": None, "filtered": False, "detected": None, "checked": True}
    return {"row": row, "source": source, "category": category, **rest, **verdict}


def table(*findings: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(findings), columns=list(COLUMNS))


def counts(figure: go.Figure) -> dict[str, float]:
    """The share of the rows on each level of a chart with one bar."""
    return {bar.name: bar.x[0] for bar in figure.data if bar.x[0]}


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        ({"severity": "safe"}, "safe"),
        ({"severity": "low"}, "low"),
        ({"severity": "medium", "filtered": True}, "medium"),
        ({"severity": "HIGH"}, "high"),
        ({"severity": "critical"}, "other level"),
        ({"detected": False}, "safe"),
        ({"detected": True}, "detected"),
        ({"severity": "safe", "detected": True}, "detected"),
        ({"filtered": True}, "detected"),
        ({}, "safe"),
        ({"checked": False}, "not checked"),
        ({"checked": None}, "not checked"),
        ({"checked": False, "severity": "safe"}, "not checked"),
        ({"checked": False, "severity": "high"}, "high"),
        ({"checked": False, "detected": True}, "detected"),
    ],
)
def test_each_verdict_has_its_level(verdict: dict[str, Any], level: str) -> None:
    """Graded, detected, withheld, unknown and unchecked verdicts each land in one class."""
    assert counts(safety(table(finding(**verdict)))) == {level: 1.0}


@given(
    st.lists(
        st.builds(
            finding,
            row=st.integers(0, 4),
            source=st.sampled_from(["prompt", "completion"]),
            category=st.sampled_from(["hate", "jailbreak", "all"]),
            severity=st.sampled_from([None, "safe", "low", "medium", "high", "odd"]),
            filtered=st.booleans(),
            detected=st.sampled_from([None, True, False]),
            checked=st.sampled_from([True, False, None]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_counted_once_in_each_category(findings: list[dict[str, Any]]) -> None:
    """The lengths of a bar's parts add up to the share of the rows that have a finding of the category."""
    figure = safety(table(*findings))
    drawn = sum(share for bar in figure.data for share in bar.x)
    cells = {(line["source"], line["category"], line["row"]) for line in findings}
    rows = {source: len({row for side, _, row in cells if side == source}) for source, _, _ in cells}
    assert drawn == pytest.approx(sum(1 / rows[source] for source, _, _ in cells))


def test_the_worst_finding_of_a_row_counts() -> None:
    """Two answers to one prompt are one row, and an unchecked one outweighs a safe one."""
    assert counts(safety(table(finding(severity="low"), finding(severity="high"), finding()))) == {"high": 1.0}
    assert counts(safety(table(finding(severity="safe"), finding(checked=False)))) == {"not checked": 1.0}


def test_prompts_stand_beside_completions() -> None:
    """Each side has its bars and its number of rows; ``source`` shows one."""
    data = table(finding(0), finding(1), finding(0, "completion", severity="low"))
    figure = safety(data)
    heads = [a.text for a in figure.layout.annotations]
    assert "prompt (2)" in heads
    assert "completion (1)" in heads
    one = safety(data, source="completion")
    assert {bar.name for bar in one.data} == {"low"}
    assert "prompt" not in summary(one)


def test_a_category_that_was_not_reported_is_not_a_safe_one() -> None:
    """A side without findings of a category says so and draws no bar."""
    figure = safety(table(finding(category="hate"), finding(source="completion", category="violence")))
    assert [a.text for a in figure.layout.annotations].count("not reported") == 2


def test_a_missing_verdict_is_a_share_of_all_rows() -> None:
    """One unchecked exchange of four is a quarter of the bar, not all of it."""
    data = table(*[finding(row) for row in range(4)], finding(0, category="all", checked=False))
    unchecked = next(bar for bar in safety(data).data if bar.name == "not checked")
    assert max(unchecked.x) == 0.25
    assert "all categories not checked 1 (25%)" in summary(safety(data))


def test_levels_differ_by_more_than_colour() -> None:
    """Each level has its own word, colour and pattern, and every bar an outline."""
    for kind in ("word", "color", "pattern"):
        assert len({getattr(level, kind) for level in LEVELS}) == len(LEVELS)
    colors = {level.word: level.color for level in LEVELS}
    assert [colors[w] for w in ("safe", "low", "medium", "high")] == ["#7FB8DE", "#E69F00", "#C8500A", "#6B1D5E"]
    assert all(bar.marker.line.width == 1 for bar in safety(table(finding(severity="low"))).data)


def test_the_counts_stand_under_the_bars_in_words() -> None:
    """What is drawn can be read without telling colours apart."""
    data = table(finding(0, severity="low"), finding(1, severity="high", filtered=True), finding(2))
    assert "high 1, low 1, safe 1 · filtered 1" in [a.text for a in safety(data).layout.annotations]


def test_the_summary_says_every_count() -> None:
    """The words hold what the picture holds."""
    data = table(finding(0, severity="low", filtered=True), finding(1), finding(0, "completion", checked=False))
    assert summary(safety(data)) == (
        "Safety of 2 prompts and 1 completion. Prompt: hate safe 1 (50%), low 1 (50%), filtered 1. "
        "Completion: hate not checked 1 (100%)."
    )


def test_categories_with_the_most_flags_come_first() -> None:
    """And the entry that stands for a whole verdict comes last."""
    data = table(
        finding(category="all", checked=False), finding(category="hate"), finding(category="violence", severity="low")
    )
    assert list(safety(data).layout.yaxis.ticktext) == ["violence", "hate", "all categories"]


@pytest.mark.parametrize("data", [pd.DataFrame(), table()], ids=["no columns", "no rows"])
def test_an_empty_table_gives_a_figure_that_says_so(data: pd.DataFrame) -> None:
    """Nothing to draw is not an error and not a clean bill."""
    figure = safety(data)
    assert len(figure.data) == 0
    assert summary(figure) == "No safety verdicts to draw."


def test_a_side_without_findings_says_which() -> None:
    """Asking for completions of a table of prompts."""
    assert summary(safety(table(finding()), source="completion")) == "No safety verdicts to draw for completions."


def test_names_of_categories_are_not_trusted() -> None:
    """A category is text of the service, shown as it is; two that look alike when cut stay two bars."""
    evil = "<b>$x$</b> %{meta.summary} " + "long " * 20
    figure = safety(table(finding(category=evil + "1"), finding(category=evil + "2")), title=evil)
    texts = [
        *figure.layout.yaxis.ticktext,
        figure.layout.title.text,
        *[t for bar in figure.data for t in bar.hovertext],
    ]
    for text in texts:
        assert not set("<>$") & set(text.replace("<br>", "")), text
        assert "%{" not in text
    assert sorted(set(figure.data[0].y)) == [0, 1]


def test_columns_read_back_from_a_file_are_understood() -> None:
    """Nullable booleans and 0/1 numbers mean what they say; a null check is no check."""
    data = table(finding(0, detected=True), finding(1), finding(2))
    data["detected"] = data["detected"].astype("boolean")
    data["checked"] = [1.0, 1.0, float("nan")]
    assert counts(safety(data)) == pytest.approx({"safe": 1 / 3, "not checked": 1 / 3, "detected": 1 / 3})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (table(finding()).drop(columns=["severity", "checked"]), "severity, checked is missing"),
        (pd.DataFrame({"text": ["a"]}), "columns row, source, category, severity, filtered, detected, checked"),
        ([finding()], "not from a list"),
        (table(finding(source="user")), "found 'user'"),
    ],
)
def test_a_wrong_table_is_refused_with_the_columns_it_needs(data: Any, found: str) -> None:
    """The error says what a safety table looks like."""
    with pytest.raises(InputError, match=found):
        safety(data)


def test_a_frame_of_completions_is_drawn_by_what_the_accessor_keeps() -> None:
    """The column that ``details=True`` leaves in a frame holds its verdicts."""
    import skytells_nb  # noqa: F401

    kept = {"source": "completion", "index": 0, "category": "hate", "severity": "low"}
    verdict = json.dumps([{**kept, "filtered": False, "detected": None, "checked": True}])
    figure = safety(pd.DataFrame({"answer": ["a", None], "answer_safety": [verdict, None]}))
    assert summary(figure) == "Safety of 1 completion. Completion: hate low 1 (100%)."


def test_an_unknown_side_is_refused() -> None:
    """There are prompts and completions."""
    with pytest.raises(InputError, match="not 'answers'"):
        safety(table(finding()), source="answers")  # type: ignore[arg-type]
