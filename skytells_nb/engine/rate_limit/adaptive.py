"""Limits that are not reported: a rate inferred from rejections, concurrency inferred from latency."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque

MIN_RATE = 0.2
"""Requests a second; rejections do not lower the rate further."""
FIRST_REQUESTS = 2.0
"""Requests in a pause after the first rejection at least: processes that start together are then equally fast."""
INITIAL_GROWTH = 4.0
"""Growth per pause after the first rejection: it ended a burst, and hardly shows the rate."""
ROUND_PAUSES, MAX_ROUND_PAUSES = 8, 30
"""Pauses in which the rate goes from the lower to the upper bound, times the rejections so far: each costs a pause, and
the first ones show the limit within a wide range only."""
LATEST_PAUSES = 3.0
"""Shortest time, in pauses, over which what was admitted is an upper bound: a burst after the pause is part of it."""
LOWEST = 0.7
HIGHEST = 0.92
"""The lower bound is between these fractions of the upper one."""
OPENING_REQUESTS = 200
OPENING_SIZE = 8
"""Requests that are spread at first, and how many go in the time that the first answer took; then twice as many, and so
on. Where they came all at once, dozens were rejected before the first rejection was known."""
MAX_PACED = 1_000.0
"""Requests a second from which on they are not spaced: threads do not wake that exactly."""
MAX_SENT = 8_192


class AdaptiveRate:
    """A rate that rises from a lower to an upper bound of the limit, and on, until a rejection shows new bounds.

    A limit admits at most ``burst + limit * seconds`` requests in any time, where ``burst`` is what it admitted before
    the first rejection. So what was admitted since the last pause is a lower bound once the burst is subtracted, and
    about an upper bound with it, because the rejection shows that nothing was left.

    State: ``ceiling`` (requests a second, in the middle of the bounds), ``pause`` (seconds the service asked for), when
    it ended, and when the latest requests were sent that were not rejected.
    """

    def __init__(self) -> None:
        self.ceiling = math.inf
        self.pause = 1.0
        self._half = 0.0
        self._round = 1.0
        self._opening = math.inf
        self._latency = 1e-9
        self.growing = False
        """Whether no bound is known yet."""
        self._rejections = 0
        self._since = -math.inf
        self._sent: deque[float] = deque(maxlen=MAX_SENT)
        self._burst = 0
        self._burst_seconds = self._span = 0.0
        self._last_sent = -math.inf

    def rate(self, now: float) -> float:
        """Return the requests a second."""
        if self.ceiling == math.inf:
            sent = len(self._sent)
            return min(self._opening, (OPENING_SIZE + sent) / self._latency) if sent < OPENING_REQUESTS else math.inf
        pauses = max(0.0, now - self._since) / self.pause
        if self.growing:
            return min(self.ceiling * math.pow(INITIAL_GROWTH, min(pauses, 50)), max(self.ceiling, self._opening))
        return self.ceiling + self._half * (2 * pauses / self._round - 1)

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may go."""
        rate = self.rate(now)
        return 0.0 if rate > MAX_PACED else max(0.0, self._last_sent + 1.0 / rate - now)

    def bound(self, in_flight: int, latency: float) -> None:
        """Send no faster while no limit is known than keeps so many requests in flight, which take so many seconds."""
        self._opening, self._latency = in_flight / latency, latency

    def record_sent(self, now: float) -> None:
        """A request goes now."""
        # A late start is not compensated by a burst.
        self._last_sent = min(max(self._last_sent + 1.0 / self.rate(now), now - 0.03), now)
        self._sent.append(now)

    def record_rejection(self, now: float, pause: float, sent: float) -> None:
        """A request that was sent at this time was rejected; nothing goes for ``pause`` seconds."""
        if self._sent:
            del self._sent[min(bisect_left(self._sent, sent), len(self._sent) - 1)]
        if now < self._since:
            # Sent before the current pause.
            if self._rejections == 1:
                self._start()
            return
        elapsed = now - max(self._since, self._sent[0] if self._sent else now)
        high = self.rate(now)
        self._rejections += 1
        if self._rejections > 1:
            low, latest = self._bounds(now)
            high = min(high, latest or high)
            low = min(max(low, LOWEST * high), HIGHEST * high)
            self.ceiling, self._half = max(MIN_RATE, (low + high) / 2), (high - low) / 2
            self._round = min(MAX_ROUND_PAUSES, ROUND_PAUSES * (self._rejections - 1))
            self.growing = False
        self.pause = max(pause, 0.1)
        self._since, self._last_sent = now + pause, -math.inf
        if self._rejections == 1:
            self._burst_seconds, self._span = elapsed, elapsed + self.pause
            self._start()

    def resume(self, now: float) -> None:
        """Raise the rate fast again: the rejections showed nothing about it."""
        rate = self.rate(now)
        if rate >= min(MAX_PACED, self._opening):
            self.__init__()  # type: ignore[misc]
        else:
            self.ceiling, self._since, self.growing = rate, now, True

    def _start(self) -> None:
        # A burst used what the pause after it provides, too.
        self._burst = len(self._sent)
        self.ceiling = max(MIN_RATE, FIRST_REQUESTS / self.pause, self._burst / self._span)
        self.growing = True

    def _bounds(self, now: float) -> tuple[float, float]:
        """Return a lower and an upper bound of the limit, 0 if nothing shows one."""
        low = high = 0.0
        elapsed = now - self._since
        latest = min(max(LATEST_PAUSES * self.pause, elapsed / 2), 0.9 * elapsed)
        for count, sent in enumerate(reversed(self._sent), 1):
            seconds = now - sent
            if sent < self._since:
                break
            if seconds > self._burst_seconds + self.pause / 2:
                low = max(low, (count - self._burst) / (seconds - self._burst_seconds))
            if seconds >= latest:
                high = max(high, count / seconds)
        return low, high


