"""The pacer, on a clock of its own: no waiting, no sockets."""

from __future__ import annotations

import threading

from skytells_nb.engine.pace import Pacer, pacer_for
from skytells_nb.transport.limits import RateLimits


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """A service with a fixed window, driven in the pacer's own time."""

    def __init__(self, clock: Clock, limit: int, window: float, *, headers: bool) -> None:
        self.clock, self.limit, self.window, self.headers = clock, limit, window, headers
        self.used: dict[int, int] = {}
        self.answered = self.refused = 0

    def ask(self, pacer: Pacer) -> None:
        number = int(self.clock.now // self.window)
        used = self.used.get(number, 0)
        if used >= self.limit:
            self.refused += 1
            pacer.limited((number + 1) * self.window - self.clock.now)
            return
        self.used[number] = used + 1
        self.answered += 1
        limits = RateLimits(limit_requests=self.limit, remaining_requests=self.limit - used - 1, window=self.window)
        pacer.answered(limits if self.headers else None)


def drive(pacer: Pacer, service: Service, clock: Clock, seconds: float) -> None:
    """Send whenever the pacer lets through, answers taking 50 ms, for this much of its time."""
    end = clock.now + seconds
    under_way: list[float] = []
    while clock.now < end:
        for due in [due for due in under_way if due <= clock.now]:
            under_way.remove(due)
            service.ask(pacer)
        blocked = clock.now < max(pacer.next_at, pacer.hold_until) or pacer.in_flight >= pacer.max_in_flight
        if not blocked and pacer.acquire(lambda: False):
            under_way.append(clock.now + 0.05)
        else:
            clock.now += 0.01


def test_nothing_but_the_number_in_flight_bounds_it_at_first() -> None:
    pacer = Pacer(max_in_flight=3, clock=Clock())
    assert [pacer.acquire(lambda: False) for _ in range(3)] == [True, True, True]
    assert pacer.in_flight == 3


def test_a_full_pacer_lets_the_next_through_when_one_is_answered() -> None:
    pacer = Pacer(max_in_flight=1)
    assert pacer.acquire(lambda: False)
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(pacer.acquire(lambda: False)))
    waiter.start()
    pacer.answered()
    waiter.join(5)
    assert got == [True]


def test_waiting_ends_when_the_run_is_stopped() -> None:
    pacer = Pacer(max_in_flight=1)
    assert pacer.acquire(lambda: False)
    assert not pacer.acquire(lambda: True)


def test_a_refusal_holds_everything_for_as_long_as_the_service_says() -> None:
    clock = Clock()
    pacer = Pacer(max_in_flight=8, clock=clock, jitter=lambda: 0.0)
    pacer.acquire(lambda: False)
    pacer.limited(12)
    assert pacer.hold_until == clock.now + 12
    assert pacer.waiting == "rate limit, 12 s"
    clock.now += 12.1
    assert pacer.waiting is None


def test_refusals_of_one_moment_lower_the_rate_once() -> None:
    clock = Clock()
    pacer = Pacer(max_in_flight=8, clock=clock)
    for _ in range(4):
        pacer.acquire(lambda: False)
    for _ in range(2):
        pacer.answered()
    pacer.limited(1)
    rate = pacer.rate
    pacer.limited(1)
    assert pacer.rate == rate


def test_a_told_limit_is_used_and_not_passed() -> None:
    """Once the service has told its limit, hardly a request is refused and few are left unused."""
    clock = Clock()
    pacer = Pacer(max_in_flight=8, clock=clock, jitter=lambda: 0.0)
    service = Service(clock, limit=25, window=10.0, headers=True)
    drive(pacer, service, clock, 100.0)
    assert service.refused <= 0.02 * service.answered
    assert service.answered >= 0.93 * 25 * 10


def test_an_untold_limit_is_found() -> None:
    clock = Clock()
    pacer = Pacer(max_in_flight=8, clock=clock, jitter=lambda: 0.0)
    service = Service(clock, limit=50, window=1.0, headers=False)
    drive(pacer, service, clock, 60.0)
    assert service.answered >= 0.8 * 50 * 60
    assert service.refused <= 0.05 * service.answered


def test_one_pacer_for_an_account_and_model() -> None:
    one = pacer_for("https://a", "x", "m", max_in_flight=4)
    assert pacer_for("https://a", "x", "m", max_in_flight=2) is one
    assert pacer_for("https://a", "y", "m", max_in_flight=2) is not one
