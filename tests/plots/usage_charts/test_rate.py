"""The chart of rates."""

from __future__ import annotations

from usage_reports import record_timeline, report

from skytells_nb.engine.report import Timeline
from skytells_nb.plots import rate, summary


def test_the_rate_is_shown_with_the_limit() -> None:
    """Succeeded and rejected requests per second, and the limit as a step line."""
    figure = rate(report(timeline=record_timeline([0.1, 0.1], rejected=2, permitted=5.0), limit="25 requests per 5 s"))
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
    figure = rate([report(timeline=record_timeline([0.1] * 3)), report(timeline=Timeline())])
    assert [trace.name for trace in figure.data] == ["succeeded"]
    assert "3 requests succeeded and 0 rejected in 3 s, at most 1/s; no known rate limit" in summary(figure)
