"""Refusals that come whatever the rate are told from a limit."""

from __future__ import annotations

import random

from skytells_nb.engine.rate_limit.adaptive import DISTRUST_S, RECENT_REQUESTS, SEPARATED_BY, TransientRejections
from skytells_nb.engine.rate_limit.limiter import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(transient: TransientRejections, clock: Clock, count: int, rate: float) -> None:
    for _ in range(count):
        clock.now += 1 / rate
        transient.record_success(clock.now)


def test_as_many_rejections_at_a_lower_rate_are_transient() -> None:
    clock, transient = Clock(), TransientRejections()
    answers(transient, clock, 50, rate=200)
    assert not transient.record_rejection(clock.now)
    answers(transient, clock, 60, rate=50)
    assert transient.record_rejection(clock.now)


def test_fewer_rejections_at_a_lower_rate_are_a_limit() -> None:
    clock, transient = Clock(), TransientRejections()
    answers(transient, clock, 50, rate=200)
    transient.record_rejection(clock.now)
    answers(transient, clock, 900, rate=45)
    assert not transient.record_rejection(clock.now)


def test_rejections_in_a_cluster_are_a_limit() -> None:
    clock, transient = Clock(), TransientRejections()
    answers(transient, clock, 50, rate=200)
    transient.record_rejection(clock.now)
    answers(transient, clock, SEPARATED_BY - 1, rate=50)
    assert not any(transient.record_rejection(clock.now) for _ in range(10))


def test_many_rejections_count_as_a_limit_for_a_while() -> None:
    clock, transient = Clock(), TransientRejections()
    answers(transient, clock, 50, rate=200)
    transient.record_rejection(clock.now)
    answers(transient, clock, 50, rate=50)
    assert transient.record_rejection(clock.now)
    assert not all(transient.record_rejection(clock.now) for _ in range(RECENT_REQUESTS))
    for rate in (200, 50):
        answers(transient, clock, 50, rate)
        assert not transient.record_rejection(clock.now)
    clock.now += DISTRUST_S
    answers(transient, clock, 50, rate=50)
    assert transient.record_rejection(clock.now)


def drive(limiter: RateLimiter, clock: Clock, refuse: float, *, requests: int, latency: float = 0.02) -> float:
    """Seconds that so many answers take where this share of the requests is rejected at random."""
    chance, in_flight, answered, began = random.Random(5), [], 0, clock.now
    while answered < requests:
        while in_flight and in_flight[0] <= clock.now:
            in_flight.pop(0)
            if chance.random() < refuse:
                limiter.record_rate_limited(0.0, seconds=latency)
            else:
                answered += 1
                limiter.record_success(seconds=latency)
        if limiter.wait(clock.now) <= 0 and limiter.acquire(lambda: False):
            in_flight.append(clock.now + latency)
        else:
            clock.now += 0.001
    return clock.now - began


def test_rejections_at_random_cost_little_time() -> None:
    """Two in a hundred, and no header says why: 5,000 answers take no more than twice as long as without them."""
    seconds = []
    for share in (0.0, 0.02):
        clock = Clock()
        seconds.append(
            drive(RateLimiter(max_in_flight=16, clock=clock, jitter=lambda: 0.5), clock, share, requests=5_000)
        )
    assert seconds[1] < 2 * seconds[0]
