"""How many requests may be under way at once: as many as make the service faster."""

from __future__ import annotations

FIRST = 2
"""Under way before the first answer, which may tell a limit."""
OPENING = 30.0
"""More for each answer until latency or a refusal says stop: the third round trip has hundreds."""
INFLATED = 2.0
"""Times the lowest latency from which on more at once may mean no more than a queue."""
CUT = 0.7
ROUND = 16
"""Answers, at the least, over which latency is averaged."""
PROBING = 0.004
"""More for each answer at the number that was refused before."""


class ConcurrencyLimit:
    """``allowed`` requests at once, never above ``most``.

    State: ``size``, ``ceiling`` (the size that was refused), ``told`` (the limit that headers name), ``latency`` of the
    last round and the ``floor`` of it (seconds), ``per_second`` of the last round. A cut for latency is a trial: where
    latency does not follow, the requests are longer, not the queue, and the cut is taken back.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = float(FIRST)
        self.ceiling = float("inf")
        self.told: int | None = None
        self.latency = self.floor = self.per_second = 0.0
        self._opening = True
        self._trial: tuple[float, float, float] | None = None
        self._settling = 0
        self._cut_at = float("-inf")
        self._restart(0.0)

    @property
    def allowed(self) -> int:
        return max(1, min(self.most, int(self.size), self.told or self.most))

    def record_success(self, now: float, seconds: float | None, in_flight: int) -> None:
        """An answer came after ``seconds`` while ``in_flight`` were under way, itself included."""
        busy = in_flight >= self.allowed - 1
        if busy and self.size < self.most:
            self._grow()
        if seconds is None:
            return
        self.floor = self.floor or seconds
        if self._settling:
            # Sent before the last change of the size.
            self._settling -= 1
            if not self._settling:
                self._restart(now)
            return
        self._count += 1
        self._seconds += seconds
        self._busy += busy
        if self._count >= max(ROUND, self.allowed) and now > self._since:
            self._end_round(now)

    def record_rejection(self, now: float, in_flight: int) -> None:
        """One too many was under way: ``in_flight``, itself included."""
        self._opening = False
        self._trial = None
        if now - self._cut_at > max(self.latency, 0.1):
            self.size = min(self.size, float(in_flight))
            self._cut_at = now
        self.size = max(1.0, self.size - 1)
        self.ceiling = self.size + 1

    def _grow(self) -> None:
        if self._trial is not None or (self.floor and self.latency > INFLATED * self.floor):
            return
        if self.size + 1 > self.ceiling:
            self.size += PROBING
        else:
            self.size += OPENING if self._opening else 1.0 / self.size + 0.1
        self.size = min(self.size, float(self.most))

    def _end_round(self, now: float) -> None:
        self.latency, before = self._seconds / self._count, self.per_second
        self.per_second = self._count / (now - self._since)
        busy = self._busy > 0.7 * self._count
        self.floor = min(self.latency, 1.01 * self.floor or self.latency)
        if self._trial is not None:
            size, latency, per_second = self._trial
            self._trial = None
            if self.latency > 0.85 * latency and self.per_second < 0.9 * per_second:
                self.size, self.floor = size, self.latency
        elif busy and self.latency > INFLATED * self.floor and self.per_second < 1.2 * before and self.allowed > 1:
            self._opening = False
            self._trial = (self.size, self.latency, self.per_second)
            self._settling = self.allowed
            self.size = max(1.0, CUT * self.allowed)
        self._restart(now)

    def _restart(self, now: float) -> None:
        self._since = now
        self._count = self._busy = 0
        self._seconds = 0.0
