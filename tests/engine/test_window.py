"""One window of a limit: what was sent in it, what is open, and what goes over into the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.engine.rate_limit.advertised import Window

TIMES = st.lists(st.integers(0, 20), max_size=12).map(sorted)


def window(sends: list[int], open: int) -> Window:
    made = Window(0.0, 100.0)
    made.sent_at, made.pending = [float(time) for time in sends], open
    return made


@given(TIMES, st.integers(0, 12), st.integers(0, 20))
def test_a_split_loses_no_request_and_no_open_one(sends: list[int], open: int, at: int) -> None:
    old = window(sends, min(open, len(sends)))
    new = old.split(float(at), 60.0)
    assert old.sent_at == [time for time in sends if time <= at]
    assert new.sent_at == [time for time in sends if time > at]
    assert old.pending + new.pending == min(open, len(sends))
    assert new.pending == min(open, len(new.sent_at))
    assert (new.started, new.remaining, new.by_clock, new.seen) == (at, 60.0, False, False)


@given(TIMES, st.integers(0, 20))
def test_a_request_is_sent_until_a_time_or_after_it(sends: list[int], at: int) -> None:
    made = window(sends, 0)
    assert made.sent_until(at) == sum(time <= at for time in sends)
    assert made.sent_after(at) == sum(time > at for time in sends)
    made.discard_until(at)
    assert made.sent_at == [time for time in sends if time > at]


@given(TIMES, st.integers(0, 20))
def test_what_is_taken_back_is_the_request_that_left_then(sends: list[int], at: int) -> None:
    made = window(sends, 0)
    made.discard(float(at))
    before = [time for time in sends if time <= at]
    assert made.sent_at == [*before[:-1], *(time for time in sends if time > at)]


@given(TIMES, st.integers(0, 12), st.integers(0, 20), st.integers(0, 5))
def test_open_requests_that_left_after_the_answer_are_uncounted(
    sends: list[int], open: int, at: int, slack: int
) -> None:
    made = window(sends, open)
    made.at = float(at)
    assert made.uncounted(slack) == min(open, sum(time > at - slack for time in sends))
