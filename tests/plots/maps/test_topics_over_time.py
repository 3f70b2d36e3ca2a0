"""Shares of topics over time: what the lines, the names beside them and the subtitle say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.errors import InputError
from skytells_nb.plots import summary, topics_over_time
from skytells_nb.plots.maps.topics_over_time import MAX_LINES, _spread


def monthly(counts: dict[str, list[int]], start: str = "2025-01") -> pd.DataFrame:
    """As many rows of each topic in each month from the first as listed, over all of the month."""
    rows = []
    for topic, by_month in counts.items():
        for month, n in zip(pd.period_range(start, periods=len(by_month), freq="M"), by_month, strict=True):
            days = pd.date_range(month.start_time, month.end_time, periods=max(n, 2))[:n]
            rows += [(day, topic) for day in days]
    return pd.DataFrame(rows, columns=["when", "topic"])


def draw(frame: pd.DataFrame, time: Any = "when", **options: Any) -> Any:
    return topics_over_time(frame, time, **{"into": "topic", "every": "month", **options})


def names_of(figure: Any) -> list[str]:
    return [note.text.replace("<br>", " ") for note in figure.layout.annotations if note.name == "topic"]


def test_each_line_has_the_shares_of_a_topic() -> None:
    """Of the rows of a period; the largest topic first; a month without rows is a gap."""
    figure = draw(monthly({"price": [10, 0, 20], "delay": [30, 0, 20]}))
    shares = {trace.name: np.asarray(trace.y) for trace in figure.data}
    assert list(shares) == ["delay", "price"]
    np.testing.assert_allclose(shares["price"], [0.25, np.nan, 0.5])
    np.testing.assert_allclose(shares["delay"], [0.75, np.nan, 0.5])
    assert "10 of 40 rows (25%, 14% to 40%)" in figure.data[1].hovertext[0]


def test_the_subtitle_says_what_changed() -> None:
    """By more than chance explains; the words and the numbers are those of the first and last third."""
    grown = draw(monthly({"price": [20, 20, 30, 40, 60, 60], "delay": [80, 80, 70, 60, 40, 40]}))
    assert grown.layout.title.subtitle.text in (
        "“price” grew from 20% to 60% of the rows.",
        "“delay” fell from 80% to 40% of the rows.",
    )
    assert "Topics by month of when, 2025-01-01 to 2025-06-01: delay 370; price 230." in summary(grown)
    few = draw(monthly({"price": [1, 2, 2], "delay": [3, 2, 2]}))
    assert few.layout.title.subtitle.text == "No topic's share changed by more than chance."
    one = draw(monthly({"price": [1], "delay": [3]}))
    assert one.layout.title.subtitle.text == "The largest topic is “delay” (75% of the rows)."


def test_rows_without_a_time_or_a_topic_are_counted() -> None:
    frame = monthly({"price": [9, 9], "delay": [9, 9]})
    frame.loc[0, "when"], frame.loc[[1, 2], "topic"] = pd.NaT, None
    caption = draw(frame).layout.annotations[-1].text.replace("<br>", " ")
    assert "33 rows" in caption
    assert "1 row without a time omitted · 2 rows without a topic omitted" in caption
    assert "No rows with a time and a topic" in summary(draw(frame.assign(topic=None)))


def test_only_the_largest_topics_are_drawn() -> None:
    """Each has a name beside its line; shares are of all rows."""
    figure = draw(monthly({f"topic {at}": [20 - at, 20 - at] for at in range(9)}))
    assert names_of(figure) == [f"topic {at}" for at in range(MAX_LINES)]
    assert f"the {MAX_LINES} largest of 9 topics" in figure.layout.annotations[-1].text.replace("<br>", " ")
    assert figure.data[0].y[0] == pytest.approx(20 / sum(20 - at for at in range(9)))


def test_names_are_shown_literally() -> None:
    """Also those with markup; long ones on two lines."""
    figure = draw(monthly({"<b>a</b> name that is longer than one line": [3, 3], "b": [2, 2]}))
    (text, _) = [note.text for note in figure.layout.annotations if note.name == "topic"]
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert text.count("<br>") == 1


def test_the_newest_clusters_are_the_topics() -> None:
    """Of a frame that ``cluster`` returned; numbers are names too."""
    frame = monthly({"a": [5, 5], "b": [4, 4]}).rename(columns={"topic": "cluster"})
    frame["cluster"] = pd.Categorical(frame["cluster"].map({"a": 0, "b": 1}))
    frame["cluster_score"] = np.float32(1)
    assert names_of(topics_over_time(frame, "when")) == ["0", "1"]
    with pytest.raises(InputError, match=r"no column that cluster\(\) made. Make one"):
        topics_over_time(frame.drop(columns="cluster_score"), "when")


@pytest.mark.parametrize(
    ("time", "options", "message"),
    [
        ("nothing", {}, "There is no column 'nothing'"),
        ("when", {"into": "nothing"}, "There is no column 'nothing'"),
        ("when", {"every": "fortnight"}, "every must be one of minute"),
        ("topic", {}, "time must be dates or times, got 'price'"),
        (pd.Series([1, 2]), {}, "time must be dates or times"),
    ],
)
def test_what_is_no_time_or_topic_is_refused(time: Any, options: dict[str, Any], message: str) -> None:
    frame = monthly({"price": [2, 2]})
    if isinstance(time, pd.Series):
        frame = frame.head(2)
    with pytest.raises(InputError, match=message):
        draw(frame, time, **options)


def test_times_are_taken_by_the_labels_of_rows() -> None:
    """And periods as they are; a time zone is kept."""
    frame = monthly({"price": [2, 3], "delay": [3, 2]})
    expected = [list(trace.y) for trace in draw(frame).data]
    shuffled = frame["when"].sample(frac=1, random_state=0)
    for times in (shuffled, frame["when"].dt.to_period("M"), frame["when"].dt.tz_localize("Europe/Berlin")):
        assert [list(trace.y) for trace in draw(frame.drop(columns="when"), times).data] == expected


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(10, 40)), min_size=1, max_size=7))
def test_names_beside_lines_do_not_overlap(names: list[tuple[float, float]]) -> None:
    """In the order of the ends of the lines, inside of the figure where they all fit."""
    wanted, sizes = np.array(names).T
    places = _spread(wanted, sizes, 300.0)
    order = np.argsort(wanted, kind="stable")
    for above, below in itertools.pairwise(order.tolist()):
        assert places[below] - places[above] >= (sizes[above] + sizes[below]) / 2 - 1e-6
    assert (places + sizes / 2 <= 300 + 1e-6).all()
