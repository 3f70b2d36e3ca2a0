"""A rate that the user gives and that is never passed."""

from __future__ import annotations

CATCH_UP_S = 0.03
"""Lateness of a thread that is made up for."""


class Cap:
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
