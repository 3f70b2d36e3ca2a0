"""The course of a run: little room, and no request lost in it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.engine.report import LEAST_S, PER_DOUBLING, STEPS, STRETCHES, Report, Timeline

MOMENTS = st.floats(0, 10**6)


@given(st.lists(st.tuples(MOMENTS, st.floats(0, 10**5), st.booleans()), max_size=60))
def test_every_request_is_counted_once_however_long_the_run(requests: list[tuple[float, float, bool]]) -> None:
    """A second or eleven days: stretches grow, counts stay."""
    course = Timeline()
    for at, seconds, refused in requests:
        if refused:
            course.record_rejection(at, math.inf)
        else:
            course.record_answer(at, seconds, 5.0)
    answers = sum(not refused for _, _, refused in requests)
    assert (sum(course.answered), sum(course.latencies)) == (answers, answers)
    assert sum(course.refused) == len(requests) - answers
    assert len(course.answered) == len(course.refused) == len(course.permitted) <= STRETCHES
    assert len(course.latencies) <= STEPS


@given(st.lists(st.tuples(MOMENTS, st.booleans()), min_size=1, max_size=60))
def test_counts_stand_in_their_stretch(moments: list[tuple[float, bool]]) -> None:
    """Also where two stretches became one since."""
    course = Timeline()
    for at, refused in moments:
        (course.record_rejection if refused else lambda at, rate: course.record_answer(at, 1.0, rate))(at, math.inf)
    for refused, counts in ((False, course.answered), (True, course.refused)):
        places = [int(at / course.stretch) for at, kind in moments if kind == refused]
        assert counts == [places.count(place) for place in range(len(counts))]


@pytest.mark.parametrize("seconds", [0.001, 0.0313, 1.0, 7.5, 800.0])
def test_a_latency_lies_within_its_step(seconds: float) -> None:
    """Steps of a fourth of a doubling."""
    course = Timeline()
    course.record_answer(0.0, seconds, math.inf)
    step = course.latencies.index(1)
    low, high = (LEAST_S * 2 ** (edge / PER_DOUBLING) for edge in (step, step + 1))
    assert low * (1 - 1e-9) <= seconds < high * (1 + 1e-9)


def test_the_limit_is_the_last_that_was_known_in_a_stretch() -> None:
    """None where none was; of two stretches that become one the later, where it knows."""
    course = Timeline()
    course.record_answer(0.1, 1.0, math.inf)
    course.record_answer(1.1, 1.0, 5.0)
    course.record_answer(1.2, 1.0, 4.0)
    assert course.permitted == [None, 4.0]
    course.record_answer(float(STRETCHES), 1.0, 3.0)
    assert (course.stretch, course.permitted[0], course.permitted[-1]) == (2.0, 4.0, 3.0)


def test_a_copy_does_not_go_on() -> None:
    """A report is of its moment."""
    course = Timeline()
    kept = course.copy()
    course.record_answer(0.0, 1.0, 5.0)
    course.record_rejection(0.0, 5.0)
    assert (kept.answered, kept.refused, kept.latencies, kept.permitted) == ([], [], [], [])


def test_a_report_tells_its_course_as_plain_values() -> None:
    """As JSON takes them, with the bounds of the steps."""
    course = Timeline(started=1.5)
    course.record_answer(0.0, LEAST_S, math.inf)
    told = json.loads(json.dumps(Report("embed", "m", "done", course=course).to_dict()))["course"]
    assert told == {
        "started": 1.5,
        "stretch": 1.0,
        "latencies": [1],
        "answered": [1],
        "refused": [0],
        "permitted": [None],
        "least": LEAST_S,
        "per_doubling": PER_DOUBLING,
    }
