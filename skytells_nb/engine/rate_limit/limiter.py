"""Rate limiting: send as fast as the account is permitted, inferred from responses alone.

Several kernels or workers on one account share its limit: the headers report what remains for the account, which shows
the traffic of the others. Without such headers, rejections alone show the limit, and the processes tell each other of
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from skytells_nb.cache.store import Peers
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.engine.rate_limit.adaptive import UNEXPECTED, AdaptiveRate, ConcurrencyLimit, TransientRejections
from skytells_nb.engine.rate_limit.advertised import HeaderRateLimit
from skytells_nb.engine.rate_limit.group import IDLE_S, RateGroup
from skytells_nb.engine.rate_limit.token_meter import TokenMeter

CATCH_UP_S = 0.03
"""Lateness of a thread that is compensated."""


class FixedRateLimiter:
    """A fixed rate, evenly spaced: ``next_at`` is when the next amount may go."""

    def __init__(self, per_minute: float) -> None:
        self.per_second = per_minute / 60
        self.next_at = float("-inf")

    def wait(self, now: float) -> float:
        """Return the seconds until the next amount may go."""
        return max(0.0, self.next_at - now)

    def take(self, now: float, amount: float) -> None:
        """Use an amount now."""
        self.next_at = max(self.next_at, now - min(CATCH_UP_S, amount / self.per_second)) + amount / self.per_second

    def correct(self, amount: float) -> None:
        """Correct what was taken by ``amount``, up or down."""
        self.next_at += amount / self.per_second


MAX_HOLD_S = 120.0
"""Longest pause that the service can ask for."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.5, 16.0
"""Pause after a rejection without Retry-After; doubled with each that follows."""
MIN_SHORT_PAUSE_S, MAX_SHORT_PAUSE_S = 0.05, 0.4
"""The same if Retry-After is given: it may be 0."""
OPENING_REQUESTS = 100
"""First requests, in which processes that begin together share their rate, and at each of which it is looked whether
another process was rejected."""
POLL_S = 0.1
"""Time within which a waiting thread notices that its run was stopped."""

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
    """Admits requests in order of arrival: one thread waits for the next slot, the others for that thread.

    State: ``advertised`` (a limit reported in headers), ``adaptive`` (one that is not), ``transient_rejections``
    (rejections that no limit explains), ``concurrency``, the user's fixed rates, ``hold_until`` (the service's
    Retry-After), and the requests in flight. ``clock`` returns seconds; if it goes back, time stands still.
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
        self.advertised = HeaderRateLimit(jitter)
        self.adaptive = AdaptiveRate()
        self.transient_rejections = TransientRejections()
        self.concurrency = ConcurrencyLimit(max_in_flight)
        self.hold_until = -math.inf
        self._token_meter = TokenMeter()
        self._fixed_request_rate: FixedRateLimiter | None = None
        self._fixed_token_rate: FixedRateLimiter | None = None
        self._in_flight: deque[tuple[float, float]] = deque()
        self._consecutive_rejections = 0
        self._clock = clock
        self._last_clock = clock()
        self._clock_lag = 0.0
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._sleeps_until = -math.inf
        self._group: RateGroup | None = None
        self._may_have_peers: Callable[[], bool] = lambda: False
        self._exchanging = False
        self._is_announced = True
        self._exchange_now = threading.Event()
        self._last_taken = -math.inf
        self.configure(max_in_flight, requests_per_minute, tokens_per_minute)

    def configure(self, max_in_flight: int, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Set other bounds from now on; what was inferred stays."""
        with self._lock:
            self.concurrency.maximum = max_in_flight
            self._fixed_request_rate = _fixed_rate(self._fixed_request_rate, requests_per_minute)
            self._fixed_token_rate = _fixed_rate(self._fixed_token_rate, tokens_per_minute)
            self._wake_next()

    def join(self, make_group: Callable[[], RateGroup]) -> None:
        """Share a limit that no header reports with other processes, and the first burst before it is known."""
        with self._lock:
            if self._group is None:
                self._group = make_group()
                self._is_announced = False
                self._may_have_peers = self._group.peers.watch(self._group.topic)
            if not self.advertised.known:
                self._look_for_peers()

    def exchange(self) -> bool:
        """Tell the other processes what is known, and take over what they know; return whether to do so again."""
        group = self._group
        assert group is not None
        with self._lock:
            now = self._now()
            idle = not self._in_flight and not self._queue and now > max(self._last_taken, self.hold_until) + IDLE_S
            opened = not self.adaptive.limit.number and self.adaptive.total_sent > OPENING_REQUESTS
            if idle or opened or self.advertised.known or self.transient_rejections.on:
                self._exchanging = False
                group.leave(self.adaptive)
                return False
            record = group.record(self.adaptive, now)
        records = group.exchange(record)
        with self._lock:
            now = self._now()
            if group.apply(self.adaptive, now, records):
                self.hold_until = max(self.hold_until, min(self.adaptive.resumes, now + MAX_HOLD_S))
            self._wake_first(now)
        return True

    @property
    def max_in_flight(self) -> int:
        return self.concurrency.maximum

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def permitted(self) -> float:
        """Requests a second that the account is permitted; infinite if no limit is known."""
        inferred = self.advertised.permitted if self.advertised.known else self.adaptive.ceiling
        return min(inferred, self._fixed_request_rate.per_second if self._fixed_request_rate else math.inf)

    @property
    def limit_text(self) -> str | None:
        """The limit as text: "25 requests per 60 s"."""
        if self._fixed_request_rate is not None and self.permitted == self._fixed_request_rate.per_second:
            return f"{60 * self._fixed_request_rate.per_second:,.0f} requests per 60 s"
        if self.advertised.known:
            about = "about " if self._token_meter.bound_by == "tokens" else ""
            return f"{about}{self.advertised.limit:,.0f} requests per {self.advertised.window:g} s"
        return None if self.adaptive.ceiling == math.inf else f"about {self.adaptive.ceiling:.2g} requests per s"

    @property
    def waiting(self) -> str | None:
        """Why nothing is sent for more than half a second, as text."""
        with self._lock:
            seconds = self._pause(self._now(), 0.0)
        return f"waiting {seconds:.0f} s for the account's limit" if seconds > 0.5 else None

    @property
    def seconds_to_next(self) -> float:
        """Seconds until the reported limit permits one more request; 0 while requests are in flight."""
        with self._lock:
            return 0.0 if self._in_flight or not self.advertised.known else self.advertised.wait(self._now())

    def estimate_minutes(self, requests: int, tokens: float) -> float | None:
        """Return the minutes that so many requests take at the known limits; ``None`` if none is known."""
        seconds = requests / self.permitted if self.permitted < math.inf else 0.0
        if self._fixed_token_rate is not None:
            seconds = max(seconds, tokens / self._fixed_token_rate.per_second)
        return seconds / 60 or None

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Return the seconds until one more request may go; infinite if it needs another to end."""
        if len(self._in_flight) >= self.concurrency.allowed:
            return math.inf
        return self._pause(now, tokens)

    def acquire(self, stopped: Stopped, tokens: float = 0.0) -> bool:
        """Wait until a request of about so many tokens, in and out, may go; ``False`` if the run was stopped."""
        if not self._is_announced:
            self._announce()
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
                        self._sleeps_until = now + wait
                        pause = min(wait, POLL_S)
                        self._wake_stopped(stopped)
                waiter.turn.acquire(timeout=pause)
        finally:
            with self._lock:
                first = self._queue[0] is waiter
                self._queue.remove(waiter)
                if first:
                    self._sleeps_until = -math.inf
                    self._wake_next()

    def record_success(
        self, limits: RateLimits | None = None, *, seconds: float | None = None, tokens: float | None = None
    ) -> None:
        """A request was answered after ``seconds`` and used so many ``tokens``."""
        with self._lock:
            now = self._now()
            self.concurrency.record_success(now, seconds, len(self._in_flight))
            sent, estimate = self._end(now, seconds, tokens)
            self._consecutive_rejections = 0
            self.transient_rejections.record_success(now)
            if limits is not None and limits.limit_concurrent:
                self.concurrency.advertised = limits.limit_concurrent
            reported = limits and self._token_meter.as_requests(limits, tokens or estimate)
            if reported:
                self.advertised.record_headers(sent, now, *reported)
            else:
                self.advertised.record_end(sent)
            self._wake_first(now)

    def record_rate_limited(
        self, retry_after: float | None, limits: RateLimits | None = None, *, seconds: float | None = None
    ) -> float:
        """A request was rejected (429); return the seconds that it should wait itself, besides the pause of all."""
        with self._lock:
            now = self._now()
            in_flight = len(self._in_flight)
            sent, _ = self._end(now, seconds, 0.0)
            if limits is not None and _is_within_limits(limits):
                # Not the rate, so there were too many at once: the next goes when another has ended.
                self.advertised.record_end(sent)
                self.concurrency.record_rejection(now, in_flight)
                self._wake_first(now)
                return 0.0
            reported = None if limits is None or self.advertised.known else self._token_meter.as_requests(limits, 0.0)
            if reported:
                self.advertised.record_headers(sent, now, *reported)
            expected = self.adaptive.unexpected < UNEXPECTED
            if not self.advertised.known and self.transient_rejections.record_rejection(now, expected=expected):
                self.advertised.record_end(sent)
                if self.adaptive.limit.number:
                    self.adaptive = AdaptiveRate(now)
                self.hold_until = -math.inf
                self._wake_first(now)
                return min(retry_after or 0.0, MAX_HOLD_S)
            pause = self._rejection_pause(retry_after, now)
            if self.advertised.known:
                self.advertised.record_rejection(sent, now, retry_after)
            else:
                self.advertised.record_end(sent)
                self.adaptive.record_rejection(sent, now, pause)
                self._start_exchange()
            self.hold_until = max(self.hold_until, now + pause)
            self._wake_first(now)
            return 0.0

    def record_failure(self) -> None:
        """A request ended without a response that shows anything about the rate."""
        with self._lock:
            now = self._now()
            sent, _ = self._end(now, None, None)
            self.advertised.record_end(sent)
            self._wake_first(now)

    def _announce(self) -> None:
        """Tell the other processes that this one begins, and begin with a part beside others that do."""
        with self._lock:
            announced, self._is_announced = self._is_announced, True
            if announced or self._exchanging or self.advertised.known or self.adaptive.limit.number:
                return
            self._last_taken = self._now()
        if self.exchange():
            with self._lock:
                self._start_exchange()

    def _look_for_peers(self) -> None:
        if not self._exchanging and self._may_have_peers():
            self._start_exchange()

    def _start_exchange(self) -> None:
        if self._group is None:
            return
        self._exchange_now.set()
        if not self._exchanging:
            self._last_taken = max(self._last_taken, self._now())
            # Without a thread, or as the interpreter ends, the process is alone.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._keep_exchanging, name="skytells-pace", daemon=True).start()
                self._exchanging = True

    def _keep_exchanging(self) -> None:
        try:
            while self._group is not None:
                self._exchange_now.clear()
                if not self.exchange():
                    return
                self._exchange_now.wait(self._group.interval)
        except BaseException:
            self._exchanging = False
            raise

    def _pause(self, now: float, tokens: float) -> float:
        """Seconds to wait for the rate alone."""
        pause = max(0.0, self.hold_until - now)
        pause = max(pause, (self.advertised if self.advertised.known else self.adaptive).wait(now))
        if self._fixed_request_rate is not None:
            pause = max(pause, self._fixed_request_rate.wait(now))
        if self._fixed_token_rate is not None:
            pause = max(pause, self._fixed_token_rate.wait(now))
        return pause

    def _take(self, now: float, tokens: float) -> None:
        self._in_flight.append((now, tokens))
        self._last_taken = now
        if self.adaptive.total_sent < OPENING_REQUESTS and not self.advertised.known:
            # Another process may be rejected before this one.
            self._look_for_peers()
        self.advertised.record_sent(now)
        if not self.advertised.known:
            self.adaptive.record_sent(now)
        if self._fixed_request_rate is not None:
            self._fixed_request_rate.take(now, 1.0)
        if self._fixed_token_rate is not None:
            self._fixed_token_rate.take(now, tokens)

    def _end(self, now: float, seconds: float | None, tokens: float | None) -> tuple[float, float]:
        """When the request that ended now was sent, and its estimated tokens.

        It is not known which one that was: without a latency, the oldest is assumed.
        """
        sent, estimate = self._in_flight.popleft() if self._in_flight else (now, 0.0)
        if self._fixed_token_rate is not None and tokens is not None:
            self._fixed_token_rate.correct(tokens - estimate)
        return (sent if seconds is None else now - seconds), estimate

    def _rejection_pause(self, retry_after: float | None, now: float) -> float:
        """The pause after a rejection, in seconds."""
        shortest, longest = (
            (MIN_PAUSE_S, MAX_PAUSE_S) if retry_after is None else (MIN_SHORT_PAUSE_S, MAX_SHORT_PAUSE_S)
        )
        default = min(longest, shortest * 2.0 ** min(self._consecutive_rejections, 30))
        if now >= self.hold_until:
            self._consecutive_rejections += 1
        if retry_after is None or retry_after <= 0:
            return default if not self.advertised.known else min(default, self.advertised.window)
        if self.advertised.known and retry_after <= self.advertised.window + 1:
            # The reported limit shows when the window ends, to the millisecond.
            return 0.0
        return min(retry_after, MAX_HOLD_S)

    def _now(self) -> float:
        seconds = self._clock()
        self._clock_lag += max(0.0, self._last_clock - seconds)
        self._last_clock = seconds
        return seconds + self._clock_lag

    def _wake_first(self, now: float) -> None:
        if self._queue and now + self.wait(now, self._queue[0].tokens) < self._sleeps_until - 1e-3:
            self._queue[0].wake()

    def _wake_next(self) -> None:
        if self._queue:
            self._queue[0].wake()

    def _wake_stopped(self, own: Stopped) -> None:
        """Wake the threads of other runs that were stopped: only the first in the queue polls."""
        stopped = {other for other in {waiter.stopped for waiter in self._queue} if other != own and other()}
        for waiter in self._queue:
            if waiter.stopped in stopped:
                waiter.wake()


def _fixed_rate(current: FixedRateLimiter | None, per_minute: float | None) -> FixedRateLimiter | None:
    if per_minute is None:
        return None
    if current is None or current.per_second != per_minute / 60:
        return FixedRateLimiter(per_minute)
    return current


def _is_within_limits(limits: RateLimits) -> bool:
    """Whether a rejected request was within every reported rate limit."""
    remaining = (limits.remaining_requests, limits.remaining_tokens_in, limits.remaining_tokens_out)
    reported = [number for number in remaining if number is not None]
    return limits.remaining_concurrent == 0 or (bool(reported) and min(reported) > 0)


_limiters: dict[tuple[str, str, str], RateLimiter] = {}
_limiters_lock = threading.Lock()


def rate_limiter_for(
    origin: str,
    account: str,
    model: str,
    *,
    max_in_flight: int | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    peers: Callable[[], Peers] | None = None,
) -> RateLimiter:
    """Return this process's rate limiter for an account and a model, with these bounds from now on.

    ``peers`` returns the other processes that may use the same account.
    """
    key = (origin, account, model)
    with _limiters_lock:
        limiter = _limiters.get(key)
        if limiter is None:
            limiter = _limiters[key] = RateLimiter(max_in_flight=max_in_flight or 1)
        if max_in_flight is not None:
            limiter.configure(max_in_flight, requests_per_minute, tokens_per_minute)
    if peers is not None:

        def make_group() -> RateGroup:
            return RateGroup(peers(), hashlib.sha256("\0".join(("rate", *key)).encode()).digest()[:16])

        limiter.join(make_group)
    return limiter


def _reset_after_fork() -> None:
    """A forked child has none of the threads whose requests are in flight."""
    global _limiters_lock
    _limiters_lock = threading.Lock()
    _limiters.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
