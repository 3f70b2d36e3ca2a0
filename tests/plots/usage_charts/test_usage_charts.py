"""Usage, latency and rate: what calls used, drawn from their reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import connected, served

from skytells_nb.engine.report import Report, Timeline
from skytells_nb.errors import InputError
from skytells_nb.plots import latency, rate, summary, usage
from skytells_nb.plots.usage_charts.latency import _histograms
from skytells_nb.plots.usage_charts.records import group_by_model, read_usage


def report(model: str = "m", **figures: Any) -> Report:
    used = {"requests": 1, "tokens_in": 10, "tokens_out": 5, "cost": 0.5, "sent": 1, **figures}
    return Report("complete", model, used.pop("state", "done"), **used)


def bars(figure: go.Figure) -> dict[str, list[float]]:
    return {trace.name: list(trace.x) for trace in figure.data}


def course(latencies: list[float], refused: int = 0, permitted: float = math.inf) -> Timeline:
    made = Timeline()
    for at, seconds in enumerate(latencies):
        made.record_answer(float(at), seconds, permitted)
    for _ in range(refused):
        made.record_rejection(0.0, permitted)
    return made


def texts(value: Any) -> Iterator[str]:
    """Every text in a figure, wherever it is."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from texts(inner)


def test_calls_of_a_model_are_added_up() -> None:
    """The dearest model first."""
    figure = usage([report("a", cached=3), report("b", cost=2.0), report("a", cost=0.25)])
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    assert bars(figure) == {
        "tokens in": [10, 20],
        "tokens out": [5, 10],
        "US dollars": [2.0, 0.75],
        "from the service": [1, 2],
        "from the cache": [0, 3],
    }


def test_a_price_that_is_not_known_is_not_zero() -> None:
    """It is said in its place, and the total is named as a part."""
    figure = usage([report("a"), report("b", cost=None)])
    assert "no price known" in [annotation.text for annotation in figure.layout.annotations]
    assert "$0.50, and more at no known price" in summary(figure)
    assert summary(usage(report(cost=None))).count("no price known") == 2


def test_a_call_that_the_cache_answered_costs_nothing() -> None:
    """Also where no price is known."""
    assert "$0.00" in summary(usage(report(cost=None, requests=0, sent=0, cached=4)))


def test_runs_stand_in_their_order_with_their_end() -> None:
    """The last forty."""
    labels = usage([report(), report(state="interrupted")], by="run").layout.yaxis.ticktext
    assert list(labels) == ["1 complete · m", "2 complete (interrupted) · m"]
    many = usage([report()] * 50, by="run")
    assert [many.layout.yaxis.ticktext[at] for at in (0, -1)] == ["11 complete · m", "50 complete · m"]
    assert "500 tokens in, 250 out, $25.00" in summary(many)
    assert "drawn are the last 40 calls" in next(a.text for a in many.layout.annotations if a.name == "caption")


figures = st.builds(
    report,
    st.sampled_from("ab"),
    requests=st.integers(0, 5),
    tokens_in=st.integers(0, 10**9),
    tokens_out=st.integers(0, 10**9),
    cost=st.none() | st.floats(0, 1000),
    cached=st.integers(0, 100),
    sent=st.integers(0, 100),
)


@given(st.lists(figures, max_size=8))
def test_nothing_is_lost_between_the_models(reports: list[Report]) -> None:
    """What all lines have is what all reports have, and plain dicts say the same."""
    lines = group_by_model(read_usage(reports))
    for name in ("requests", "tokens_in", "tokens_out", "cached", "sent"):
        assert sum(getattr(line, name) for line in lines) == sum(getattr(r, name) for r in reports)
    assert lines == group_by_model(read_usage([r.to_dict() for r in reports]))
    unknown = {r.model for r in reports if r.cost is None and r.requests}
    assert {line.model for line in lines if line.cost is None} == unknown


def test_a_session_tells_its_calls_and_its_single_answers(tmp_path: Path) -> None:
    """Real answers: a column, the same again from the cache, and one outside of any column."""
    frame = pd.DataFrame({"text": ["one", "two", "three"]})
    with served() as server, connected(server, tmp_path / "cache.sqlite") as session:
        frame.skytells.complete("{text}", progress=False)
        frame.skytells.complete("{text}", progress=False)
        model = session.settings.model
        session.record(session.client.chat.completions.create(model=model, messages="Hello"), model=model)
        figure = usage(session)
        drawn = usage(session, by="run")
        totals = session.totals
    assert bars(figure)["tokens in"] == [totals.input_tokens]
    assert bars(figure)["from the cache"] == [3]
    assert bars(figure)["from the service"] == [4]
    assert [str(label).partition(" · ")[0] for label in drawn.layout.yaxis.ticktext] == [
        "1 complete",
        "2 complete",
        "cells",
    ]


