"""The chart of latencies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usage_reports import record_timeline, report

from skytells_nb.engine.report import Timeline
from skytells_nb.plots import latency, summary
from skytells_nb.plots.usage_charts.latency import _histograms
from skytells_nb.plots.usage_charts.records import read_usage


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=50), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_right_within_nine_percent(latencies: list[float], percent: int) -> None:
    """Compared with the latencies themselves, which are not stored."""
    recorded = Timeline()
    for seconds in latencies:
        recorded.record_response(0.0, seconds, math.inf)
    (histogram,) = _histograms(read_usage(report(timeline=recorded)).calls)
    exact = sorted(latencies)[math.ceil(percent / 100 * len(latencies)) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0906)


def test_latencies_of_a_model_are_added_up_over_its_calls() -> None:
    """A histogram for each model with all its requests."""
    figure = latency(
        [report("a", timeline=record_timeline([0.1, 2.0])), report("a", timeline=record_timeline([50.0])), report("b")]
    )
    (histogram,) = figure.data
    assert sum(histogram.y) == 3
    assert len(histogram.y) == len(histogram.hovertext)
    assert summary(figure).startswith("Latency of 3 requests. a: 50% within ")
