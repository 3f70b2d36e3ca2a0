"""What is left of a limit that the service tells, and when one of several processes may take of it.

Every answer names what remained when its request was admitted. What it fell by beside our own requests went to others,
so each process knows the whole traffic without knowing who else there is. Each takes its share of the pace that would
use up the rest of the window evenly, and a little more, the same for everybody: the shares drift towards equality.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

FADE = 1.0
"""Windows after which an observation counts 1/e."""
STRANGERS = 0.5
"""Requests of others within about a window from which on we are not alone."""


class TrafficShare:
    """Fading sums over the last windows: ``ours`` and ``others``, in requests."""

    def __init__(self) -> None:
        self.ours = 0.0
        self.others = 0.0
        self._at = -math.inf

    def add(self, now: float, ours: float, others: float, window: float) -> None:
        if now > self._at:
            fade = math.exp((self._at - now) / (FADE * window))
            self.ours *= fade
            self.others *= fade
            self._at = now
        alone = self.exclusive
        self.ours += ours
        self.others += others
        if alone and not self.exclusive:
            # What was ours before anybody else came says nothing of what it is to be.
            self.ours = min(self.ours, self.others)

    def set(self, now: float, ours: float, others: float) -> None:
        self.ours, self.others, self._at = ours, others, now

    @property
    def exclusive(self) -> bool:
        return self.others < STRANGERS + 0.01 * self.ours

    @property
    def own_share(self) -> float:
        """Between 0 and 1; a half while nothing is known."""
        return self.ours / (self.ours + max(0.0, self.others)) if self.ours > 0 else 0.5


class Window:
    """What was sent in it and what the answers said of it. Times are seconds of one clock.

    Within a window the remainder only falls, so the answer with the least of it speaks of the latest moment: ``left``
    remained at ``at``, told at ``told_at``. ``open`` counts our requests that have no answer yet.
    """

    __slots__ = ("at", "begun", "by_clock", "left", "open", "others", "ours", "seen", "sends", "told_at")

    def __init__(self, begun: float, left: float, *, by_clock: bool = False) -> None:
        self.begun = self.at = self.told_at = begun
        self.left = left
        self.by_clock = by_clock
        """Nobody told of its beginning: it is one window's length after the last."""
        self.seen = False
        self.sends: list[float] = []
        self.open = 0
        self.ours = self.others = 0.0
        """What of it is in the shares already."""

    def sent_until(self, time: float) -> int:
        return bisect_right(self.sends, time)

    def sent_after(self, time: float) -> int:
        return len(self.sends) - bisect_right(self.sends, time)

    def uncounted(self, slack: float) -> int:
        """Our requests that ``left`` may not hold yet; those overtake each other by up to ``slack`` seconds."""
        return min(self.open, self.sent_after(self.at - slack))

    def take_back(self, sent: float) -> None:
        """The request that left at ``sent`` took nothing."""
        index = bisect_right(self.sends, sent + 1e-6)
        if index:
            del self.sends[index - 1]

    def forget_until(self, time: float) -> None:
        del self.sends[: bisect_right(self.sends, time)]

    def split(self, time: float, left: float) -> Window:
        """Another window began at ``time``: it takes over what was sent since."""
        new = Window(time, left)
        index = bisect_right(self.sends, time)
        new.sends = self.sends[index:]
        new.open = min(self.open, len(new.sends))
        del self.sends[index:]
        self.open -= new.open
        return new


