"""The limiter of one process: places, pauses, caps. Time is simulated, but where threads wait for each other."""

from __future__ import annotations

import math
import sys
import threading
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Clock, Simulation

from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.rate_limit.limiter import RateLimiter, rate_limiter_for
from skytells_nb.local.api.rate_limits import LimitOptions


def always() -> bool:
    return False


def send_all(limiter: RateLimiter, clock: Clock) -> float:
    """Send as long as no request has to wait for another to end; return the seconds that it takes."""
    started = clock.now
    while (wait := limiter.wait(clock.now)) < math.inf:
        clock.now += wait
        assert limiter.acquire(always)
    return clock.now - started


def test_few_requests_go_before_the_first_answer() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=16, clock=clock)
    assert send_all(limiter, clock) < 0.01
    assert 1 <= limiter.in_flight <= 4
    for _ in range(2):
        limiter.record_success(seconds=0.1)
    # So close to each other that answers of a tenth of a second do not wait for them, and not all at once.
    assert 0 < send_all(limiter, clock) < 0.1
    assert limiter.in_flight == 16


def test_the_next_request_goes_when_one_is_answered() -> None:
    limiter = RateLimiter(max_in_flight=1)
    assert limiter.acquire(always)
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(limiter.acquire(always)))
    waiter.start()
    limiter.record_success()
    waiter.join(30)
    assert got == [True]


def test_all_waiting_threads_see_that_their_run_was_stopped() -> None:
    """Those of another run too, which is not the first in the queue."""
    limiter = RateLimiter(max_in_flight=1)
    assert limiter.acquire(always)
    ends = [threading.Event(), threading.Event()]
    got: list[bool] = []
    threads = [
        threading.Thread(target=lambda end=ends[n % 2]: got.append(limiter.acquire(end.is_set))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    ends[1].set()
    for thread in threads[1::2]:
        thread.join(30)
    assert got == [False] * 10
    ends[0].set()
    for thread in threads[::2]:
        thread.join(30)
    assert got == [False] * 20


def test_many_threads_all_get_their_turn() -> None:
    """No one waits forever, and never are more in flight than may."""
    limiter = RateLimiter(max_in_flight=8)
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            assert limiter.acquire(always)
            most.append(limiter.in_flight)
            limiter.record_success(seconds=0.001)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 640
    assert max(most) <= 8
    assert limiter.in_flight == 0


def test_a_rejection_holds_everything_for_as_long_as_the_service_says_and_not_longer() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=8, clock=clock)
    limiter.acquire(always)
    limiter.record_rate_limited(12)
    assert limiter.wait(clock.now) == pytest.approx(12)
    assert limiter.waiting == "waiting 12 s for the account's limit"
    clock.now += 12
    assert limiter.wait(clock.now) <= 0
    assert limiter.waiting is None


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_a_rejection_without_a_useful_pause_still_pauses_longer_each_time(retry_after: float | None) -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=8, clock=clock)
    pauses = []
    for _ in range(4):
        limiter.acquire(always)
        limiter.record_rate_limited(retry_after)
        pauses.append(limiter.hold_until - clock.now)
        clock.now += pauses[-1]
    assert 0 < pauses[0] < pauses[1] < pauses[2] < pauses[3] < 30


def test_a_huge_pause_is_cut() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=8, clock=clock)
    limiter.acquire(always)
    limiter.record_rate_limited(1e9)
    assert limiter.wait(clock.now) <= 120


def test_a_clock_that_goes_back_does_not_make_it_wait_for_that_long() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=8, clock=clock)
    limiter.acquire(always)
    limiter.record_rate_limited(2)
    clock.now -= 900
    assert limiter.waiting == "waiting 2 s for the account's limit"
    clock.now += 2.1
    assert limiter.waiting is None


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 200), st.sampled_from([1.0, 2.0, 60.0]), st.sampled_from([0.02, 0.1, 0.4]), st.integers(1, 64))
def test_alone_a_reported_limit_is_not_exceeded(requests: int, window: float, latency: float, at_once: int) -> None:
    """But for a few at first, that find out when the window ends."""
    simulation = Simulation(LimitOptions(requests, window), latency=latency, max_in_flight=at_once).run(12 * window)
    (process,) = simulation.processes
    assert len(process.refused) <= 0.02 * len(process.admitted) + 4
    assert process.most_in_flight <= at_once


