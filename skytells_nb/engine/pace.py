"""How fast to send: at the rate that the account is let through, found from answers alone.

Several kernels or workers on one account share its limit without knowing of each other, as TCP connections share a
line: each raises its rate slowly while answers come and lowers it when one is refused.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

from skytells_nb.transport.limits import RateLimits

SLOWEST = 0.2
"""Requests a second below which no refusal pushes the rate."""
UNKNOWN = 2.0
"""Requests a second to go on with when the very first ones are refused."""
BACK_OFF = 0.9
"""Share of the delivered rate that is kept after a refusal."""
EPOCH_S = 0.4
"""Refusals within this time are one event: they were all sent at the same rate."""
HOLD_CAP_S = 120.0
"""Longest pause on the service's word."""


class Pacer:
    """Lets requests through one at a time, at a rate that follows what the service delivers.

    Until the first refusal or the first header only ``max_in_flight`` bounds it. State: ``rate`` (requests a second),
    ``ceiling`` (the delivered rate at the last refusal), ``permitted`` (the limit that headers tell), ``next_at`` (when
    the next request may go), ``hold_until`` (the service's Retry-After), ``in_flight``, the times of recent answers.
    """

    def __init__(
        self,
        *,
        max_in_flight: int,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.max_in_flight = max_in_flight
        self.rate = float("inf")
        self.permitted = float("inf")
        self.ceiling: float | None = None
        self.in_flight = 0
        self.next_at = 0.0
        self.hold_until = 0.0
        self._cut_at = float("-inf")
        self._answered: deque[float] = deque()
        self._grown_at = clock()
        self._memory = 1.0
        self._clock = clock
        self._jitter = jitter
        self._turn = threading.Condition()

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """Wait for a place; ``False`` when the run was stopped meanwhile."""
        with self._turn:
            while not stopped():
                now = self._clock()
                wait = max(self.next_at, self.hold_until) - now
                if self.in_flight < self.max_in_flight and wait <= 0:
                    self.in_flight += 1
                    # A late start is not made up for by a burst.
                    self.next_at = max(self.next_at, now - 0.03) + 1.0 / self.rate
                    return True
                self._turn.wait(min(max(wait, 0.001), 0.1) if self.in_flight < self.max_in_flight else 0.1)
            return False

    def answered(self, limits: RateLimits | None = None) -> None:
        """A request got its answer."""
        with self._turn:
            self.in_flight -= 1
            now = self._clock()
            self._answered.append(now)
            self._grow(now)
            if limits is not None:
                self._follow(limits, now)
            self._turn.notify()

    def limited(self, retry_after: float | None) -> None:
        """A request was refused because the account is over its limit."""
        with self._turn:
            self.in_flight -= 1
            now = self._clock()
            pause = min(1.0 if retry_after is None else retry_after, HOLD_CAP_S)
            self.hold_until = max(self.hold_until, now + pause * (1 + 0.25 * self._jitter()))
            if now - self._cut_at > EPOCH_S:
                self.ceiling = max(SLOWEST, min(self.rate, self.delivered(now) or UNKNOWN))
                self.rate = max(SLOWEST, self.ceiling * BACK_OFF)
                self._cut_at = self.next_at = now
            self._turn.notify_all()

    def failed(self) -> None:
        """A request ended without an answer that says anything about the rate."""
        with self._turn:
            self.in_flight -= 1
            self._turn.notify()

    def delivered(self, now: float) -> float:
        """Answers in the last second, or a second's share of the last window where windows are longer."""
        while self._answered and self._answered[0] < now - self._memory:
            self._answered.popleft()
        return len(self._answered) / self._memory

    @property
    def waiting(self) -> str | None:
        """Why nothing may be sent now, in words; ``None`` where something may."""
        left = self.hold_until - self._clock()
        return f"rate limit, {left:.0f} s" if left > 0.5 else None

    def _grow(self, now: float) -> None:
        elapsed = min(now - self._grown_at, 0.2)
        self._grown_at = now
        if self.ceiling is not None:
            # Quickly back to where it was refused, then probing.
            share = 0.5 if self.rate < 0.95 * self.ceiling else 0.04
            self.rate = min(self.permitted, self.rate * (1 + share * elapsed))

    def _follow(self, limits: RateLimits, now: float) -> None:
        """Keep to the limit that the service tells, spread evenly over its window."""
        if not limits.limit_requests or not limits.window:
            return
        permitted = limits.limit_requests / limits.window
        if permitted != self.permitted:
            if self.permitted == float("inf"):
                # What left before the limit was known counts against the first window.
                self.next_at = max(self.next_at, now + (self.in_flight + len(self._answered) - 1) / permitted)
            self.permitted = permitted
            self._memory = max(1.0, limits.window)
            self.rate = min(self.rate, permitted)


_pacers: dict[tuple[str, str, str], Pacer] = {}
_pacers_lock = threading.Lock()


def pacer_for(origin: str, account: str, model: str, *, max_in_flight: int) -> Pacer:
    """The one pacer of this process for an account's use of a model."""
    key = (origin, account, model)
    with _pacers_lock:
        pacer = _pacers.get(key)
        if pacer is None:
            pacer = _pacers[key] = Pacer(max_in_flight=max_in_flight)
        pacer.max_in_flight = max_in_flight
        return pacer
