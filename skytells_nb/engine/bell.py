"""Waiting in the main thread, which Ctrl-C may end at any moment."""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """Wakes the one thread that waits, or the next that will.

    A Condition, and an Event, which has one inside, cannot be waited on where Ctrl-C comes: interrupted as it takes its
    lock back it leaves without it, and its end gives the lock back all the same: "release unlocked lock" in the place
    of KeyboardInterrupt. A lock alone is taken or it is not.

    >>> bell = Bell()
    >>> bell.ring()
    >>> bell.wait(10.0)  # returns at once
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Wake; once is as good as twice. From any thread."""
        with contextlib.suppress(RuntimeError):
            self._silent.release()

    def wait(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds."""
        self._silent.acquire(timeout=seconds)
