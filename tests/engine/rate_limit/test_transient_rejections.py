"""Refusals that come whatever the rate are told from a limit."""

from __future__ import annotations

import random

from skytells_nb.engine.rate_limit.adaptive import ALONE, DISTRUST_S, LOOKED_AT, TransientRejections
from skytells_nb.engine.rate_limit.limiter import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(strays: TransientRejections, clock: Clock, count: int, rate: float) -> None:
    for _ in range(count):
        clock.now += 1 / rate
        strays.record_success(clock.now)


def test_as_many_refusals_at_a_lower_rate_are_strays() -> None:
    clock, strays = Clock(), TransientRejections()
    answers(strays, clock, 50, rate=200)
    assert not strays.record_rejection(clock.now)
    answers(strays, clock, 60, rate=50)
    assert strays.record_rejection(clock.now)


def test_fewer_refusals_at_a_lower_rate_are_a_limit() -> None:
    clock, strays = Clock(), TransientRejections()
    answers(strays, clock, 50, rate=200)
    strays.record_rejection(clock.now)
    answers(strays, clock, 900, rate=45)
    assert not strays.record_rejection(clock.now)


def test_refusals_in_a_cluster_are_a_limit() -> None:
    clock, strays = Clock(), TransientRejections()
    answers(strays, clock, 50, rate=200)
    strays.record_rejection(clock.now)
    answers(strays, clock, ALONE - 1, rate=50)
    assert not any(strays.record_rejection(clock.now) for _ in range(10))


def test_many_refusals_end_the_belief_for_a_while() -> None:
    clock, strays = Clock(), TransientRejections()
    answers(strays, clock, 50, rate=200)
    strays.record_rejection(clock.now)
    answers(strays, clock, 50, rate=50)
    assert strays.record_rejection(clock.now)
    assert not all(strays.record_rejection(clock.now) for _ in range(LOOKED_AT))
    for rate in (200, 50):
        answers(strays, clock, 50, rate)
        assert not strays.record_rejection(clock.now)
    clock.now += DISTRUST_S
    answers(strays, clock, 50, rate=50)
    assert strays.record_rejection(clock.now)


def drive(pacer: RateLimiter, clock: Clock, refuse: float, *, requests: int, latency: float = 0.02) -> float:
    """Seconds that so many answers take where this share of the requests is refused at random."""
    chance, under_way, answered, began = random.Random(5), [], 0, clock.now
    while answered < requests:
        while under_way and under_way[0] <= clock.now:
            under_way.pop(0)
            if chance.random() < refuse:
                pacer.record_rate_limited(0.0, seconds=latency)
            else:
                answered += 1
                pacer.record_success(seconds=latency)
        if pacer.wait(clock.now) <= 0 and pacer.acquire(lambda: False):
            under_way.append(clock.now + latency)
        else:
            clock.now += 0.001
    return clock.now - began


def test_refusals_at_random_cost_little_time() -> None:
    """Two in a hundred, and no header says why: 5,000 answers take no more than twice as long as without them."""
    seconds = []
    for share in (0.0, 0.02):
        clock = Clock()
        seconds.append(
            drive(RateLimiter(max_in_flight=16, clock=clock, jitter=lambda: 0.5), clock, share, requests=5_000)
        )
    assert seconds[1] < 2 * seconds[0]
