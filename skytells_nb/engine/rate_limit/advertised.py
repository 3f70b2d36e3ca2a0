"""A limit that the service reports in headers, and when one of several processes may use it.

Every response reports what remained when its request was admitted. What it fell by besides our own requests went to
others, so each process knows the whole traffic without knowing the other processes. Each takes its share of the pace
that would use up the rest of the window evenly, and a little more, the same for all: the shares drift towards equality.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

FADE_WINDOWS = 1.0
"""Windows after which an observation counts 1/e."""
MIN_FOREIGN = 0.5
"""Requests of others within about a window from which on the limit counts as shared."""


class TrafficShare:
    """Fading sums over the last windows: ``own`` and ``foreign`` requests."""

    def __init__(self) -> None:
        self.own = 0.0
        self.foreign = 0.0
        self._at = -math.inf

    def add(self, now: float, own: float, foreign: float, window: float) -> None:
        if now > self._at:
            fade = math.exp((self._at - now) / (FADE_WINDOWS * window))
            self.own *= fade
            self.foreign *= fade
            self._at = now
        was_exclusive = self.exclusive
        self.own += own
        self.foreign += foreign
        if was_exclusive and not self.exclusive:
            # What we sent while alone shows nothing about our share from now on.
            self.own = min(self.own, self.foreign)

    def set(self, now: float, own: float, foreign: float) -> None:
        self.own, self.foreign, self._at = own, foreign, now

    @property
    def exclusive(self) -> bool:
        return self.foreign < MIN_FOREIGN + 0.01 * self.own

    @property
    def own_share(self) -> float:
        """Our share of the traffic, between 0 and 1; a half while nothing is known."""
        return self.own / (self.own + max(0.0, self.foreign)) if self.own > 0 else 0.5


class Window:
    """What was sent in a window, and what responses reported about it. Times are seconds of one clock.

    Within a window the remainder only falls, so the response with the lowest one shows the latest state: ``remaining``
    requests ``at`` a time, reported at ``reported_at``. ``pending`` counts our requests without a response.
    """

    __slots__ = (
        "at",
        "by_clock",
        "foreign",
        "own",
        "pending",
        "remaining",
        "reported_at",
        "seen",
        "sent_at",
        "started",
    )

    def __init__(self, started: float, remaining: float, *, by_clock: bool = False) -> None:
        self.started = self.at = self.reported_at = started
        self.remaining = remaining
        self.by_clock = by_clock
        """Its start was not reported: it is one window's length after the last."""
        self.seen = False
        self.sent_at: list[float] = []
        self.pending = 0
        self.own = self.foreign = 0.0
        """Requests of it that the shares contain already."""

    def sent_until(self, time: float) -> int:
        return bisect_right(self.sent_at, time)

    def sent_after(self, time: float) -> int:
        return len(self.sent_at) - bisect_right(self.sent_at, time)

    def uncounted(self, slack: float) -> int:
        """Our requests that ``remaining`` may not include yet; they overtake each other by up to ``slack`` seconds."""
        return min(self.pending, self.sent_after(self.at - slack))

    def discard(self, sent: float) -> None:
        """Remove the request sent at ``sent``: it used nothing."""
        index = bisect_right(self.sent_at, sent + 1e-6)
        if index:
            del self.sent_at[index - 1]

    def discard_until(self, time: float) -> None:
        del self.sent_at[: bisect_right(self.sent_at, time)]

    def split(self, time: float, remaining: float) -> Window:
        """Return the window that started at ``time``, with what was sent since."""
        new = Window(time, remaining)
        index = bisect_right(self.sent_at, time)
        new.sent_at = self.sent_at[index:]
        new.pending = min(self.pending, len(new.sent_at))
        del self.sent_at[index:]
        self.pending -= new.pending
        return new


EXTRA_SHARE = 0.15
"""Share of the limit that each process asks for beyond its own."""
CLOSING = 0.15
"""Fraction at a window's end that is a margin: the end is not known exactly."""
LAST_SPREAD = 0.05
"""Smallest fraction of a window over which its last requests are spread."""
GUARD = 0.01
"""Fraction of a window by which a new one is entered late, so that no clock is early; doubled if one still was."""
FIRST_TRAVEL = 0.05
"""Fraction of a window that a first request may have taken to arrive."""
RISE = 0.2
"""Fraction of the limit by which the remainder must rise if a window has ended; a bucket rises by less."""
BUCKET_LEVEL = 0.2
"""Fraction of the limit at which a bucket is held: so many requests may be miscounted."""
REJECTED_SHARE = 0.003
"""Share of requests that may be rejected because others were quicker."""
OPTIMISM = 0.02
"""Fraction of the limit by which others may have taken less than expected."""
CATCH_UP_S = 0.03
"""Lateness of a thread that is compensated."""
SPREAD_SHARE = 0.3
"""Fraction of the limit that is spread over the window even without other traffic: it may come."""
MIN_TRUST = 0.15
"""Fraction of the last reported remainder that is used, whatever others are expected to have taken."""
VAGUE = 0.2
"""Fraction of a window; if its end is known less exactly than that, it is searched for."""
QUOTA_S = 900.0
"""A longer window is a quota, which is used as it is needed: spread over a day, requests would be hours apart."""
MAX_WINDOWS = 8
"""Windows for which responses may still come."""


