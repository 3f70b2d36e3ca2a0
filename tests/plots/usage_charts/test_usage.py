"""The chart of usage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from served import connected, served
from usage_reports import record_timeline, report

from skytells_nb.errors import InputError
from skytells_nb.plots import latency, rate, summary, usage


def bars(figure: go.Figure) -> dict[str, list[float]]:
    return {trace.name: list(trace.x) for trace in figure.data}


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


def test_names_of_models_are_escaped() -> None:
    """They come from the service."""
    untrusted = report("<i>$x$</i> %{qqq}", timeline=record_timeline([1.0]))
    for figure in (usage(untrusted), latency(untrusted), rate(untrusted)):
        figure.layout.meta = None  # the summary is plain text that is not drawn
        shown = list(texts(figure.to_plotly_json()))
        # The name is in the figure.
        assert any("qqq" in text for text in shown)
        for text in shown:
            assert "<i>" not in text
            assert "$x" not in text
            assert "%{q" not in text


def test_an_unknown_grouping_raises() -> None:
    """The groupings are models and runs."""
    with pytest.raises(InputError, match='"model" or "run", got \'day\''):
        usage([], by="day")  # type: ignore[arg-type]
