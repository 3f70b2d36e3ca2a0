"""Limits that are not reported: a rate inferred from rejections, concurrency inferred from latency."""

from __future__ import annotations

import math
from collections import deque

MIN_RATE = 0.2
"""Requests a second; rejections do not lower the rate further."""
DEFAULT_RATE = 2.0
"""Requests a second after the very first requests were rejected."""
BACK_OFF = 0.05
"""Fraction of the inferred limit by which the rate stays below it."""
RECOVERY_PAUSES = 20
"""Pauses until the inferred limit is reached again: each costs a rejection."""
SOON_PAUSES = 3
"""Pauses within which another rejection means that the rate was far too high."""
RATE_CUT = 0.9
INITIAL_GROWTH = 1.25
"""Growth per pause after the first rejection: it ended a burst, and hardly shows the rate."""


class AdaptiveRate:
    """A rate that rises as a cubic: fast far from the rate of the last rejection, hardly at all near it.

    State: ``ceiling`` (requests a second admitted before the last rejection), ``pause`` (seconds the service asked
    for), and the time and count since the end of that pause.
    """

    def __init__(self) -> None:
        self.ceiling = math.inf
        self.pause = 1.0
        self._rejections = 0
        self._since = math.inf
        self._count = 0
        self._span = 1.0
        self._last_sent = -math.inf

    def rate(self, now: float) -> float:
        """Return the requests a second."""
        if self.ceiling == math.inf:
            return math.inf
        pauses = max(0.0, now - self._since) / self.pause
        if self._rejections == 1:
            return self.ceiling * math.pow(INITIAL_GROWTH, min(pauses, 50))
        return self.ceiling * (1 + BACK_OFF * math.pow(pauses / RECOVERY_PAUSES - 1, 3))

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may go."""
        return max(0.0, self._last_sent + 1.0 / self.rate(now) - now) if self._rejections else 0.0

    def record_sent(self, now: float) -> None:
        """A request goes now."""
        self._since = min(self._since, now)
        due = self._last_sent + 1.0 / self.rate(now) if self._rejections else now
        # A late start is not compensated by a burst.
        self._last_sent = min(max(due, now - 0.03), now)

    def record_success(self, now: float) -> None:
        """A request was answered."""
        if now < self._since:
            # Admitted before the rejection that caused the pause.
            self.ceiling += 1 / self._span
        else:
            self._count += 1

    def record_rejection(self, now: float, pause: float) -> None:
        """A request was rejected; nothing goes for ``pause`` seconds."""
        if now < self._since:
            # Sent before the current pause.
            return
        elapsed = now - self._since
        if self._rejections == 0:
            # A burst used what the pause after it provides, too.
            self._span = elapsed + pause
            ceiling = self._count / self._span
        else:
            self._span = max(elapsed, 1.0 / self.ceiling)
            ceiling = min(self._count / self._span, self.rate(now))
            if self._rejections == 1:
                ceiling = max(ceiling, self.rate(now - 1.5 * self.pause))
            if elapsed < SOON_PAUSES * pause:
                ceiling *= RATE_CUT
        self.ceiling = max(MIN_RATE, ceiling or DEFAULT_RATE)
        self._rejections += 1
        self.pause = max(pause, 0.1)
        self._since, self._count, self._last_sent = now + pause, 0, -math.inf


ALIKE, FEW = 3.0, 30
"""Answers between rejections are not more than at the highest rate if they are at most ``ALIKE`` times those then, or
``ALIKE`` times ``FEW``."""
SLOWER = 0.7
"""Fraction of the highest rate at which rejections must be as frequent to count as transient."""
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
        self._trusted_from = -math.inf
        self._distrust = DISTRUST_S

    def record_success(self, now: float) -> None:
        """A request was answered."""
        if not self._answers:
            self._first_answer_at = now
        self._answers += 1
        self._recent.append(False)

    def record_rejection(self, now: float) -> bool:
        """Return whether this rejection is transient, so that it shows nothing about the rate."""
        self._recent.append(True)
        count, self._answers = self._answers, 0
        if self.on and sum(self._recent) >= MAX_RECENT_REJECTIONS:
            self.on = False
            self._trusted_from, self._distrust = now + self._distrust, 2 * self._distrust
            self._fastest = None
        if not self.on and count >= SEPARATED_BY:
            rate = (count - 1) / max(now - self._first_answer_at, 1e-3)
            fastest = self._fastest
            if fastest is None or rate > fastest[1]:
                self._fastest = (count, rate)
            elif now >= self._trusted_from and rate <= SLOWER * fastest[1] and count <= ALIKE * max(fastest[0], FEW):
                self.on = True
                self._recent.clear()
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