@pytest.mark.parametrize("seed", range(5))
def test_a_first_request_that_was_long_on_its_way_shifts_no_window(seed: int) -> None:
    """Its window began when it was let in: the next ones are not entered before they begin."""
    simulation = Simulation(LimitOptions(25, 2.0), first_s=0.09, seed=seed).run(40)
    assert simulation.refused == 0
    assert simulation.use(2, 38) >= 0.97


def test_alone_a_reported_limit_is_used_up() -> None:
    for kind in ("fixed", "bucket"):
        simulation = Simulation(LimitOptions(25, 60.0, kind=kind), latency=1.0).run(21 * 60)  # type: ignore[arg-type]
        assert simulation.use(60, 20 * 60) >= 0.97
        assert simulation.refused <= 0.01


def test_an_unreported_limit_is_found_and_seldom_tested() -> None:
    for kind in ("fixed", "bucket"):
        simulation = Simulation(LimitOptions(50, 1.0, kind=kind, headers=False)).run(120)  # type: ignore[arg-type]
        assert simulation.use(10, 118) >= 0.88
        assert simulation.refused <= 0.02


def test_a_limit_of_concurrency_is_found() -> None:
    simulation = Simulation(LimitOptions(100_000, 60.0, concurrency=8)).run(30)
    assert simulation.use(0, 30) * 100_000 / 60 >= 0.7 * 8 / 0.05
    assert simulation.refused <= 0.05


@pytest.mark.parametrize(
    "limits",
    [
        RateLimits(limit_concurrent=4, remaining_concurrent=0),
        RateLimits(limit_requests=60, remaining_requests=30, window=60.0),
        RateLimits(limit_requests=60, remaining_requests=1, window=60.0, remaining_tokens_in=1, remaining_tokens_out=1),
    ],
    ids=["no place left", "requests left", "one of each left"],
)
def test_a_request_rejected_for_concurrency_is_sent_again_as_soon_as_another_ended(limits: RateLimits) -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=16, clock=clock)
    for _ in range(4):
        limiter.acquire(always)
        limiter.record_success(seconds=0.1)
        clock.now += 0.1
    send_all(limiter, clock)
    before = limiter.in_flight
    assert limiter.record_rate_limited(30.0, limits) == 0.0
    assert limiter.in_flight == before - 1
    assert limiter.concurrency.allowed < before
    assert limiter.hold_until < clock.now
    while limiter.in_flight >= limiter.concurrency.allowed:
        assert limiter.wait(clock.now) == math.inf
        limiter.record_success(seconds=0.1)
        clock.now += 0.01
    assert limiter.wait(clock.now) == 0.0


def test_a_rejection_with_nothing_left_is_of_the_rate_and_holds_everything() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=16, clock=clock)
    limiter.acquire(always)
    assert limiter.record_rate_limited(30.0, RateLimits(limit_requests=60, remaining_requests=0, window=60.0)) == 0.0
    assert limiter.wait(clock.now) > 20


def test_requests_per_minute_is_never_exceeded() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=64, requests_per_minute=30, clock=clock)
    sent = 0
    while clock.now < 1000 + 600:
        if limiter.wait(clock.now) <= 0:
            limiter.acquire(always)
            limiter.record_success(seconds=0.1)
            sent += 1
        clock.now += 0.05
    assert 290 <= sent <= 301
    assert limiter.limit_text == "30 requests per 60 s"
    assert limiter.estimate_minutes(300, 0) == pytest.approx(10)


def test_tokens_per_minute_counts_what_was_used() -> None:
    """Requests that turn out twice as large as estimated are sent half as often."""
    clock = Clock()
    limiter = RateLimiter(max_in_flight=64, tokens_per_minute=6000, clock=clock)
    sent = 0
    while clock.now < 1000 + 600:
        if limiter.wait(clock.now) <= 0:
            limiter.acquire(always, 100)
            limiter.record_success(seconds=0.1, tokens=200)
            sent += 1
        clock.now += 0.05
    assert 285 <= sent <= 302


