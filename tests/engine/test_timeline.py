"""The timeline of a run: little room, and no request lost in it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.engine.report import LATENCY_STEPS, MAX_INTERVALS, MIN_LATENCY_S, PER_DOUBLING, Report, Timeline

MOMENTS = st.floats(0, 10**6)


@given(st.lists(st.tuples(MOMENTS, st.floats(0, 10**5), st.booleans()), max_size=60))
def test_every_request_is_counted_once_however_long_the_run(requests: list[tuple[float, float, bool]]) -> None:
    """A second or eleven days: stretches grow, counts stay."""
    timeline = Timeline()
    for at, seconds, refused in requests:
        if refused:
            timeline.record_rejection(at, math.inf)
        else:
            timeline.record_response(at, seconds, 5.0)
    answers = sum(not refused for _, _, refused in requests)
    assert (sum(timeline.answered), sum(timeline.latencies)) == (answers, answers)
    assert sum(timeline.refused) == len(requests) - answers
    assert len(timeline.answered) == len(timeline.refused) == len(timeline.permitted) <= MAX_INTERVALS
    assert len(timeline.latencies) <= LATENCY_STEPS


@given(st.lists(st.tuples(MOMENTS, st.booleans()), min_size=1, max_size=60))
def test_counts_are_in_their_interval(moments: list[tuple[float, bool]]) -> None:
    """Also where two stretches became one since."""
    timeline = Timeline()
    for at, refused in moments:
        (timeline.record_rejection if refused else lambda at, rate: timeline.record_response(at, 1.0, rate))(
            at, math.inf
        )
    for refused, counts in ((False, timeline.answered), (True, timeline.refused)):
        places = [int(at / timeline.interval) for at, kind in moments if kind == refused]
        assert counts == [places.count(place) for place in range(len(counts))]


@pytest.mark.parametrize("seconds", [0.001, 0.0313, 1.0, 7.5, 800.0])
def test_a_latency_lies_within_its_step(seconds: float) -> None:
    """Steps of a fourth of a doubling."""
    timeline = Timeline()
    timeline.record_response(0.0, seconds, math.inf)
    step = timeline.latencies.index(1)
    low, high = (MIN_LATENCY_S * 2 ** (edge / PER_DOUBLING) for edge in (step, step + 1))
    assert low * (1 - 1e-9) <= seconds < high * (1 + 1e-9)


def test_the_limit_is_the_last_one_known_in_an_interval() -> None:
    """None where none was; of two stretches that become one the later, where it knows."""
    timeline = Timeline()
    timeline.record_response(0.1, 1.0, math.inf)
    timeline.record_response(1.1, 1.0, 5.0)
    timeline.record_response(1.2, 1.0, 4.0)
    assert timeline.permitted == [None, 4.0]
    timeline.record_response(float(MAX_INTERVALS), 1.0, 3.0)
    assert (timeline.interval, timeline.permitted[0], timeline.permitted[-1]) == (2.0, 4.0, 3.0)


def test_a_copy_does_not_change() -> None:
    """A report is of its moment."""
    timeline = Timeline()
    snapshot = timeline.copy()
    timeline.record_response(0.0, 1.0, 5.0)
    timeline.record_rejection(0.0, 5.0)
    assert (snapshot.answered, snapshot.refused, snapshot.latencies, snapshot.permitted) == ([], [], [], [])


def test_a_report_returns_its_timeline_as_plain_values() -> None:
    """As JSON takes them, with the bounds of the steps."""
    timeline = Timeline(started=1.5)
    timeline.record_response(0.0, MIN_LATENCY_S, math.inf)
    figures = json.loads(json.dumps(Report("embed", "m", "done", timeline=timeline).to_dict()))["timeline"]
    assert figures == {
        "started": 1.5,
        "interval": 1.0,
        "latencies": [1],
        "answered": [1],
        "refused": [0],
        "permitted": [None],
        "least": MIN_LATENCY_S,
        "per_doubling": PER_DOUBLING,
    }
