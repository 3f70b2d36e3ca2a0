"""One fixed window of a limit, as one process sees it."""

from __future__ import annotations

from bisect import bisect_right


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
