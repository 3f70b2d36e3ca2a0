"""Usage records: what is read from reports and sessions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usage_reports import report

from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError
from skytells_nb.plots import latency, rate, summary, usage
from skytells_nb.plots.usage_charts.records import group_by_model, read_usage

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
