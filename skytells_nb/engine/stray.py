"""Refusals that come whatever the rate: to send more slowly would cost time and spare none of them."""

from __future__ import annotations

import math
from collections import deque

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


class Strays:
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

    def answered(self, now: float) -> None:
        if not self._since:
            self._began = now
        self._since += 1
        self._last.append(False)

    def refused(self, now: float) -> bool:
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
