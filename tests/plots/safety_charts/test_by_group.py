"""Rates by group with their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from safety_tables import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety_by, summary
from skytells_nb.plots.safety_charts.flag_rates import wilson_interval

LOW, SAFE, UNKNOWN = [finding(severity="low")], [finding(severity="safe")], [finding(checked=False)]


def rates(figure: go.Figure) -> dict[int, float]:
    """The rate of each line."""
    return {place: x for trace in figure.data for place, x in zip(trace.y, trace.x, strict=True)}


def texts_of(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations if annotation.name != "caption"]


def test_groups_are_sorted_by_rate_with_wilsons_interval() -> None:
    """The highest rate comes first."""
    frame = completed(LOW, SAFE, SAFE, SAFE, LOW, topic=["a", "a", "a", "b", "b"])
    figure = safety_by(frame, "topic")
    assert rates(figure) == {0: 0.5, 1: pytest.approx(1 / 3)}
    assert [text for text in texts_of(figure) if text in ("a", "b")] == ["b", "a"]
    (points,) = figure.data
    low, high = wilson_interval(1, 2)
    assert points.x[0] - points.error_x.arrayminus[0] == pytest.approx(float(low))
    assert points.x[0] + points.error_x.array[0] == pytest.approx(float(high))


def test_unchecked_rows_do_not_lower_a_rate() -> None:
    """They are in neither part of the fraction, and their number is shown."""
    figure = safety_by(completed(LOW, UNKNOWN, UNKNOWN, [], topic=["a"] * 4), "topic")
    assert rates(figure) == {0: 1.0}
    assert "a 1 of 1 (100%, 21% to 100%), 3 not checked" in summary(figure)


def test_an_unchecked_group_has_no_point() -> None:
    """A point at zero would mean that all rows are safe."""
    figure = safety_by(completed(UNKNOWN, SAFE, topic=["a", "b"]), "topic")
    assert rates(figure) == {0: 0.0}
    assert "a 1 not checked" in summary(figure)


def test_small_groups_have_open_circles() -> None:
    """Groups of fewer than twenty checked rows."""
    frame = completed(*[LOW] * 3, *[SAFE] * 25, topic=["few"] * 3 + ["many"] * 25)
    assert {trace.marker.symbol: len(trace.x) for trace in safety_by(frame, "topic").data} == {
        "circle-open": 1,
        "circle": 1,
    }


@pytest.mark.parametrize(("flag", "hits"), [("low", 3), ("medium", 2), ("high", 1), ("filtered", 1)])
def test_a_row_is_flagged_at_a_level_or_above(flag: Any, hits: int) -> None:
    """Or if something of it was filtered."""
    findings = [
        [finding(severity=severity, filtered=severity == "medium")] for severity in ("low", "medium", "high", "safe")
    ]
    assert rates(safety_by(completed(*findings, topic=["a"] * 4), "topic", flag=flag)) == {0: hits / 4}


def test_a_partly_unchecked_row_does_not_count_as_safe() -> None:
    """It counts only if its other part is flagged."""
    half = [finding(severity="low"), finding(source="completion", checked=False)]
    frame = completed(half, topic=["a"])
    assert rates(safety_by(frame, "topic")) == {0: 1.0}
    assert rates(safety_by(frame, "topic", flag="high")) == {}


def test_a_series_groups_a_table_of_findings_by_label() -> None:
    """In any order of its labels."""
    figure = safety_by(
        table(finding("x", severity="low"), finding("y")), pd.Series(["b", "a"], index=["y", "x"], name="topic")
    )
    assert summary(figure).startswith("Rows low or worse by topic: 1 of 2 checked (50%). a 1 of 1")


def test_rows_without_a_group_are_a_group() -> None:
    """Small groups are combined if there are too many."""
    frame = completed(*[SAFE] * 6, topic=["a", "a", "b", "c", None, None])
    texts = texts_of(safety_by(frame, "topic", max_groups=1))
    assert {"a", "other (2 values)", "no topic"} <= set(texts)


def test_a_group_that_differs_from_the_rest_is_marked() -> None:
    """By a text beside its numbers."""
    frame = completed(*[LOW] * 90, *[SAFE] * 110, *[LOW] * 10, *[SAFE] * 190, topic=["bad"] * 200 + ["good"] * 200)
    assert "above the rest; good" in summary(safety_by(frame, "topic"))


def test_names_of_groups_are_escaped() -> None:
    """They are shown literally."""
    texts = texts_of(safety_by(completed(LOW, topic=["<b>$x$</b> %{y}"]), "topic"))
    assert "&lt;b&gt;&#36;x&#36;&lt;/b&gt; &#37;{y}" in texts


def test_no_rows_give_a_message() -> None:
    """No results does not mean safe."""
    assert summary(safety_by(completed(None, topic=["a"]), "topic")) == "No safety results to draw."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "nope"}, "no column 'nope'; the frame has reply, reply_safety, topic"),
        ({"column": "topic", "flag": "bad"}, '"low", "medium", "high" or "filtered", got \'bad\''),
        ({"column": "topic", "max_groups": 0}, "max_groups must be at least 1"),
        ({"column": [1, 2, 3]}, "3 values for 1 rows"),
        ({"column": "topic", "confidence": 95}, "between 0 and 1"),
    ],
)
def test_invalid_arguments_raise(options: dict[str, Any], message: str) -> None:
    """The error names the value."""
    with pytest.raises(InputError, match=message):
        safety_by(completed(LOW, topic=["a"]), **options)


def test_combined_groups_come_last() -> None:
    """And rows without a group, at any rate. Longer texts shorten the axis."""
    data = table(*(finding(row, severity="high" if row >= 4 else "safe") for row in range(9)))
    groups = pd.Series(["a", "a", "a", "b", "b", "b", "c", "d", None], name="team")
    figure = safety_by(data, groups, max_groups=2)
    last = ["other (2 values)", "no team"]
    assert [text for text in texts_of(figure) if text in ("a", "b", *last)] == ["b", "a", *last]
    few, many = (
        safety_by(table(*(finding(row, checked=row % 2 == 0) for row in range(n))), pd.Series(["a"] * n))
        for n in (1, 5000)
    )
    assert many.layout.xaxis.domain[1] < few.layout.xaxis.domain[1]


@pytest.mark.parametrize(
    "groups",
    [
        pd.Series(pd.Categorical(["mid", "low", "high", None], ["low", "mid", "high"], ordered=True)),
        pd.cut(pd.Series([15.0, 5.0, 25.0, None]), [0, 10, 20, 30]),
        pd.Series(pd.PeriodIndex(["2026-02", "2026-01", "2026-03", None], freq="M")),
    ],
    ids=["category", "interval", "period"],
)
def test_ordered_groups_keep_their_order(groups: Any) -> None:
    """Whatever their rates are; rows without a group come last."""
    figure = safety_by(completed(LOW, SAFE, SAFE, LOW), groups.rename("g"))
    assert rates(figure) == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0}
    shown = [text for text in texts_of(figure) if " of " not in text]
    assert shown == [*(str(groups[row]) for row in (1, 0, 2)), "no g"]


def test_the_subtitle_says_which_groups_differ() -> None:
    """Or that none does, or that nothing was checked; the title can be another."""
    frame = completed(*[LOW] * 90, *[SAFE] * 110, *[LOW] * 10, *[SAFE] * 190, topic=["bad"] * 200 + ["good"] * 200)
    title = safety_by(frame, "topic").layout.title
    assert title.text == "Rows low or worse by topic"
    assert title.subtitle.text == (
        "bad is above the rest; good is below the rest; in all 100 of 400 checked rows (25%)."
    )
    alike = safety_by(completed(LOW, SAFE, topic=["a", "b"]), "topic", title="Mine").layout.title
    assert alike.text == "Mine"
    assert alike.subtitle.text == "No group differs clearly from the rest; in all 1 of 2 checked rows (50%)."
    assert safety_by(completed(UNKNOWN, topic=["a"]), "topic").layout.title.subtitle.text == "No row was checked."