def test_a_limit_of_tokens_is_respected_too() -> None:
    """1,000 tokens a window at 100 a request are 10 requests, whatever the limit of requests is."""
    clock = Clock()
    limiter = RateLimiter(max_in_flight=4, clock=clock)
    left, sent, most = 1000, 0, 0
    while clock.now < 1000 + 300:
        if (clock.now - 1000) % 30 < 0.05:
            most, sent, left = max(most, sent), 0, 1000
        if limiter.wait(clock.now) <= 0:
            limiter.acquire(always, 100)
            sent += 1
            left -= 100
            limits = RateLimits(
                limit_requests=500, remaining_requests=500 - sent, window=30.0,
                limit_tokens_in=1000, remaining_tokens_in=max(0, left),
            )  # fmt: skip
            limiter.record_success(limits, seconds=0.02, tokens=100)
        clock.now += 0.05
    assert 8 <= most <= 12
    assert limiter.limit_text == "about 10 requests per 30 s"


def test_a_limit_that_changes_is_followed_at_once() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=64, clock=clock)
    for limit in (25, 100, 10):
        while (wait := limiter.wait(clock.now)) > 0:
            clock.now += wait + 0.001
        limiter.acquire(always)
        clock.now += 1
        limits = RateLimits(limit_requests=limit, remaining_requests=limit - 5, window=60.0)
        limiter.record_success(limits, seconds=0.5)
        assert limiter.permitted == limit / 60
        assert limiter.limit_text == f"{limit} requests per 60 s"
        assert limiter.wait(clock.now) <= 60


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(0, 90), st.sampled_from(["limits", "none", "429", "fail"])), max_size=60
    )
)
def test_it_never_waits_for_more_than_a_window(answers: list[tuple[int, float, str]]) -> None:
    """Remainders that jump, overtake each other or are missing lead to no stall."""
    clock = Clock()
    limiter = RateLimiter(max_in_flight=8, clock=clock)
    for left, passed, kind in answers:
        if limiter.wait(clock.now) <= 0:
            limiter.acquire(always)
        clock.now += passed
        limits = RateLimits(limit_requests=30, remaining_requests=left, window=60.0)
        if not limiter.in_flight:
            continue
        if kind == "fail":
            limiter.record_failure()
        elif kind == "429":
            limiter.record_rate_limited(30.0, RateLimits(limit_requests=30, remaining_requests=0, window=60.0))
        else:
            limiter.record_success(limits if kind == "limits" else None, seconds=min(passed, 5.0))
        assert limiter.wait(clock.now) <= 1.2 * 60


def test_latency_that_grows_with_the_number_in_flight_lowers_it() -> None:
    """A service that works on four at once is not made faster by sixty-four."""
    clock = Clock()
    limiter = RateLimiter(max_in_flight=64, clock=clock)
    for _ in range(4000):
        while limiter.wait(clock.now) <= 0:
            limiter.acquire(always)
        clock.now += 0.025
        limiter.record_success(seconds=max(0.1, 0.025 * limiter.in_flight))
    assert 4 <= limiter.concurrency.allowed <= 40


def test_slower_answers_do_not_lower_the_number_in_flight() -> None:
    clock = Clock()
    limiter = RateLimiter(max_in_flight=32, clock=clock)
    for number in range(6000):
        while limiter.wait(clock.now) <= 0:
            limiter.acquire(always)
        seconds = 0.1 if number < 2000 else 0.5
        clock.now += seconds / limiter.in_flight
        limiter.record_success(seconds=seconds)
    assert limiter.concurrency.allowed >= 24


def test_one_limiter_for_an_account_and_model() -> None:
    one = rate_limiter_for("https://a", "x", "m", max_in_flight=4)
    assert rate_limiter_for("https://a", "x", "m", max_in_flight=2, requests_per_minute=60) is one
    assert rate_limiter_for("https://a", "y", "m", max_in_flight=2) is not one
    assert (one.max_in_flight, one.permitted) == (2, 1.0)
    rate_limiter_for("https://a", "x", "m", max_in_flight=2)
    assert one.permitted == float("inf")


def test_acquiring_a_slot_costs_little() -> None:
    """What a request pays for its place, in calls of functions: some hundred, and none for each thread."""
    limiter = RateLimiter(max_in_flight=64)
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for _ in range(1000):
            limiter.acquire(always)
            limiter.record_success(seconds=0.001)
    finally:
        sys.setprofile(None)
    assert calls / 1000 < 200
