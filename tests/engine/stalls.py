"""How long a machine stood still while a test measured something that needs real time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

TICK_S = 0.01
LONGEST_S = 0.25
"""After a longer stall what was measured says nothing about the library."""


class Stalls:
    """Watches, in a thread, for times in which this process did not run. A context manager.

    >>> with Stalls() as stalls:
    ...     pass
    >>> stalls.longest >= 0
    True
    """

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds of the longest of them."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    @property
    def too_long(self) -> bool:
        """Whether the machine stood still for so long that what was measured meanwhile does not count."""
        return self.longest > LONGEST_S

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(TICK_S):
            now = time.monotonic()
            self.longest = max(self.longest, now - last - TICK_S)
            last = now
        self.longest = max(self.longest, time.monotonic() - last - TICK_S)
