"""How fast to send: as fast as the account is let through, found from answers alone.

Several kernels or workers on one account share its limit without knowing of each other: what the headers say remains
is the account's, so whatever others take is seen. Where no headers come, refusals alone say where the limit is.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.rate_limit.adaptive import AdaptiveRate, TransientRejections
from skytells_nb.engine.rate_limit.advertised import HeaderRateLimit
from skytells_nb.engine.rate_limit.concurrency import ConcurrencyLimit
from skytells_nb.engine.rate_limit.token_meter import TokenMeter

CATCH_UP_S = 0.03
"""Lateness of a thread that is made up for."""


class FixedRateLimiter:
    """So many a second, evenly: ``next_at`` is when the next may go."""

    def __init__(self, per_minute: float) -> None:
        self.per_second = per_minute / 60
        self.next_at = float("-inf")

    def wait(self, now: float) -> float:
        return max(0.0, self.next_at - now)

    def take(self, now: float, amount: float) -> None:
        self.next_at = max(self.next_at, now - min(CATCH_UP_S, amount / self.per_second)) + amount / self.per_second

    def correct(self, amount: float) -> None:
        """What was taken turned out to be more by ``amount``, or less."""
        self.next_at += amount / self.per_second


HOLD_CAP_S = 120.0
"""Longest pause on the service's word."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 16.0
"""Pause after a refusal that names none; doubled with each that follows."""
AT_ONCE_S, NOT_AT_ONCE_S = 0.05, 0.4
"""The same where the service says to come back at once."""
LOOK_S = 0.1
"""Time in which a waiting thread sees that its run was stopped."""

Stopped = Callable[[], bool]


class _Waiter:
    """One thread in the queue; it sleeps on ``turn``."""

    __slots__ = ("stopped", "tokens", "turn")

    def __init__(self, stopped: Stopped, tokens: float) -> None:
        self.stopped = stopped
        self.tokens = tokens
        self.turn = threading.Lock()
        self.turn.acquire()

    def wake(self) -> None:
        if self.turn.locked():
            self.turn.release()