@pytest.mark.parametrize("chart", [usage, latency, rate])
@pytest.mark.parametrize("nothing", [[], [{}], "reports", 7, [7]])
def test_nothing_used_is_said_and_something_else_refused(chart: Any, nothing: Any) -> None:
    """An empty list is a session at its start; anything else is named."""
    if nothing == []:
        assert len(chart(nothing).data) == 0
        assert summary(chart(nothing)).endswith((".", "service."))
        return
    with pytest.raises(InputError, match="A usage chart is drawn from a session, from reports"):
        chart(nothing)


def test_names_of_models_are_not_trusted() -> None:
    """They come from the service."""
    evil = report("<i>$x$</i> %{qqq}", course=course([1.0]))
    for figure in (usage(evil), latency(evil), rate(evil)):
        figure.layout.meta = None  # the summary, which is plain text and drawn nowhere
        shown = list(texts(figure.to_plotly_json()))
        # It is there, so that what follows says something.
        assert any("qqq" in text for text in shown)
        for text in shown:
            assert "<i>" not in text
            assert "$x" not in text
            assert "%{q" not in text


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=50), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_right_within_nine_percent(latencies: list[float], percent: int) -> None:
    """Against the latencies themselves, which are not kept."""
    made = Timeline()
    for seconds in latencies:
        made.record_answer(0.0, seconds, math.inf)
    (histogram,) = _histograms(read_usage(report(course=made)).calls)
    exact = sorted(latencies)[math.ceil(percent / 100 * len(latencies)) - 1]
    assert histogram.within(percent) == pytest.approx(exact, rel=0.0906)


def test_latencies_of_a_model_are_added_up_over_its_calls() -> None:
    """A histogram for each model, every answer in it."""
    figure = latency([report("a", course=course([0.1, 2.0])), report("a", course=course([50.0])), report("b")])
    (histogram,) = figure.data
    assert sum(histogram.y) == 3
    assert len(histogram.y) == len(histogram.hovertext)
    assert summary(figure).startswith("Latency of 3 answers. a: half within ")


def test_the_rate_stands_against_the_limit() -> None:
    """Answered and refused in each second, and the limit as a line of steps."""
    figure = rate(report(course=course([0.1, 0.1], refused=2, permitted=5.0), limit="25 requests per 5 s"))
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "answered": [1.0, 1.0],
        "refused (429)": [2.0, 0.0],
        "limit of the account": [5.0, 5.0, 5.0],
    }
    assert "25 requests per 5 s" in next(a.text for a in figure.layout.annotations if a.name == "caption")


def test_a_limit_that_changes_is_drawn_in_steps_and_told_as_it_was_last() -> None:
    """A second in which no limit was told keeps the one before."""
    permitted = [None, 5.0, None, 9.0, 2.0, None]
    told = {"stretch": 0.5, "answered": [1, 2, 0, 3, 1, 0], "refused": [0, 0, 0, 0, 1, 0], "permitted": permitted}
    figure = rate({"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "course": told})
    (line,) = [trace for trace in figure.data if trace.name == "limit of the account"]
    assert [None if value != value else value for value in line.y] == [None, 5.0, 5.0, 9.0, 2.0, 2.0, 2.0]
    assert list(line.x) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert summary(figure) == (
        "Rate of embed with m: 7 requests answered and 1 refused in 3 s, at most 6 a second; the limit: 2 a second."
    )


def test_without_a_known_limit_there_is_no_line() -> None:
    """And of several reports the last with requests is drawn."""
    figure = rate([report(course=course([0.1] * 3)), report(course=Timeline())])
    assert [trace.name for trace in figure.data] == ["answered"]
    assert "3 requests answered and 0 refused in 3 s, at most 1 a second; no limit was known" in summary(figure)


def test_an_unknown_grouping_is_refused() -> None:
    """There are models and runs."""
    with pytest.raises(InputError, match='"model" or "run", not \'day\''):
        usage([], by="day")  # type: ignore[arg-type]
