"""How much of an account's traffic is ours, from what the remainder fell by beside our own requests."""

from __future__ import annotations

import math

FADE = 1.0
"""Windows after which an observation counts 1/e."""
STRANGERS = 0.5
"""Requests of others within about a window from which on we are not alone."""


class Shares:
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
        alone = self.alone
        self.ours += ours
        self.others += others
        if alone and not self.alone:
            # What was ours before anybody else came says nothing of what it is to be.
            self.ours = min(self.ours, self.others)

    def set(self, now: float, ours: float, others: float) -> None:
        self.ours, self.others, self._at = ours, others, now

    @property
    def alone(self) -> bool:
        return self.others < STRANGERS + 0.01 * self.ours

    @property
    def ours_of_all(self) -> float:
        """Between 0 and 1; a half while nothing is known."""
        return self.ours / (self.ours + max(0.0, self.others)) if self.ours > 0 else 0.5
