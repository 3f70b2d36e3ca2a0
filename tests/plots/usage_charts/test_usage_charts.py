"""Charts of usage, latency and rate from reports."""

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


def timeline(latencies: list[float], rejected: int = 0, permitted: float = math.inf) -> Timeline:
    recorded = Timeline()
    for second, seconds in enumerate(latencies):
        recorded.record_answer(float(second), seconds, permitted)
    for _ in range(rejected):
        recorded.record_rejection(0.0, permitted)
    return recorded


def texts(value: Any) -> Iterator[str]:
    """Every text in a figure, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from texts(inner)


def test_calls_of_a_model_are_added_up() -> None:
    """The most expensive model comes first."""
    figure = usage([report("a", cached=3), report("b", cost=2.0), report("a", cost=0.25)])
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    assert bars(figure) == {
        "tokens in": [10, 20],
        "tokens out": [5, 10],
        "US dollars": [2.0, 0.75],
        "from the service": [1, 2],
        "from the cache": [0, 3],
    }


def test_an_unknown_price_is_not_zero() -> None:
    """The cost is shown as unknown, and the total as incomplete."""
    figure = usage([report("a"), report("b", cost=None)])
    assert "no price known" in [annotation.text for annotation in figure.layout.annotations]
    assert "$0.50 plus usage without a known price" in summary(figure)
    assert summary(usage(report(cost=None))).count("no price known") == 2


def test_a_call_from_the_cache_costs_nothing() -> None:
    """Even if no price is known."""
    assert "$0.00" in summary(usage(report(cost=None, requests=0, sent=0, cached=4)))


def test_runs_are_in_order_with_their_state() -> None:
    """The last forty are shown."""
    labels = usage([report(), report(state="interrupted")], by="run").layout.yaxis.ticktext
    assert list(labels) == ["1 complete · m", "2 complete (interrupted) · m"]
    many = usage([report()] * 50, by="run")
    assert [many.layout.yaxis.ticktext[at] for at in (0, -1)] == ["11 complete · m", "50 complete · m"]
    assert "500 tokens in, 250 out, $25.00" in summary(many)
    assert "last 40 calls shown" in next(a.text for a in many.layout.annotations if a.name == "caption")


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
def test_totals_by_model_are_complete(reports: list[Report]) -> None:
    """The totals are those of all reports, and dictionaries give the same."""
    lines = group_by_model(read_usage(reports))
    for name in ("requests", "tokens_in", "tokens_out", "cached", "sent"):
        assert sum(getattr(line, name) for line in lines) == sum(getattr(r, name) for r in reports)
    assert lines == group_by_model(read_usage([r.to_dict() for r in reports]))
    unknown = {r.model for r in reports if r.cost is None and r.requests}
    assert {line.model for line in lines if line.cost is None} == unknown


def test_a_session_has_calls_and_single_requests(tmp_path: Path) -> None:
    """Real requests: a column, the same column from the cache, and a single request."""
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
def test_no_usage_gives_a_message_and_other_objects_raise(chart: Any, nothing: Any) -> None:
    """An empty list is valid, like a new session."""
    if nothing == []:
        assert len(chart(nothing).data) == 0
        assert summary(chart(nothing)).endswith(".")
        return
    with pytest.raises(InputError, match="A usage chart needs a session, reports"):
        chart(nothing)


def test_names_of_models_are_escaped() -> None:
    """They come from the service."""
    untrusted = report("<i>$x$</i> %{qqq}", timeline=timeline([1.0]))
    for figure in (usage(untrusted), latency(untrusted), rate(untrusted)):
        figure.layout.meta = None  # the summary is plain text that is not drawn
        shown = list(texts(figure.to_plotly_json()))
        # The name is in the figure.
        assert any("qqq" in text for text in shown)
        for text in shown:
            assert "<i>" not in text
            assert "$x" not in text
            assert "%{q" not in text


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=50), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_right_within_nine_percent(latencies: list[float], percent: int) -> None:
    """Compared with the latencies themselves, which are not stored."""
    recorded = Timeline()
    for seconds in latencies:
        recorded.record_answer(0.0, seconds, math.inf)
    (histogram,) = _histograms(read_usage(report(timeline=recorded)).calls)
    exact = sorted(latencies)[math.ceil(percent / 100 * len(latencies)) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0906)


def test_latencies_of_a_model_are_added_up_over_its_calls() -> None:
    """A histogram for each model with all its requests."""
    figure = latency([report("a", timeline=timeline([0.1, 2.0])), report("a", timeline=timeline([50.0])), report("b")])
    (histogram,) = figure.data
    assert sum(histogram.y) == 3
    assert len(histogram.y) == len(histogram.hovertext)
    assert summary(figure).startswith("Latency of 3 requests. a: 50% within ")


def test_the_rate_is_shown_with_the_limit() -> None:
    """Succeeded and rejected requests per second, and the limit as a step line."""
    figure = rate(report(timeline=timeline([0.1, 0.1], rejected=2, permitted=5.0), limit="25 requests per 5 s"))
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "succeeded": [1.0, 1.0],
        "rejected (429)": [2.0, 0.0],
        "rate limit": [5.0, 5.0, 5.0],
    }
    assert "25 requests per 5 s" in next(a.text for a in figure.layout.annotations if a.name == "caption")


def test_a_changing_limit_is_a_step_line() -> None:
    """An interval without a limit continues the previous one; the summary has the last one."""
    permitted = [None, 5.0, None, 9.0, 2.0, None]
    recorded = {"interval": 0.5, "answered": [1, 2, 0, 3, 1, 0], "refused": [0, 0, 0, 0, 1, 0], "permitted": permitted}
    figure = rate({"operation": "embed", "model": "m", "tokens_in": 1, "tokens_out": 0, "timeline": recorded})
    (line,) = [trace for trace in figure.data if trace.name == "rate limit"]
    assert [None if value != value else value for value in line.y] == [None, 5.0, 5.0, 9.0, 2.0, 2.0, 2.0]
    assert list(line.x) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert summary(figure) == (
        "Rate of embed with m: 7 requests succeeded and 1 rejected in 3 s, at most 6/s; rate limit: 2/s."
    )


def test_without_a_known_limit_there_is_no_line() -> None:
    """Of several reports, the last one with requests is drawn."""
    figure = rate([report(timeline=timeline([0.1] * 3)), report(timeline=Timeline())])
    assert [trace.name for trace in figure.data] == ["succeeded"]
    assert "3 requests succeeded and 0 rejected in 3 s, at most 1/s; no known rate limit" in summary(figure)


def test_an_unknown_grouping_raises() -> None:
    """The groupings are models and runs."""
    with pytest.raises(InputError, match='"model" or "run", got \'day\''):
        usage([], by="day")  # type: ignore[arg-type]
