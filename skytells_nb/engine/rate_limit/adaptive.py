"""Limits that are not reported: a rate inferred from rejections, concurrency inferred from latency."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from skytells_nb.engine.rate_limit.inferred_limit import MIN_RATE, NO_OPENING, InferredLimit, Opening

OPENING_RATE, OPENING_DOUBLING = 150.0, 12
"""Requests a second before any rejection, and the requests after which that doubles: the first rejection arrives before
many others are on their way."""
OPENING_S = 60.0
"""Time after which the first request shows nothing more about the size of a burst."""
LATE_S, BUCKET_LATE_S, OPENING_LATE_S = 0.03, 0.1, 0.002
"""Lateness of a request that is compensated. At the end of a fixed window it cannot be, in a bucket what was not used
is still there, and before any rejection requests keep their distance."""
LEAST_WINDOW_S, AT_ONCE_S = 0.25, 0.1
"""Shortest window of a service that asks for a pause as short as this; otherwise a second."""
PROLONGED_CUT = 0.9
UNEXPECTED = 2
"""Rejections in a row below the inferred limit that let it be doubted."""


class AdaptiveRate:
    """A rate that is found between rejections: doubled after the first, then kept below the limit and seldom tested.

    State: ``limit`` (what rejections have shown), ``resumes`` (when the last pause ends), the requests ``sent`` since,
    and ``share``, the part of the rate that is this process's; ``others_sent`` is what the others sent since.
    """

    def __init__(self, resumes: float = -math.inf) -> None:
        self.limit = InferredLimit()
        self.own_opening = NO_OPENING
        self.resumes = resumes
        self.share = 1.0
        self.phase = 0.0
        """Fraction of the time between two requests after which this process goes on after a pause."""
        self.sent = self.total_sent = 0
        self.others_sent: Callable[[float], float] = lambda now: 0.0
        self.held_until = -math.inf
        """Until when a request last had to wait."""
        self.unexpected = 0
        """Rejections in a row below the inferred limit."""
        self._began = self._burst = math.inf
        self._before = 0
        self._last_sent = -math.inf

    @property
    def ceiling(self) -> float:
        """Requests a second of the inferred limit; infinite before any rejection."""
        return self.limit.ceiling

    def rate(self, now: float) -> float:
        """Return the requests a second, of all processes."""
        if not self.limit.number:
            return OPENING_RATE * math.pow(2.0, min(self.sent / OPENING_DOUBLING, 50.0))
        return self.limit.ceiling * self.limit.factor(now - self.resumes)

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may go."""
        seconds = self._due(now) - now
        if seconds <= 0:
            return 0.0
        self.held_until = now + seconds
        return seconds

    def record_sent(self, now: float) -> None:
        """A request goes now."""
        due = self._due(now)
        late = LATE_S if self.limit.may_be_fixed else BUCKET_LATE_S
        if not self.limit.number:
            late = OPENING_LATE_S
            self._record_opening(now)
        elif due == -math.inf:
            self.resumes = max(self.resumes, now)
        elif now - due > late:
            # While the rate is not used up it does not grow.
            self.resumes += now - due - late
        # Neither a late start nor a pause is compensated by a burst.
        self._last_sent = now if due == -math.inf else min(max(due, now - late), now)
        self.sent += 1
        self.total_sent += 1

    def record_rejection(self, sent: float, now: float, pause: float) -> None:
        """A request that was sent at that time was rejected; nothing goes for ``pause`` seconds."""
        if sent < self.resumes:
            self._correct_opening()
            return
        self.sent = max(0, self.sent - 1)
        seconds, admitted = max(now - self.resumes, 1e-3), self.sent + self.others_sent(now)
        if not self.limit.number:
            self._open(now, pause)
        elif admitted < 1 or (admitted < 2 and seconds < self.limit.unit):
            self._prolong(now, pause)
        else:
            below = self.limit.number > 1 and self.limit.factor(seconds) <= 1.0
            self.unexpected = self.unexpected + 1 if below else 0
            self.limit = self.limit.rejected(max(admitted, 1.0), seconds, pause)
        self._resume(now + pause)

    def adopt(self, limit: InferredLimit, resumes: float) -> None:
        """Take over a limit that another process has found."""
        if not self.limit.number and limit.number == 1 and self.sent > self._before:
            # What this process sent until then was part of the burst that ended.
            seconds = max(0.0, resumes - limit.pause - self._burst)
            self.own_opening = Opening(self.sent - self._before, seconds, limit.opening.window)
        self.limit = limit
        self.unexpected = 0
        self._resume(resumes)

    def _due(self, now: float) -> float:
        return self._last_sent + 1.0 / (self.rate(now) * self.share)

    def _resume(self, resumes: float) -> None:
        self.resumes, self.sent = resumes, 0
        self.stagger()

    def stagger(self) -> None:
        """Begin at another moment after the pause than the others."""
        between = 1.0 / (self.rate(self.resumes) * self.share)
        self._last_sent = self.resumes + (self.phase - 1.0) * between if self.share < 1.0 else -math.inf

    def _record_opening(self, now: float) -> None:
        if now - self._began > OPENING_S:
            self._before, self._began, self._burst = self.sent, now, now
        elif self._began == math.inf:
            self._began = self._burst = now
        elif self.sent == INITIAL_SIZE:
            # Those before waited for the first answer.
            self._burst = now

    def _open(self, now: float, pause: float) -> None:
        began, burst = min(self._began, now), min(self._burst, now)
        window = now - began + pause
        if pause == int(pause):
            # Retry-After is rounded up.
            window = math.floor(window + 1e-6)
        least = LEAST_WINDOW_S if pause < AT_ONCE_S else 1.0
        requests = max(1.0, self.sent - self._before)
        early = min(requests, INITIAL_SIZE) if burst > began else 0
        self.own_opening = Opening(requests, now - burst, max(least, window), early, burst - began)
        self.limit = InferredLimit().opened(self.own_opening, pause)

    def _prolong(self, now: float, pause: float) -> None:
        """The pause was too short: nothing was admitted after it."""
        limit = self.limit
        if limit.number == 1:
            # Windows are whole seconds, most often.
            window = max(limit.opening.window, math.ceil(now - min(self._began, now)))
            self.own_opening = replace(self.own_opening, window=window)
            self.limit = limit.opened(replace(limit.opening, window=window), pause)
        else:
            self.limit = replace(limit, ceiling=max(MIN_RATE, PROLONGED_CUT * limit.ceiling))

    def _correct_opening(self) -> None:
        """A request of the opening was rejected, too."""
        limit = self.limit
        if limit.number == 1 and self.own_opening.requests > 1 and limit.opening.requests > 1:
            self.own_opening = replace(self.own_opening, requests=self.own_opening.requests - 1)
            opening = replace(limit.opening, requests=limit.opening.requests - 1)
            self.limit = limit.opened(opening, limit.pause)


ALIKE, FEW = 3.0, 30
"""Answers between rejections are not more than at the highest rate if they are at most ``ALIKE`` times those then, or
``ALIKE`` times ``FEW``."""
SLOWER = 0.7
"""Fraction of the highest rate at which rejections must be as frequent to count as transient."""
SEPARATED_BY = 5
"""Answers between two rejections that count as separate: at a limit they come in clusters."""
RECENT_REQUESTS = 50
MAX_RECENT_REJECTIONS = 8
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

    def record_rejection(self, now: float, *, expected: bool = False) -> bool:
        """Return whether this rejection is transient, so that it shows nothing about the rate.

        ``expected`` is whether a limit that was inferred from the earlier ones explains it.
        """
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
            elif expected or now < self._trusted_from:
                pass
            elif rate <= SLOWER * fastest[1] and count <= ALIKE * max(fastest[0], FEW):
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