ALIKE, FEW = 3.0, 30
"""Answers between rejections are not more than at the highest rate if they are at most ``ALIKE`` times those then, or
``ALIKE`` times ``FEW``."""
SLOWER = 0.7
"""Fraction of the highest rate at which rejections must be as frequent to count as transient."""
IN_A_ROW = 2
"""Rejections alike before they count as transient: processes that share a limit are rejected at any rate at times."""
SEPARATED_BY = 5
"""Answers between two rejections that count as separate: at a limit they come in clusters."""
RECENT_REQUESTS = 50
MAX_RECENT_REJECTIONS = 6
"""Rejections among the ``RECENT_REQUESTS`` that show a limit after all."""
DISTRUST_S = 60.0
"""Time after that in which no rejection counts as transient; doubled each time."""


class TransientRejections:
    """Distinguishes random rejections from an unreported limit: at a limit, a lower rate is rejected less often.

    State: ``on``, the answers since the last rejection, the answers before the rejection at the highest rate and that
    rate, and the latest outcomes.
    """

    def __init__(self) -> None:
        self.on = False
        self._answers = 0
        self._first_answer_at = math.nan
        self._fastest: tuple[int, float] | None = None
        self._recent: deque[bool] = deque(maxlen=RECENT_REQUESTS)
        self._in_a_row = 0
        self._trusted_from = -math.inf
        self._distrust = DISTRUST_S

    def record_success(self, now: float) -> None:
        """A request was answered."""
        if not self._answers:
            self._first_answer_at = now
        self._answers += 1
        self._recent.append(False)

    def record_rejection(self, now: float, growing: bool = False) -> bool:
        """Return whether this rejection is transient, so that it shows nothing about the rate.

        One that ends a rate that was ``growing`` fast came of too high a rate, whatever was answered before.
        """
        self._recent.append(True)
        count, self._answers = self._answers, 0
        if self.on and sum(self._recent) >= MAX_RECENT_REJECTIONS:
            self.on = False
            self._trusted_from, self._distrust = now + self._distrust, 2 * self._distrust
            self._in_a_row = 0
            self._fastest = None
        if not self.on and count >= SEPARATED_BY and not (growing and self._fastest):
            rate = (count - 1) / max(now - self._first_answer_at, 1e-3)
            fastest = self._fastest
            if fastest is None or rate > fastest[1]:
                self._fastest = (count, rate)
            elif rate <= SLOWER * fastest[1] and count <= ALIKE * max(fastest[0], FEW):
                self._in_a_row += 1
                if self._in_a_row >= IN_A_ROW and now >= self._trusted_from:
                    self.on = True
                    self._recent.clear()
            else:
                self._in_a_row = 0
        return self.on