GREED = 0.15
"""Share of the limit that each asks for beyond what it has."""
QUIET = 0.15
"""Part at a window's end that is left to what is over: nobody knows the border exactly."""
LAST = 0.05
"""Part of a window over which its last requests are spread, at the least."""
GUARD = 0.01
"""Part of a window by which a new one is entered late, so that no clock is early; doubled where it still was."""
UNDER_WAY = 0.05
"""Part of a window that a first request may have been on its way."""
BORDER = 0.2
"""Part of the limit by which the remainder must rise for a window to have ended; smaller rises are a bucket's."""
LEVEL = 0.2
"""Part of the limit at which a bucket is held: as many requests may be miscounted."""
REFUSED = 0.003
"""Share of requests that may find nothing left because others were quicker."""
BOLDNESS = 0.02
"""Part of the limit by which others may turn out to have taken less than they were expected to."""
CATCH_UP_S = 0.03
"""Lateness of a thread that is made up for."""
SPARED = 0.3
"""Part of the limit that is spread over the window even when nobody else takes of it: somebody may come."""
TRUST = 0.15
"""Part of the last told remainder that is tried for, whatever others are expected to have taken."""
VAGUE = 0.2
"""Part of a window: a bracket of its border that is wider is to be narrowed."""
QUOTA_S = 900.0
"""A longer window is a quota, which is used as it is needed: spread over a day, requests would be hours apart."""
KEPT = 8
"""Windows of which answers may still come."""


