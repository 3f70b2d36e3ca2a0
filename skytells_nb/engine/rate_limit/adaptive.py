"""The rate for a limit that no header tells: found from refusals, and rarely tested again."""

from __future__ import annotations

import math
from collections import deque

SLOWEST = 0.2
"""Requests a second below which no refusal pushes the rate."""
UNKNOWN = 2.0
"""Requests a second to go on with when the very first ones are refused."""
BACK_OFF = 0.05
"""Part of the found limit that is kept clear of it."""
PAUSES = 20
"""Pauses that pass before the found limit is reached again: a refusal costs one."""
SOON = 3
"""Pauses within which another refusal means that the rate was far too high."""
CUT = 0.9
OPENING = 1.25
"""Growth during each pause while only one refusal was seen: it ended a burst, and says little of the rate."""


class AdaptiveRate:
    """A rate that rises as a cubic: fast far from the last refusal's rate, hardly at all near it.

    State: ``ceiling`` (requests a second let through before the last refusal), ``pause`` (seconds the service asked
    for), the time and count since the end of that pause.
    """

    def __init__(self) -> None:
        self.ceiling = math.inf
        self.pause = 1.0
        self._refusals = 0
        self._since = math.inf
        self._count = 0
        self._span = 1.0
        self._last = -math.inf

    def rate(self, now: float) -> float:
        """Requests a second."""
        if self.ceiling == math.inf:
            return math.inf
        passed = max(0.0, now - self._since) / self.pause
        if self._refusals == 1:
            return self.ceiling * math.pow(OPENING, min(passed, 50))
        return self.ceiling * (1 + BACK_OFF * math.pow(passed / PAUSES - 1, 3))

    def wait(self, now: float) -> float:
        return max(0.0, self._last + 1.0 / self.rate(now) - now) if self._refusals else 0.0

    def record_sent(self, now: float) -> None:
        self._since = min(self._since, now)
        due = self._last + 1.0 / self.rate(now) if self._refusals else now
        # A late start is not made up for by a burst.
        self._last = min(max(due, now - 0.03), now)

    def record_success(self, now: float) -> None:
        if now < self._since:
            # Let through before the refusal that the pause is for.
            self.ceiling += 1 / self._span
        else:
            self._count += 1

    def record_rejection(self, now: float, pause: float) -> None:
        if now < self._since:
            # Sent before the pause that is going on.
            return
        passed = now - self._since
        if self._refusals == 0:
            # A burst took what the pause after it gives, too.
            self._span = passed + pause
            found = self._count / self._span
        else:
            self._span = max(passed, 1.0 / self.ceiling)
            found = min(self._count / self._span, self.rate(now))
            if self._refusals == 1:
                found = max(found, self.rate(now - 1.5 * self.pause))
            if passed < SOON * pause:
                found *= CUT
        self.ceiling = max(SLOWEST, found or UNKNOWN)
        self._refusals += 1
        self.pause = max(pause, 0.1)
        self._since, self._count, self._last = now + pause, 0, -math.inf


ALIKE, FEW = 3.0, 30
"""Fewer answers between refusals than this many times what it was at the higher rate, or this number, are no more."""
SLOWER = 0.7
"""Part of the rate that must have brought no fewer refusals before they count as strays."""
ALONE = 5
"""Answers that must stand between two refusals: at a limit they come in clusters."""
LOOKED_AT = 50
MOST = 6
"""Refusals among the last ``LOOKED_AT`` requests that end the belief in strays."""
DISTRUST_S = 60.0
"""Time without that belief after it was wrong; doubled each time."""


class TransientRejections:
    """Tells strays from a limit that no header tells: at a limit, a lower rate is refused less often.

    State: ``on``, the answers since the last refusal, the answers before the refusal at the highest rate and that rate,
    the last outcomes.
    """

    def __init__(self) -> None:
        self.on = False
        self._since = 0
        self._began = math.nan
        self._fastest: tuple[int, float] | None = None
        self._last: deque[bool] = deque(maxlen=LOOKED_AT)
        self._trusted_from = -math.inf
        self._distrust = DISTRUST_S

    def record_success(self, now: float) -> None:
        if not self._since:
            self._began = now
        self._since += 1
        self._last.append(False)

    def record_rejection(self, now: float) -> bool:
        """Whether this refusal is a stray, which says nothing of the rate."""
        self._last.append(True)
        count, self._since = self._since, 0
        if self.on and sum(self._last) >= MOST:
            self.on = False
            self._trusted_from, self._distrust = now + self._distrust, 2 * self._distrust
            self._fastest = None
        if not self.on and count >= ALONE:
            rate = (count - 1) / max(now - self._began, 1e-3)
            fastest = self._fastest
            if fastest is None or rate > fastest[1]:
                self._fastest = (count, rate)
            elif now >= self._trusted_from and rate <= SLOWER * fastest[1] and count <= ALIKE * max(fastest[0], FEW):
                self.on = True
                self._last.clear()
        return self.on
