"""When a service counts as down, on a clock of its own."""

from __future__ import annotations

import itertools
import threading

import pytest

from skytells_nb.engine.retry import FAILURE_THRESHOLD, FREE_RETRIES, MIN_PAUSE_S, RETRIES_PER_SUCCESS, CircuitBreaker
from skytells_nb.errors import (
    BadRequestError,
    ConnectError,
    ConnectionLostError,
    InvalidResponseError,
    RequestTimeoutError,
    SkytellsError,
    api_error,
)

LOST = ConnectionLostError("cut")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trip(breaker: CircuitBreaker, problem: SkytellsError = LOST) -> str | None:
    """Fail until it opens; what the last failure says."""
    return [breaker.record_failure(problem) for _ in range(FAILURE_THRESHOLD)][-1]


def no() -> bool:
    return False


def waits(breaker: CircuitBreaker) -> bool:
    """Whether a thread that wants to try is held back; it gives up at its third look."""
    looks: list[bool] = []

    def stopped() -> bool:
        looks.append(True)
        return len(looks) > 2

    return not breaker.allow(stopped)


def test_it_opens_after_so_many_consecutive_failures() -> None:
    breaker = CircuitBreaker(clock=Clock())
    for _ in range(FAILURE_THRESHOLD - 1):
        breaker.record_failure(LOST)
    assert not breaker.open
    breaker.record_failure(LOST)
    assert breaker.open


def test_an_answer_or_a_rejection_between_them_starts_the_count_again() -> None:
    for good in (
        CircuitBreaker.record_success,
        lambda b: b.record_failure(api_error(400, None)),
        lambda b: b.record_failure(api_error(429, None)),
    ):
        breaker = CircuitBreaker(clock=Clock())
        for _ in range(FAILURE_THRESHOLD - 1):
            breaker.record_failure(LOST)
        good(breaker)
        breaker.record_failure(LOST)
        assert not breaker.open


def test_an_open_breaker_allows_one_probe_after_a_pause() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    trip(breaker)
    assert waits(breaker)
    clock.now += MIN_PAUSE_S
    assert breaker.allow(no)
    held: list[bool] = []
    other = threading.Thread(target=lambda: held.append(waits(breaker)))
    other.start()
    other.join(60)
    assert held == [True]
    assert breaker.waiting == "the service does not answer; probe 1 of 5"


@pytest.mark.parametrize("end", ["cancel", "exit"])
def test_a_thread_that_sends_no_probe_after_all_holds_none_back(end: str) -> None:
    """It found no free descriptor, say, and left."""
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    trip(breaker)
    clock.now += MIN_PAUSE_S

    def leave() -> None:
        assert breaker.allow(no)
        if end == "cancel":
            breaker.cancel_probe()

    prober = threading.Thread(target=leave)
    prober.start()
    prober.join(60)
    assert not waits(breaker)


def test_a_successful_probe_closes_it_for_all_threads() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    trip(breaker)
    clock.now += MIN_PAUSE_S
    assert breaker.allow(no)
    breaker.record_success()
    assert not breaker.open
    assert breaker.waiting is None
    assert breaker.allow(no)


def test_pauses_between_failed_probes_double_until_the_service_counts_as_down() -> None:
    clock = Clock()
    breaker = CircuitBreaker(probes=3, clock=clock)
    trip(breaker)
    times, reason = [], None
    while reason is None:
        while waits(breaker):
            clock.now += 0.125
        times.append(clock.now)
        reason = breaker.record_failure(LOST)
    assert [round(after - before, 2) for before, after in itertools.pairwise(times)] == [1.0, 2.0]
    assert reason == f"{FAILURE_THRESHOLD + 3} consecutive attempts failed: the service seems to be down."


def test_no_probe_if_each_attempt_was_paid_for() -> None:
    assert "seems to be down" in str(trip(CircuitBreaker(clock=Clock()), InvalidResponseError("nonsense")))


def test_no_probe_if_the_service_was_never_reached() -> None:
    assert "seems to be down" in str(trip(CircuitBreaker(clock=Clock()), ConnectError("refused")))


def test_a_silent_service_is_probed_once() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    silent = RequestTimeoutError("silent")
    assert trip(breaker, silent) is None
    clock.now += MIN_PAUSE_S
    assert breaker.allow(no)
    assert "seems to be down" in str(breaker.record_failure(silent))


def test_a_service_that_rejects_requests_is_not_down() -> None:
    breaker = CircuitBreaker(clock=Clock())
    assert [breaker.record_failure(BadRequestError("no", status=400)) for _ in range(50)] == [None] * 50


def test_a_rate_limit_in_the_body_of_a_success_is_a_failure_of_the_service() -> None:
    """One with its own status is a service that is up."""
    body = {"error": {"code": 429, "message": "Rate limit reached"}}
    breaker = CircuitBreaker()
    for _ in range(FAILURE_THRESHOLD):
        assert breaker.record_failure(api_error(429, body)) is None
    assert not breaker.open
    trip(breaker, api_error(200, body))
    assert breaker.open


def test_retries_are_limited_in_proportion_to_the_answers() -> None:
    breaker = CircuitBreaker(clock=Clock())
    for _ in range(100):
        breaker.record_success()
    allowed = 0
    while breaker.may_retry() is None:
        allowed += 1
    assert allowed == FREE_RETRIES + RETRIES_PER_SUCCESS * 100
    assert "fails too often" in str(breaker.may_retry())
