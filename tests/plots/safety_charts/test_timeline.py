"""Over time: rates where there is something to count, and every row in its period."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdicts import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety_timeline, summary

LOW, SAFE, UNKNOWN = [finding(severity="low")], [finding(severity="safe")], [finding(checked=False)]


def bars(figure: go.Figure) -> dict[str, list[int]]:
    return {trace.name: list(trace.y) for trace in figure.data if trace.type == "bar"}


def line(figure: go.Figure) -> list[float]:
    return [float(y) for y in figure.data[0].y]


def test_each_period_has_its_rate_and_its_rows() -> None:
    """Flagged of those checked above, all by their worst level below."""
    frame = completed(LOW, SAFE, UNKNOWN, SAFE, when=["2026-01-01", "2026-01-01", "2026-01-01", "2026-01-02"])
    figure = safety_timeline(frame, "when", every="day")
    assert line(figure) == [0.5, 0.0]
    assert bars(figure) == {"safe": [1, 1], "not checked": [1, 0], "low": [1, 0]}


def test_a_period_without_checked_rows_leaves_a_gap() -> None:
    """No rate is not a rate of zero."""
    frame = completed(LOW, UNKNOWN, SAFE, when=["2026-01-01", "2026-01-02", "2026-01-04"])
    rates = line(safety_timeline(frame, "when", every="day"))
    assert [rate == rate for rate in rates] == [True, False, False, True]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.datetimes(pd.Timestamp("2000-01-01"), pd.Timestamp("2030-01-01")), min_size=1, max_size=20))
def test_no_row_is_lost_between_periods(times: list[Any]) -> None:
    """Whatever the times, every row is in one bar."""
    frame = completed(*[SAFE] * len(times), when=times)
    assert sum(bars(safety_timeline(frame, "when"))["safe"]) == len(times)


@pytest.mark.parametrize(
    ("last", "period"),
    [("2026-01-01 00:40", "minute"), ("2026-01-02", "hour"), ("2026-02-20", "day"), ("2026-12-01", "week"),
     ("2030-01-01", "month"), ("2060-01-01", "year")],
)  # fmt: skip
def test_the_finest_period_that_can_be_read_is_chosen(last: str, period: str) -> None:
    """At most sixty of them."""
    frame = completed(SAFE, SAFE, when=["2026-01-01", last])
    figure = safety_timeline(frame.assign(when=pd.to_datetime(frame["when"], format="mixed")), "when")
    assert f"by {period} of when" in summary(figure)
    assert len(line(figure)) <= 60


def test_times_are_drawn_on_the_clock_of_their_zone() -> None:
    """Half past eleven in the evening belongs to that day, not to the next one of UTC."""
    when = pd.to_datetime(["2026-01-01 23:30"]).tz_localize("America/New_York")
    figure = safety_timeline(completed(SAFE, when=when), "when", every="day")
    assert pd.Timestamp(figure.data[1].x[0]) == pd.Timestamp("2026-01-01")


def test_rows_without_a_time_are_left_out_and_counted() -> None:
    """The caption says how many."""
    figure = safety_timeline(completed(SAFE, SAFE, when=["2026-01-01", None]), "when", every="day")
    (caption,) = [a.text for a in figure.layout.annotations if a.name == "caption"]
    assert "1 row without a time left out" in caption.replace("<br>", " ")
    assert bars(figure) == {"safe": [1]}


def test_a_table_of_findings_takes_times_by_label() -> None:
    """Or from a column of its own."""
    data = table(finding("x", severity="low"), finding("x", category="violence"), finding("y"))
    by_label = safety_timeline(data, pd.Series(["2026-01-02", "2026-01-01"], index=["y", "x"]), every="day")
    assert line(by_label) == [1.0, 0.0]
    own = data.assign(when=["2026-01-01", "2026-01-01", "2026-01-02"])
    assert line(safety_timeline(own, "when", every="day")) == [1.0, 0.0]


def test_nothing_with_a_time_gives_a_figure_that_says_so() -> None:
    """And no error."""
    assert summary(safety_timeline(completed(SAFE, when=[None]), "when")) == "No safety verdicts with a time to draw."


@pytest.mark.parametrize(
    ("when", "options", "found"),
    [
        (17, {}, "'when' holds int64. See pandas.to_datetime"),
        ("soon", {}, "'when' holds 'soon'"),
        ("2026-01-01", {"every": "decade"}, "every is one of minute, hour, day, week, month, year; found 'decade'"),
    ],
)
def test_what_is_no_time_is_refused(when: Any, options: dict[str, Any], found: str) -> None:
    """A number could be seconds, milliseconds or a year."""
    with pytest.raises(InputError, match=found):
        safety_timeline(completed(SAFE, when=[when]), "when", **options)


def test_more_periods_than_can_be_drawn_are_refused() -> None:
    """Minutes of ten years."""
    frame = completed(SAFE, SAFE, when=pd.to_datetime(["2016-01-01", "2026-01-01"]))
    with pytest.raises(InputError, match="too many to draw"):
        safety_timeline(frame, "when", every="minute")