INITIAL_SIZE = 2
"""Requests in flight before the first answer, which may report a limit."""
OPENING_GROWTH = 30.0
"""Growth per answer until latency or a rejection stops it: the third round trip has hundreds in flight."""
QUEUEING_LATENCY = 2.0
"""Multiple of the lowest latency from which on more requests at once may only lengthen a queue."""
SIZE_CUT = 0.7
ROUND = 16
"""Fewest answers over which latency is averaged."""
PROBING_GROWTH = 0.004
"""Growth per answer at the size that was rejected before."""


class ConcurrencyLimit:
    """``allowed`` requests in flight at once, never more than ``maximum``.

    State: ``size``, ``ceiling`` (the size that was rejected), ``advertised`` (the limit that headers name), ``latency``
    of the last round and its ``floor`` (seconds), ``per_second`` of the last round. A cut for latency is a trial: if
    latency does not follow, the requests take longer, not the queue, and the cut is undone.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.size = float(INITIAL_SIZE)
        self.ceiling = float("inf")
        self.advertised: int | None = None
        self.latency = self.floor = self.per_second = 0.0
        self._opening = True
        self._trial: tuple[float, float, float] | None = None
        self._settling = 0
        self._cut_at = float("-inf")
        self._start_round(0.0)

    @property
    def allowed(self) -> int:
        return max(1, min(self.maximum, int(self.size), self.advertised or self.maximum))

    def record_success(self, now: float, seconds: float | None, in_flight: int) -> None:
        """An answer came after ``seconds`` while ``in_flight`` requests were in flight, itself included."""
        busy = in_flight >= self.allowed - 1
        if busy and self.size < self.maximum:
            self._grow()
        if seconds is None:
            return
        self.floor = self.floor or seconds
        if self._settling:
            # Sent before the last change of the size.
            self._settling -= 1
            if not self._settling:
                self._start_round(now)
            return
        self._count += 1
        self._seconds += seconds
        self._busy += busy
        if self._count >= max(ROUND, self.allowed) and now > self._since:
            self._end_round(now)

    def record_rejection(self, now: float, in_flight: int) -> None:
        """One too many was in flight: ``in_flight``, itself included."""
        self._opening = False
        self._trial = None
        if now - self._cut_at > max(self.latency, 0.1):
            self.size = min(self.size, float(in_flight))
            self._cut_at = now
        self.size = max(1.0, self.size - 1)
        self.ceiling = self.size + 1

    def _grow(self) -> None:
        if self._trial is not None or (self.floor and self.latency > QUEUEING_LATENCY * self.floor):
            return
        if self.size + 1 > self.ceiling:
            self.size += PROBING_GROWTH
        else:
            self.size += OPENING_GROWTH if self._opening else 1.0 / self.size + 0.1
        self.size = min(self.size, float(self.maximum))

    def _end_round(self, now: float) -> None:
        self.latency, rate_before = self._seconds / self._count, self.per_second
        self.per_second = self._count / (now - self._since)
        busy = self._busy > 0.7 * self._count
        self.floor = min(self.latency, 1.01 * self.floor or self.latency)
        queueing = self.latency > QUEUEING_LATENCY * self.floor
        if self._trial is not None:
            size, latency, per_second = self._trial
            self._trial = None
            if self.latency > 0.85 * latency and self.per_second < 0.9 * per_second:
                self.size, self.floor = size, self.latency
        elif busy and queueing and self.per_second < 1.2 * rate_before and self.allowed > 1:
            self._opening = False
            self._trial = (self.size, self.latency, self.per_second)
            self._settling = self.allowed
            self.size = max(1.0, SIZE_CUT * self.allowed)
        self._start_round(now)

    def _start_round(self, now: float) -> None:
        self._since = now
        self._count = self._busy = 0
        self._seconds = 0.0
