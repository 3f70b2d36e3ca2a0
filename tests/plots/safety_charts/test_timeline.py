"""Rates and rows by period."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_tables import completed, finding, table

from skytells_nb.errors import InputError
from skytells_nb.plots import safety_timeline, summary

LOW, SAFE, UNKNOWN = [finding(severity="low")], [finding(severity="safe")], [finding(checked=False)]


def bars(figure: go.Figure) -> dict[str, list[int]]:
    return {trace.name: list(trace.y) for trace in figure.data if trace.type == "bar"}


def line(figure: go.Figure) -> list[float]:
    return [float(y) for y in figure.data[0].y]


def test_each_period_has_its_rate_and_its_rows() -> None:
    """The rate of checked rows above, all rows by their worst level below."""
    frame = completed(LOW, SAFE, UNKNOWN, SAFE, when=["2026-01-01", "2026-01-01", "2026-01-01", "2026-01-02"])
    figure = safety_timeline(frame, "when", every="day")
    assert line(figure) == [0.5, 0.0]
    assert bars(figure) == {"safe": [1, 1], "not checked": [1, 0], "low": [1, 0]}


def test_a_period_without_checked_rows_leaves_a_gap() -> None:
    """A missing rate is not zero."""
    frame = completed(LOW, UNKNOWN, SAFE, when=["2026-01-01", "2026-01-02", "2026-01-04"])
    rates = line(safety_timeline(frame, "when", every="day"))
    assert [rate == rate for rate in rates] == [True, False, False, True]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.datetimes(pd.Timestamp("2000-01-01"), pd.Timestamp("2030-01-01")), min_size=1, max_size=20))
def test_every_row_is_in_a_period(times: list[Any]) -> None:
    """For any times."""
    frame = completed(*[SAFE] * len(times), when=times)
    assert sum(bars(safety_timeline(frame, "when"))["safe"]) == len(times)


@pytest.mark.parametrize(
    ("last", "period"),
    [("2026-01-01 00:40", "minute"), ("2026-01-02", "hour"), ("2026-02-20", "day"), ("2026-12-01", "week"),
     ("2030-01-01", "month"), ("2060-01-01", "year")],
)  # fmt: skip
def test_the_shortest_readable_period_is_chosen(last: str, period: str) -> None:
    """There are at most sixty periods."""
    frame = completed(SAFE, SAFE, when=["2026-01-01", last])
    figure = safety_timeline(frame.assign(when=pd.to_datetime(frame["when"], format="mixed")), "when")
    assert f"by {period} of when" in summary(figure)
    assert len(line(figure)) <= 60


def test_times_are_shown_in_their_zone() -> None:
    """11:30 pm belongs to the local day, not to the next day in UTC."""
    when = pd.to_datetime(["2026-01-01 23:30"]).tz_localize("America/New_York")
    figure = safety_timeline(completed(SAFE, when=when), "when", every="day")
    assert pd.Timestamp(figure.data[1].x[0]) == pd.Timestamp("2026-01-01")


def test_rows_without_a_time_are_omitted_and_counted() -> None:
    """The number is in the caption."""
    figure = safety_timeline(completed(SAFE, SAFE, when=["2026-01-01", None]), "when", every="day")
    (caption,) = [a.text for a in figure.layout.annotations if a.name == "caption"]
    assert "1 row without a time omitted" in caption.replace("<br>", " ")
    assert bars(figure) == {"safe": [1]}


def test_a_table_of_findings_gets_times_by_label() -> None:
    """Or from one of its columns."""
    data = table(finding("x", severity="low"), finding("x", category="violence"), finding("y"))
    by_label = safety_timeline(data, pd.Series(["2026-01-02", "2026-01-01"], index=["y", "x"]), every="day")
    assert line(by_label) == [1.0, 0.0]
    own = data.assign(when=["2026-01-01", "2026-01-01", "2026-01-02"])
    assert line(safety_timeline(own, "when", every="day")) == [1.0, 0.0]


def test_no_times_give_a_message() -> None:
    """They do not raise."""
    assert summary(safety_timeline(completed(SAFE, when=[None]), "when")) == "No safety results with a time to draw."


@pytest.mark.parametrize(
    ("when", "options", "message"),
    [
        (17, {}, "got int64 in 'when'. See pandas.to_datetime"),
        ("soon", {}, "got 'soon' in 'when'"),
        ("2026-01-01", {"every": "decade"}, "every must be one of minute, hour, day, week, month, year, got 'decade'"),
    ],
)
def test_invalid_times_raise(when: Any, options: dict[str, Any], message: str) -> None:
    """Numbers are ambiguous: seconds, milliseconds or years."""
    with pytest.raises(InputError, match=message):
        safety_timeline(completed(SAFE, when=[when]), "when", **options)


def test_too_many_periods_raise() -> None:
    """Ten years have too many minutes."""
    frame = completed(SAFE, SAFE, when=pd.to_datetime(["2016-01-01", "2026-01-01"]))
    with pytest.raises(InputError, match="at most 2,000 can be drawn"):
        safety_timeline(frame, "when", every="minute")


def test_an_hour_that_the_clock_shows_twice_is_two() -> None:
    """In autumn the hour from two to three comes twice; the names have the offsets that tell them apart."""
    times = pd.Series(pd.date_range("2026-10-25 00:00", periods=30, freq="10min", tz="Europe/Berlin"), name="asked")
    figure = safety_timeline(completed(*[SAFE] * 30, asked=times), "asked", every="hour")
    (rows,) = bars(figure).values()
    assert rows == [6] * 5
    names = [text.partition("<br>")[0] for text in figure.data[0].hovertext]
    assert names[2:4] == ["2026-10-25 02:00:00+02:00", "2026-10-25 02:00:00+01:00"]
    assert [moment.hour for moment in pd.DatetimeIndex(figure.data[1].x)] == [0, 1, 2, 3, 4]


def test_a_day_is_that_of_the_calendar_in_its_zone() -> None:
    """The day on which the clock is set back has 25 hours, and those after midnight belong to it."""
    times = pd.Series(pd.date_range("2026-10-25 00:00", periods=26, freq="h", tz="Europe/Berlin"), name="asked")
    figure = safety_timeline(completed(*[SAFE] * 26, asked=times), "asked", every="day")
    assert bars(figure) == {"safe": [25, 1]}


def partial_days(times: Any) -> list[str]:
    frame = completed(*[SAFE] * len(times), when=times)
    text = summary(safety_timeline(frame, "when", every="day"))
    return text.partition("Only a part of ")[2].partition(" has rows")[0].split(" and ")


@pytest.mark.parametrize(
    ("first", "last", "partial"),
    [
        ("2026-01-01 00:00", "2026-01-05 09:00", ["2026-01-05"]),
        ("2026-01-01 15:00", "2026-01-05 23:50", ["2026-01-01"]),
        ("2026-01-01 15:00", "2026-01-05 09:00", ["2026-01-01", "2026-01-05"]),
        ("2026-01-01 00:00", "2026-01-05 23:50", [""]),
    ],
)
def test_a_period_that_rows_do_not_cover_is_partial(first: str, last: str, partial: list[str]) -> None:
    """It has an open circle and pale bars, and caption and summary name it."""
    times = pd.date_range(first, last, freq="20min")
    assert partial_days(times) == partial
    figure = safety_timeline(completed(*[SAFE] * len(times), when=times), "when", every="day")
    open_circles = [symbol == "circle-open" for symbol in figure.data[0].marker.symbol]
    pale = [opacity < 1 for opacity in figure.data[1].marker.opacity]
    assert open_circles == pale == [f"2026-01-0{day}" in partial for day in range(1, 6)]
    assert ("a part only" in figure.layout.annotations[-1].text) == (partial != [""])


def test_regular_pauses_make_no_period_partial() -> None:
    """Working hours, days without times, and one row a day."""
    hours = pd.date_range("2026-01-01", "2026-01-05 23:50", freq="20min")
    assert partial_days(hours[(hours.hour >= 9) & (hours.hour < 17)]) == [""]
    assert partial_days(pd.DatetimeIndex(sorted([*pd.date_range("2026-01-01", "2026-01-05")] * 50))) == [""]
    assert partial_days(pd.DatetimeIndex(["2026-01-01 20:00", "2026-01-02 03:00", "2026-01-03 11:00"])) == [""]


def test_the_current_period_is_partial() -> None:
    """Whatever rows it has: it is not over."""
    now = pd.Timestamp.now()
    times = pd.DatetimeIndex([now - pd.Timedelta(days=2), now])
    assert partial_days(times)[-1] == str(now.date())