class HeaderRateLimit:
    """One reported limit: ``limit`` requests each ``window`` seconds. Times are seconds of one clock.

    A fixed window is assumed until the remainder rises within one: then it is a ``bucket``, which refills evenly.
    State: the last windows (one without end for a bucket), the bracket ``_low`` to ``_high`` in which the present one
    ends, the shares, and ``_reserve``: what must remain for a request to go, lowered by each one sent and raised by
    each one rejected.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.limit = math.inf
        self.window = 0.0
        self.bucket = False
        self.shares = TrafficShare()
        self._jitter = jitter
        self._windows = deque([Window(-math.inf, math.inf)], maxlen=MAX_WINDOWS)
        self._low = self._high = math.inf
        self._guard = 0.0
        self._highest_remaining = 0.0
        self._reserve = 0.6
        self._last_sent = -math.inf
        self._spread = 1.0
        self._rose_at = -math.inf
        self._odd_windows = 0
        self._gained = self._sent = 0.0

    @property
    def known(self) -> bool:
        return self.window > 0

    @property
    def permitted(self) -> float:
        """Requests a second, for all processes together."""
        return self.limit / self.window if self.known else math.inf

    @property
    def exclusive(self) -> bool:
        """Whether there is no other traffic, so that most of a fixed window may be used at once."""
        window = self._windows[-1]
        if self.bucket:
            return False
        return self._quota or (self.shares.exclusive and window.remaining - window.pending > SPREAD_SHARE * self.limit)

    def remaining(self, now: float) -> float:
        """Return what should remain for all processes if the others continue as before."""
        self._roll(now)
        window, share = self._windows[-1], self.shares.own_share
        if self.bucket:
            # The others take what refills, except for our share.
            return min(
                window.remaining + share * self.permitted * (now - window.at), self._highest_remaining
            ) - window.sent_after(window.at)
        remaining = window.remaining
        if not self.shares.exclusive and not self._quota:
            foreign = (1 - share) * (1 + EXTRA_SHARE / max(share, EXTRA_SHARE))
            then, rest, last = self._rest(window.at), self._rest(now), LAST_SPREAD * self.window
            remaining *= (rest / then) ** foreign
            if rest == last:
                late = now - max(window.at, self._high - (CLOSING + LAST_SPREAD) * self.window)
                remaining *= math.exp(min(0.0, -foreign * late / last))
            # However fast they were: they may have stopped.
            remaining = max(remaining, MIN_TRUST * window.remaining - 0.5)
        return remaining - self._uncounted(window)

    def wait(self, now: float) -> float:
        """Return the seconds until one more request may go."""
        if not self.known:
            return 0.0
        remaining = self.remaining(now)
        window = self._windows[-1]
        if self.bucket:
            if remaining < 1:
                return max((1 - remaining) / self.permitted, 1e-3)
            border = math.inf
        else:
            border = max(self._high + self._guard - now, 1e-3)
            if remaining < self._reserve or window.remaining - self._uncounted(window) < 1:
                if self._vague and not window.pending and not self.shares.exclusive:
                    # Half way to the latest possible end: the response halves the bracket.
                    return min(border, max(0.0, (self._low + self._high) / 2 - now))
                return border
            if self.exclusive and window.seen:
                # At most half of it is in flight, except at the end: other traffic may come.
                return 0.0 if window.pending <= max(remaining, 0.08 * self.limit) else border
        return min(border, max(0.0, self._last_sent + self._spread / self._pace(now, remaining) - now))

    def record_sent(self, now: float) -> None:
        """A request goes now."""
        if self.known:
            due = self._last_sent + self._spread / self._pace(now, self.remaining(now))
            self._last_sent = min(max(due, now - CATCH_UP_S), now)
            self._spread = 0.75 + 0.5 * self._jitter()
            self._reserve = max(0.5 - OPTIMISM * self.limit, self._reserve - REJECTED_SHARE * self._step)
        self._windows[-1].sent_at.append(now)
        self._windows[-1].pending += 1

    def record_headers(self, sent: float, now: float, limit: float, remaining: float, window: float) -> None:
        """The response to the request sent at ``sent`` reports ``remaining`` after it; it arrived ``now``."""
        if not self.known:
            self._begin(sent, now, limit, remaining, window)
            return
        if limit != self.limit or window != self.window:
            self._change(sent, limit, window)
        self._roll(now)
        sent_in = self._window_of(sent)
        if sent_in is None:
            return
        sent_in.pending -= 1
        self._highest_remaining = max(self._highest_remaining, remaining + 1)
        if self.bucket:
            self._follow_bucket(sent_in, sent, remaining)
        elif sent_in is not self._windows[-1]:
            self._count(sent_in, sent, now, remaining)
        elif sent >= sent_in.reported_at and remaining >= sent_in.remaining + max(1.0, RISE * self.limit):
            self._crossed(sent_in, sent, now, remaining)
        elif self._refills(sent_in, sent, now, remaining):
            self._become_bucket(sent_in, sent, now, remaining)
        else:
            self._count(sent_in, sent, now, remaining)
            sent_in.seen = True
            self._low = max(self._low, sent)

    def record_end(self, sent: float) -> None:
        """The request sent at ``sent`` ended without a report of the limit."""
        sent_in = self._window_of(sent)
        if sent_in is not None:
            sent_in.pending = max(0, sent_in.pending - 1)

    def record_rejection(self, sent: float, now: float, retry_after: float | None) -> None:
        """The request sent at ``sent`` was rejected: nothing remained."""
        self._roll(now)
        window = self._window_of(sent) or self._windows[-1]
        window.pending = max(0, window.pending - 1)
        window.discard(sent)
        if not self.known or window is not self._windows[-1]:
            return
        if window.by_clock and not window.seen and sent - window.started < 0.1 * self.window:
            self._too_early(window, sent, now)
            return
        if not self._vague:
            self._reserve = min(self._reserve + self._step, max(2.0, 0.05 * self.limit))
        window.at, window.remaining, window.reported_at = max(window.at, sent), 0.0, now
        if self.bucket or retry_after is None or retry_after > self.window + 1:
            return
        # Whole seconds are rounded up, and are 1 at the least.
        exact = retry_after != int(retry_after)
        low, high = sent + (retry_after if exact else max(0.0, retry_after - 1)), now + retry_after
        if low <= self._high and high >= self._low:
            low, high = max(low, self._low), min(high, self._high)
        self._low, self._high = low, high

    @property
    def _quota(self) -> bool:
        return self.window > QUOTA_S

    @property
    def _vague(self) -> bool:
        """Whether the end of the window is hardly known."""
        return self._high - self._low > VAGUE * self.window

    @property
    def _step(self) -> float:
        return max(0.5, 0.02 * self.limit)

    def _begin(self, sent: float, now: float, limit: float, remaining: float, length: float) -> None:
        self.limit, self.window = limit, length
        window = self._windows[-1]
        window.pending = max(0, window.pending - 1)
        window.started = min([sent, *window.sent_at[:1]])
        window.at, window.remaining, window.reported_at, window.seen = sent, remaining, now, True
        window.own = window.sent_until(sent)
        window.foreign = limit - remaining - window.own
        self._highest_remaining = remaining + 1
        self.shares.set(now, window.own, max(0.0, window.foreign))
        # It started with the first request at the latest, whenever on its way that was admitted.
        self._low, self._high = sent, window.started + min(now - sent, FIRST_TRAVEL * length) + length
        self._guard = 0.002 + GUARD * length

    def _change(self, sent: float, limit: float, length: float) -> None:
        window = self._windows[-1]
        window.remaining = max(0.0, window.remaining + limit - self.limit)
        window.foreign += limit - self.limit
        if length != self.window:
            self._low, self._high = sent, sent + length
            self._guard = 0.002 + GUARD * length
        self.limit, self.window, self._highest_remaining = limit, length, limit

    def _window_of(self, sent: float) -> Window | None:
        return next((window for window in reversed(self._windows) if sent >= window.started), None)

    def _uncounted(self, window: Window) -> int:
        return window.uncounted(0.02 + 0.01 * self.window)

    def _rest(self, now: float) -> float:
        """Seconds in which the remainder is to be used."""
        return max(self._high - CLOSING * self.window - now, LAST_SPREAD * self.window)

    def _pace(self, now: float, remaining: float) -> float:
        """Our requests a second."""
        share = min(1.0, self.shares.own_share + EXTRA_SHARE)
        if self.bucket:
            level = min(BUCKET_LEVEL * self.limit, self._highest_remaining)
            return share * self.permitted * min(3.0, max(0.05, remaining / level))
        if self.exclusive:
            # Not all at once before the first response shows that the window has started.
            return max(remaining, 0.5) / (0.15 * self.window)
        return share * max(remaining, 0.5) / self._rest(now)

    def _count(self, window: Window, sent: float, now: float, remaining: float) -> None:
        """Count the latest report on this window: how much of it we used, and how much others did."""
        if remaining >= window.remaining:
            return
        own = window.sent_until(sent)
        foreign = self.limit - remaining - own
        self.shares.add(now, own - window.own, foreign - window.foreign, self.window)
        window.own, window.foreign = own, foreign
        window.at, window.remaining, window.reported_at = max(sent, window.at), remaining, now

    def _crossed(self, window: Window, sent: float, now: float, remaining: float) -> None:
        """A new window started between the last report on this one and ``sent``."""
        low, high = window.at, sent
        # The bracket may still be that of this end, or time has moved it to the next.
        for shift in (0.0, -self.window):
            if max(low, self._low + shift) <= min(high, self._high + shift):
                low, high = max(low, self._low + shift), min(high, self._high + shift)
                break
        new = window.split(high, self.limit)
        self._windows.append(new)
        self._odd_windows = 0
        self._low, self._high = low + self.window, high + self.window
        self._count(new, sent, now, remaining)
        new.seen = True

    def _too_early(self, window: Window, sent: float, now: float) -> None:
        """The new window had not started yet, although the clock said so."""
        self._guard = min(2 * self._guard + 0.002, 0.1 * self.window)
        window.started = window.at = window.reported_at = self._last_sent = now + self._guard
        self._low, self._high = sent + self.window, window.started + self.window

    def _roll(self, now: float) -> None:
        """Add the window that has started by the clock."""
        if self.bucket or now < self._high + self._guard:
            return
        started = self._high + math.floor((now - self._guard - self._high) / self.window) * self.window
        self._low += started + self.window - self._high
        self._high = started + self.window
        self._windows.append(Window(started, self.limit, by_clock=True))

    def _refills(self, window: Window, sent: float, now: float, remaining: float) -> bool:
        """Whether this cannot be a fixed window: more remains than could."""
        if window.by_clock and not window.seen and not self.exclusive:
            # A new window that is used up as it starts, again and again, although its start is known.
            odd = sent - window.started < 0.15 * self.window and remaining < 0.6 * self.limit
            self._odd_windows = self._odd_windows + 1 if odd else 0
            if self._odd_windows >= (3 if self._vague else 2):
                return True
        answered = len(window.sent_at) - window.pending
        if answered - (self.limit - min(remaining, window.remaining)) > 1.5 and sent > window.started + 0.05:
            return True
        if sent >= window.reported_at and remaining >= window.remaining:
            twice = sent - self._rose_at < 0.7 * self.window
            self._rose_at = sent
            window.at, window.remaining, window.reported_at = sent, remaining, now
            return twice
        return False

    def _become_bucket(self, window: Window, sent: float, now: float, remaining: float) -> None:
        self.bucket = True
        self._odd_windows, self._rose_at = 0, -math.inf
        self._gained = self._sent = 5.0
        window.at, window.remaining = sent, remaining
        window.discard_until(sent)
        share = max(0.25, self.shares.own_share)
        self.shares.set(now, share * self.limit, (1 - share) * self.limit)

    def _follow_bucket(self, window: Window, sent: float, remaining: float) -> None:
        if sent <= window.at:
            return
        elapsed, own = sent - window.at, window.sent_until(sent)
        gained = remaining - window.remaining + own
        self.shares.add(sent, own, self.permitted * min(elapsed, self.window) - gained, self.window)
        window.at, window.remaining = sent, remaining
        window.discard_until(sent)
        if gained < RISE * self.limit:
            fade = math.exp(-elapsed / self.window)
            self._gained, self._sent = self._gained * fade + gained, self._sent * fade + own
        if self._sent > 5 and self._gained < 0.15 * self._sent:
            # It only falls, except for jumps: a fixed window after all.
            self.bucket = False
            window.started = window.reported_at = sent
            window.own, window.foreign = 0.0, self.limit - remaining
            self._low, self._high = sent, sent + self.window