class HeaderRateLimit:
    """One told limit: ``limit`` requests each ``window`` seconds. Times are seconds of one clock.

    A fixed window is taken for granted until the remainder rises within one: then it is a ``bucket``, which refills
    evenly. State: the last windows (one without end for a bucket), the bracket ``_low`` to ``_high`` in which the
    present one ends, the shares, and ``_reserve``: what must be left for a request to go, lowered by each that goes
    and raised by each that is refused.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.limit = math.inf
        self.window = 0.0
        self.bucket = False
        self.shares = TrafficShare()
        self._jitter = jitter
        self._windows = deque([Window(-math.inf, math.inf)], maxlen=KEPT)
        self._low = self._high = math.inf
        self._guard = 0.0
        self._most = 0.0
        self._reserve = 0.6
        self._last = -math.inf
        self._spread = 1.0
        self._rose = -math.inf
        self._odd = 0
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
        """Nobody else takes of it, so that most of a fixed window may be used up at once."""
        now = self._windows[-1]
        if self.bucket:
            return False
        return self._quota or (self.shares.exclusive and now.left - now.open > SPARED * self.limit)

    def remaining(self, now: float) -> float:
        """What should be left for everybody, when others go on as they did."""
        self._roll(now)
        window, share = self._windows[-1], self.shares.own_share
        if self.bucket:
            # What others take and what refills is the same, but for our part.
            return min(window.left + share * self.permitted * (now - window.at), self._most) - window.sent_after(
                window.at
            )
        left = window.left
        if not self.shares.exclusive and not self._quota:
            others = (1 - share) * (1 + GREED / max(share, GREED))
            then, rest, last = self._rest(window.at), self._rest(now), LAST * self.window
            left *= (rest / then) ** others
            if rest == last:
                late = now - max(window.at, self._high - (QUIET + LAST) * self.window)
                left *= math.exp(min(0.0, -others * late / last))
            # However fast they were: others may have gone.
            left = max(left, TRUST * window.left - 0.5)
        return left - self._ours(window)

    def wait(self, now: float) -> float:
        """Seconds until one more request may go, as things stand."""
        if not self.known:
            return 0.0
        left = self.remaining(now)
        window = self._windows[-1]
        if self.bucket:
            if left < 1:
                return max((1 - left) / self.permitted, 1e-3)
            border = math.inf
        else:
            border = max(self._high + self._guard - now, 1e-3)
            if left < self._reserve or window.left - self._ours(window) < 1:
                if self._vague and not window.open and not self.shares.exclusive:
                    # Half way to the latest possible border: the answer halves what is not known of it.
                    return min(border, max(0.0, (self._low + self._high) / 2 - now))
                return border
            if self.exclusive and window.seen:
                # At most half of it goes unanswered, but for the last: somebody may come.
                return 0.0 if window.open <= max(left, 0.08 * self.limit) else border
        return min(border, max(0.0, self._last + self._spread / self._pace(now, left) - now))

    def record_sent(self, now: float) -> None:
        """A request goes now."""
        if self.known:
            due = self._last + self._spread / self._pace(now, self.remaining(now))
            self._last = min(max(due, now - CATCH_UP_S), now)
            self._spread = 0.75 + 0.5 * self._jitter()
            self._reserve = max(0.5 - BOLDNESS * self.limit, self._reserve - REFUSED * self._step)
        self._windows[-1].sends.append(now)
        self._windows[-1].open += 1

    def record_headers(self, sent: float, now: float, limit: float, left: float, window: float) -> None:
        """The request that left at ``sent`` found ``left`` remaining after it; it is ``now`` known."""
        if not self.known:
            self._begin(sent, now, limit, left, window)
            return
        if limit != self.limit or window != self.window:
            self._change(sent, limit, window)
        self._roll(now)
        found = self._window_of(sent)
        if found is None:
            return
        found.open -= 1
        self._most = max(self._most, left + 1)
        if self.bucket:
            self._follow_bucket(found, sent, left)
        elif found is not self._windows[-1]:
            self._count(found, sent, now, left)
        elif sent >= found.told_at and left >= found.left + max(1.0, BORDER * self.limit):
            self._crossed(found, sent, now, left)
        elif self._refills(found, sent, now, left):
            self._become_bucket(found, sent, now, left)
        else:
            self._count(found, sent, now, left)
            found.seen = True
            self._low = max(self._low, sent)

    def record_end(self, sent: float) -> None:
        """The request that left at ``sent`` ended, and nothing was said of the limit."""
        found = self._window_of(sent)
        if found is not None:
            found.open = max(0, found.open - 1)

    def record_rejection(self, sent: float, now: float, retry_after: float | None) -> None:
        """The request that left at ``sent`` found nothing left."""
        self._roll(now)
        window = self._window_of(sent) or self._windows[-1]
        window.open = max(0, window.open - 1)
        window.take_back(sent)
        if not self.known or window is not self._windows[-1]:
            return
        if window.by_clock and not window.seen and sent - window.begun < 0.1 * self.window:
            self._too_early(window, sent, now)
            return
        if not self._vague:
            self._reserve = min(self._reserve + self._step, max(2.0, 0.05 * self.limit))
        window.at, window.left, window.told_at = max(window.at, sent), 0.0, now
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
        """Whether hardly anything is known of when the window ends."""
        return self._high - self._low > VAGUE * self.window

    @property
    def _step(self) -> float:
        return max(0.5, 0.02 * self.limit)

    def _begin(self, sent: float, now: float, limit: float, left: float, length: float) -> None:
        self.limit, self.window = limit, length
        window = self._windows[-1]
        window.open = max(0, window.open - 1)
        window.begun = min([sent, *window.sends[:1]])
        window.at, window.left, window.told_at, window.seen = sent, left, now, True
        window.ours = window.sent_until(sent)
        window.others = limit - left - window.ours
        self._most = left + 1
        self.shares.set(now, window.ours, max(0.0, window.others))
        # It began with the first request at the latest, whenever on its way that was let in.
        self._low, self._high = sent, window.begun + min(now - sent, UNDER_WAY * length) + length
        self._guard = 0.002 + GUARD * length

    def _change(self, sent: float, limit: float, length: float) -> None:
        window = self._windows[-1]
        window.left = max(0.0, window.left + limit - self.limit)
        window.others += limit - self.limit
        if length != self.window:
            self._low, self._high = sent, sent + length
            self._guard = 0.002 + GUARD * length
        self.limit, self.window, self._most = limit, length, limit

    def _window_of(self, sent: float) -> Window | None:
        return next((window for window in reversed(self._windows) if sent >= window.begun), None)

    def _ours(self, window: Window) -> int:
        return window.uncounted(0.02 + 0.01 * self.window)

    def _rest(self, now: float) -> float:
        """Seconds in which what is left is to be used."""
        return max(self._high - QUIET * self.window - now, LAST * self.window)

    def _pace(self, now: float, left: float) -> float:
        """Our requests a second."""
        share = min(1.0, self.shares.own_share + GREED)
        if self.bucket:
            level = min(LEVEL * self.limit, self._most)
            return share * self.permitted * min(3.0, max(0.05, left / level))
        if self.exclusive:
            # Not all at once before the first answer says that the window has begun.
            return max(left, 0.5) / (0.15 * self.window)
        return share * max(left, 0.5) / self._rest(now)

    def _count(self, window: Window, sent: float, now: float, left: float) -> None:
        """The latest word on this window: how much of it went to us, and how much to others."""
        if left >= window.left:
            return
        ours = window.sent_until(sent)
        others = self.limit - left - ours
        self.shares.add(now, ours - window.ours, others - window.others, self.window)
        window.ours, window.others = ours, others
        window.at, window.left, window.told_at = max(sent, window.at), left, now

    def _crossed(self, window: Window, sent: float, now: float, left: float) -> None:
        """A new window began between the last word on this one and ``sent``."""
        low, high = window.at, sent
        # The bracket may still be that of this border, or time has moved it to the next.
        for shift in (0.0, -self.window):
            if max(low, self._low + shift) <= min(high, self._high + shift):
                low, high = max(low, self._low + shift), min(high, self._high + shift)
                break
        new = window.split(high, self.limit)
        self._windows.append(new)
        self._odd = 0
        self._low, self._high = low + self.window, high + self.window
        self._count(new, sent, now, left)
        new.seen = True

    def _too_early(self, window: Window, sent: float, now: float) -> None:
        """The new window had not begun yet when the clock said so."""
        self._guard = min(2 * self._guard + 0.002, 0.1 * self.window)
        window.begun = window.at = window.told_at = self._last = now + self._guard
        self._low, self._high = sent + self.window, window.begun + self.window

    def _roll(self, now: float) -> None:
        """Begin the window that has begun by the clock."""
        if self.bucket or now < self._high + self._guard:
            return
        begun = self._high + math.floor((now - self._guard - self._high) / self.window) * self.window
        self._low += begun + self.window - self._high
        self._high = begun + self.window
        self._windows.append(Window(begun, self.limit, by_clock=True))

    def _refills(self, window: Window, sent: float, now: float, left: float) -> bool:
        """Whether this cannot be a fixed window: more is left than could be."""
        if window.by_clock and not window.seen and not self.exclusive:
            # A new window that is used up as it begins, again and again, though its border is known.
            odd = sent - window.begun < 0.15 * self.window and left < 0.6 * self.limit
            self._odd = self._odd + 1 if odd else 0
            if self._odd >= (3 if self._vague else 2):
                return True
        answered = len(window.sends) - window.open
        if answered - (self.limit - min(left, window.left)) > 1.5 and sent > window.begun + 0.05:
            return True
        if sent >= window.told_at and left >= window.left:
            twice = sent - self._rose < 0.7 * self.window
            self._rose = sent
            window.at, window.left, window.told_at = sent, left, now
            return twice
        return False

    def _become_bucket(self, window: Window, sent: float, now: float, left: float) -> None:
        self.bucket = True
        self._odd, self._rose = 0, -math.inf
        self._gained = self._sent = 5.0
        window.at, window.left = sent, left
        window.forget_until(sent)
        share = max(0.25, self.shares.own_share)
        self.shares.set(now, share * self.limit, (1 - share) * self.limit)

    def _follow_bucket(self, window: Window, sent: float, left: float) -> None:
        if sent <= window.at:
            return
        passed, ours = sent - window.at, window.sent_until(sent)
        gained = left - window.left + ours
        self.shares.add(sent, ours, self.permitted * min(passed, self.window) - gained, self.window)
        window.at, window.left = sent, left
        window.forget_until(sent)
        if gained < BORDER * self.limit:
            fade = math.exp(-passed / self.window)
            self._gained, self._sent = self._gained * fade + gained, self._sent * fade + ours
        if self._sent > 5 and self._gained < 0.15 * self._sent:
            # It only falls, but for jumps: a fixed window after all.
            self.bucket = False
            window.begun = window.told_at = sent
            window.ours, window.others = 0.0, self.limit - left
            self._low, self._high = sent, sent + self.window