class RateLimiter:
    """Lets requests through one at a time, as they came: one thread waits for the next slot, the others for that one.

    State: ``allowance`` (a limit that headers tell), ``untold`` (one that they do not), ``strays`` (refusals that are
    none of a limit), ``concurrency``, the caps that the user gave, ``hold_until`` (the service's Retry-After), the
    requests under way. ``clock`` gives seconds; where it goes back, time stands still for the pacer.
    """

    def __init__(
        self,
        *,
        max_in_flight: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.allowance = HeaderRateLimit(jitter)
        self.untold = AdaptiveRate()
        self.strays = TransientRejections()
        self.concurrency = ConcurrencyLimit(max_in_flight)
        self.hold_until = -math.inf
        self._meters = TokenMeter()
        self._requests_cap: FixedRateLimiter | None = None
        self._tokens_cap: FixedRateLimiter | None = None
        self._under_way: deque[tuple[float, float]] = deque()
        self._refused_in_a_row = 0
        self._clock = clock
        self._clock_read = clock()
        self._clock_lag = 0.0
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._asleep_until = -math.inf
        self.configure(max_in_flight, requests_per_minute, tokens_per_minute)

    def configure(self, max_in_flight: int, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Other bounds from here on; what was learnt stays."""
        with self._lock:
            self.concurrency.most = max_in_flight
            self._requests_cap = _cap(self._requests_cap, requests_per_minute)
            self._tokens_cap = _cap(self._tokens_cap, tokens_per_minute)
            self._pass_on()

    @property
    def max_in_flight(self) -> int:
        return self.concurrency.most

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    @property
    def permitted(self) -> float:
        """Requests a second that the account is permitted, as far as it is known; infinite where nothing is."""
        found = self.allowance.permitted if self.allowance.known else self.untold.ceiling
        return min(found, self._requests_cap.per_second if self._requests_cap else math.inf)

    @property
    def limit_text(self) -> str | None:
        """The limit in words: "25 requests per 60 s"."""
        if self._requests_cap is not None and self.permitted == self._requests_cap.per_second:
            return f"{60 * self._requests_cap.per_second:,.0f} requests per 60 s"
        if self.allowance.known:
            about = "about " if self._meters.bound_by == "tokens" else ""
            return f"{about}{self.allowance.limit:,.0f} requests per {self.allowance.window:g} s"
        return None if self.untold.ceiling == math.inf else f"about {self.untold.ceiling:.2g} requests per s"

    @property
    def waiting(self) -> str | None:
        """Why nothing is sent for more than half a second, in words."""
        with self._lock:
            left = self._pause(self._now(), 0.0)
        return f"waiting {left:.0f} s for the account's limit" if left > 0.5 else None

    @property
    def seconds_to_next(self) -> float:
        """Seconds until the account's told limit lets one more request through; 0 while requests are under way."""
        with self._lock:
            return 0.0 if self._under_way or not self.allowance.known else self.allowance.wait(self._now())

    def estimate_minutes(self, requests: int, tokens: float) -> float | None:
        """Minutes that so many requests take at the known limits; ``None`` where none is known."""
        seconds = requests / self.permitted if self.permitted < math.inf else 0.0
        if self._tokens_cap is not None:
            seconds = max(seconds, tokens / self._tokens_cap.per_second)
        return seconds / 60 or None

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Seconds until one more request may go, as things stand; infinite where only an answer can help."""
        if len(self._under_way) >= self.concurrency.allowed:
            return math.inf
        return self._pause(now, tokens)

    def acquire(self, stopped: Stopped, tokens: float = 0.0) -> bool:
        """Wait for a place for a request of about so many tokens, in and out; ``False`` when the run was stopped."""
        with self._lock:
            if stopped():
                return False
            if not self._queue:
                now = self._now()
                if self.wait(now, tokens) <= 0:
                    self._take(now, tokens)
                    return True
            waiter = _Waiter(stopped, tokens)
            self._queue.append(waiter)
        try:
            while True:
                with self._lock:
                    if stopped():
                        return False
                    pause = -1.0
                    if self._queue[0] is waiter:
                        now = self._now()
                        wait = self.wait(now, tokens)
                        if wait <= 0:
                            self._take(now, tokens)
                            return True
                        self._asleep_until = now + wait
                        pause = min(wait, LOOK_S)
                        self._wake_stopped(stopped)
                waiter.turn.acquire(timeout=pause)
        finally:
            with self._lock:
                first = self._queue[0] is waiter
                self._queue.remove(waiter)
                if first:
                    self._asleep_until = -math.inf
                    self._pass_on()

    def record_success(
        self, limits: RateLimits | None = None, *, seconds: float | None = None, tokens: float | None = None
    ) -> None:
        """A request got its answer after ``seconds``, having used so many ``tokens``."""
        with self._lock:
            now = self._now()
            self.concurrency.record_success(now, seconds, len(self._under_way))
            sent, estimate = self._end(now, seconds, tokens)
            self._refused_in_a_row = 0
            self.untold.record_success(now)
            self.strays.record_success(now)
            if limits is not None and limits.limit_concurrent:
                self.concurrency.told = limits.limit_concurrent
            told = limits and self._meters.as_requests(limits, tokens or estimate)
            if told:
                limit, left, window = told
                self.allowance.record_headers(sent, now, limit, left, window)
            else:
                self.allowance.record_end(sent)
            self._wake_first(now)

    def record_rate_limited(
        self, retry_after: float | None, limits: RateLimits | None = None, *, seconds: float | None = None
    ) -> float:
        """A request was refused (429); seconds that it should wait itself, beside what the pacer makes all wait."""
        with self._lock:
            now = self._now()
            in_flight = len(self._under_way)
            sent, _ = self._end(now, seconds, 0.0)
            if limits is not None and _something_left(limits):
                # Not the rate, so it was too many at once: the next goes when another has ended.
                self.allowance.record_end(sent)
                self.concurrency.record_rejection(now, in_flight)
                self._wake_first(now)
                return 0.0
            told = None if limits is None or self.allowance.known else self._meters.as_requests(limits, 0.0)
            if told:
                self.allowance.record_headers(sent, now, *told)
            if not self.allowance.known and self.strays.record_rejection(now):
                self.allowance.record_end(sent)
                self.untold = AdaptiveRate()
                self.hold_until = -math.inf
                self._wake_first(now)
                return min(retry_after or 0.0, HOLD_CAP_S)
            pause = self._asked(retry_after, now)
            if self.allowance.known:
                self.allowance.record_rejection(sent, now, retry_after)
            else:
                self.allowance.record_end(sent)
                self.untold.record_rejection(now, pause)
            self.hold_until = max(self.hold_until, now + pause)
            self._wake_first(now)
            return 0.0

    def record_failure(self) -> None:
        """A request ended without an answer that says anything about the rate."""
        with self._lock:
            now = self._now()
            sent, _ = self._end(now, None, None)
            self.allowance.record_end(sent)
            self._wake_first(now)

    def _pause(self, now: float, tokens: float) -> float:
        """Seconds that the rate alone demands."""
        pause = max(0.0, self.hold_until - now)
        pause = max(pause, (self.allowance if self.allowance.known else self.untold).wait(now))
        if self._requests_cap is not None:
            pause = max(pause, self._requests_cap.wait(now))
        if self._tokens_cap is not None:
            pause = max(pause, self._tokens_cap.wait(now))
        return pause

    def _take(self, now: float, tokens: float) -> None:
        self._under_way.append((now, tokens))
        self.allowance.record_sent(now)
        if not self.allowance.known:
            self.untold.record_sent(now)
        if self._requests_cap is not None:
            self._requests_cap.take(now, 1.0)
        if self._tokens_cap is not None:
            self._tokens_cap.take(now, tokens)

    def _end(self, now: float, seconds: float | None, tokens: float | None) -> tuple[float, float]:
        """When the request left that ended now, and the tokens it was estimated at.

        Nobody says which it was: where its latency is not told, the oldest.
        """
        sent, estimate = self._under_way.popleft() if self._under_way else (now, 0.0)
        if self._tokens_cap is not None and tokens is not None:
            self._tokens_cap.correct(tokens - estimate)
        return (sent if seconds is None else now - seconds), estimate

    def _asked(self, retry_after: float | None, now: float) -> float:
        """The pause after a refusal, in seconds."""
        first, longest = (FIRST_PAUSE_S, LONGEST_PAUSE_S) if retry_after is None else (AT_ONCE_S, NOT_AT_ONCE_S)
        least = min(longest, first * 2.0 ** min(self._refused_in_a_row, 30))
        if now >= self.hold_until:
            self._refused_in_a_row += 1
        if retry_after is None or retry_after <= 0:
            return least if not self.allowance.known else min(least, self.allowance.window)
        if self.allowance.known and retry_after <= self.allowance.window + 1:
            # The allowance knows when the window ends, to the millisecond.
            return 0.0
        return min(retry_after, HOLD_CAP_S)

    def _now(self) -> float:
        read = self._clock()
        self._clock_lag += max(0.0, self._clock_read - read)
        self._clock_read = read
        return read + self._clock_lag

    def _wake_first(self, now: float) -> None:
        if self._queue and now + self.wait(now, self._queue[0].tokens) < self._asleep_until - 1e-3:
            self._queue[0].wake()

    def _pass_on(self) -> None:
        if self._queue:
            self._queue[0].wake()

    def _wake_stopped(self, mine: Stopped) -> None:
        """Only the first in the queue looks at the time: it tells the threads of other runs when theirs stopped."""
        stopped = {other for other in {waiter.stopped for waiter in self._queue} if other != mine and other()}
        for waiter in self._queue:
            if waiter.stopped in stopped:
                waiter.wake()


def _cap(cap: FixedRateLimiter | None, per_minute: float | None) -> FixedRateLimiter | None:
    if per_minute is None:
        return None
    if cap is None or cap.per_second != per_minute / 60:
        return FixedRateLimiter(per_minute)
    return cap


def _something_left(limits: RateLimits) -> bool:
    """Whether a refused request was within every limit that is told."""
    left = (limits.remaining_requests, limits.remaining_tokens_in, limits.remaining_tokens_out)
    told = [number for number in left if number is not None]
    return limits.remaining_concurrent == 0 or (bool(told) and min(told) > 0)


_pacers: dict[tuple[str, str, str], RateLimiter] = {}
_pacers_lock = threading.Lock()


def rate_limiter_for(
    origin: str,
    account: str,
    model: str,
    *,
    max_in_flight: int | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
) -> RateLimiter:
    """The one pacer of this process for an account's use of a model, with these bounds from here on."""
    key = (origin, account, model)
    with _pacers_lock:
        pacer = _pacers.get(key)
        if pacer is None:
            pacer = _pacers[key] = RateLimiter(max_in_flight=max_in_flight or 1)
        if max_in_flight is not None:
            pacer.configure(max_in_flight, requests_per_minute, tokens_per_minute)
        return pacer


def _forget() -> None:
    """A forked child has none of the threads whose requests are under way."""
    global _pacers_lock
    _pacers_lock = threading.Lock()
    _pacers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
