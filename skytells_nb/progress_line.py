"""A progress line that is updated in place: its timing, its form in a terminal, and its HTML."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

UPDATE_INTERVAL_S = 0.25
INITIAL_DELAY_S = 0.3
"""Work that takes less than this shows no intermediate state."""


class UpdateTimer:
    """Limits a line to four updates a second, or other intervals, the first after an initial delay."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        initial_delay_s: float = INITIAL_DELAY_S,
        interval_s: float = UPDATE_INTERVAL_S,
    ) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._next_update = clock() + initial_delay_s

    @property
    def due(self) -> bool:
        """Whether the next update may be shown."""
        return self._clock() >= self._next_update

    def restart(self) -> None:
        """Start the interval to the next update."""
        self._next_update = self._clock() + self._interval_s


class TerminalLine:
    """One line of a terminal, rewritten in place."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._width = 0

    def show(self, text: str, *, final: bool) -> None:
        """Replace the line; the final state ends it."""
        # The last column stays free: some terminals wrap there, and a wrapped line cannot be rewritten.
        line = text[: shutil.get_terminal_size().columns - 1]
        self._out.write("\r" + line.ljust(self._width) + ("\n" if final else ""))
        self._out.flush()
        self._width = len(line)


def progress_html(escaped: str, done: int, total: int, *, running: bool) -> str:
    """Return a progress bar with its text, which must be escaped; a total of 0 shows that the length is unknown."""
    amount = f'max="{total}" value="{done}" ' if total else ""
    bar = f'<progress {amount}aria-label="{escaped}"></progress>'
    busy = "true" if running else "false"
    return f'<div class="skytells-progress" aria-busy="{busy}">{bar} {escaped}</div>'
