"""One window of a limit: what was sent in it, what is open, and what goes over into the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.engine.rate_limit.advertised import Window

TIMES = st.lists(st.integers(0, 20), max_size=12).map(sorted)


def window(sends: list[int], open: int) -> Window:
    current = Window(0.0, 100.0)
    current.sent_at, current.pending = [float(time) for time in sends], open
    return current


@given(TIMES, st.integers(0, 12), st.integers(0, 20))
def test_a_split_loses_no_request_and_no_pending_one(sends: list[int], open: int, at: int) -> None:
    old = window(sends, min(open, len(sends)))
    new = old.split(float(at), 60.0)
    assert old.sent_at == [time for time in sends if time <= at]
    assert new.sent_at == [time for time in sends if time > at]
    assert old.pending + new.pending == min(open, len(sends))
    assert new.pending == min(open, len(new.sent_at))
    assert (new.started, new.remaining, new.by_clock, new.seen) == (at, 60.0, False, False)


@given(TIMES, st.integers(0, 20))
def test_a_request_is_sent_until_a_time_or_after_it(sends: list[int], at: int) -> None:
    current = window(sends, 0)
    assert current.sent_until(at) == sum(time <= at for time in sends)
    assert current.sent_after(at) == sum(time > at for time in sends)
    current.discard_until(at)
    assert current.sent_at == [time for time in sends if time > at]


@given(TIMES, st.integers(0, 20))
def test_the_discarded_request_is_the_one_sent_then(sends: list[int], at: int) -> None:
    current = window(sends, 0)
    current.discard(float(at))
    before = [time for time in sends if time <= at]
    assert current.sent_at == [*before[:-1], *(time for time in sends if time > at)]


@given(TIMES, st.integers(0, 12), st.integers(0, 20), st.integers(0, 5))
def test_pending_requests_sent_after_the_response_are_uncounted(
    sends: list[int], open: int, at: int, slack: int
) -> None:
    current = window(sends, open)
    current.at = float(at)
    assert current.uncounted(slack) == min(open, sum(time > at - slack for time in sends))
