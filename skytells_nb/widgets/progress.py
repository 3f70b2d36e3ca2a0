"""One line that says where a run stands, and stays in the notebook as its last word."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from skytells_nb.engine.report import Progress, dollars
from skytells_nb.widgets.display import Mode, Publish, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.safe_html import escape, plain

UPDATE_INTERVAL_S = 0.25
QUIET_START_S = 0.3
"""A run shorter than this shows its final line only."""


class ProgressLine:
    """A listener for ``Progress`` events that keeps one line up to date, at most four times a second.

    In a notebook it is one output, saved with its final state; in a terminal one line on stderr, rewritten in place;
    where stderr is a file, only the final line is written. Close it when the run is over: the last event is then shown,
    whatever it says. Also a context manager.

    >>> with ProgressLine("embed") as listener:  # doctest: +SKIP
    ...     session.engine.embed(texts, listener=listener)
    """

    def __init__(
        self,
        label: str = "",
        *,
        mode: Mode | None = None,
        publish: Publish | None = None,
        clock: Callable[[], float] = time.monotonic,
        out: TextIO | None = None,
    ) -> None:
        self.label = label
        self.mode = mode or ("live" if publish is not None else display_mode())
        self._publish = publish
        if self.mode != "plain" and publish is None:
            self._publish = cell_publish()
        self._clock = clock
        self._out = out if out is not None else sys.stderr
        self._lock = threading.Lock()
        self._due = clock() + QUIET_START_S
        self._display_id = new_display_id()
        self._shown = False
        self._width = 0
        self._last: Progress | None = None
        self._closed = False

    def __call__(self, event: Progress) -> None:
        with self._lock:
            if self._closed:
                return
            self._last = event
            if event.state != "running":
                self._finish()
            elif self._clock() >= self._due:
                self._show(event, final=False)
                self._due = self._clock() + UPDATE_INTERVAL_S

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Show the last event as the final state; later events are ignored."""
        with self._lock:
            if not self._closed:
                self._finish()

    def _finish(self) -> None:
        self._closed = True
        if self._last is not None:
            self._show(self._last, final=True)

    def _show(self, event: Progress, *, final: bool) -> None:
        if self.mode == "plain":
            self._write(event, final=final)
        elif self.mode == "live" or final:
            assert self._publish is not None
            text = progress_text(event, self.label)
            data = {"text/html": _progress_html(event, text), "text/plain": text}
            metadata: dict[str, Any] = {}
            self._publish(data, metadata, display_id=self._display_id, update=self._shown)
            self._shown = True

    def _write(self, event: Progress, *, final: bool) -> None:
        rewrites = self._out.isatty()
        if not (rewrites or final):
            return
        line = progress_text(event, self.label)
        if rewrites:
            # The last column stays free: some terminals wrap there, and a wrapped line cannot be rewritten.
            line = line[: shutil.get_terminal_size().columns - 1]
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(line)
        if final:
            self._out.write("\n")
        self._out.flush()


def progress_text(event: Progress, label: str = "") -> str:
    """The line as text, such as ``embed · 1,200/20,000 rows · 300 cached · 34k tokens · $0.02 · 46 s left``."""
    running = event.state == "running"
    parts = [plain(label or event.label)]
    if event.state in ("interrupted", "failed"):
        parts.append(event.state)
    parts.append(f"{event.done:,}/{event.rows:,} rows")
    if event.cached:
        parts.append(f"{event.cached:,} cached")
    if event.failed:
        parts.append(f"{event.failed:,} failed")
    if event.retries:
        parts.append(f"{event.retries:,} {'retry' if event.retries == 1 else 'retries'}")
    if event.tokens:
        parts.append(f"{compact(event.tokens)} tokens")
    if event.cost:
        parts.append(dollars(event.cost))
    if event.rate > 0:
        parts.append(f"{event.rate:,.0f} rows/s" if event.rate >= 10 else f"{event.rate:.2g} rows/s")
    if running and event.in_flight:
        parts.append(f"{event.in_flight:,} in flight")
    if running and event.limit:
        parts.append(f"limit {plain(event.limit)}")
    if running and event.waiting:
        parts.append(plain(event.waiting))
    elif running and event.seconds_left is not None:
        parts.append(f"{duration(event.seconds_left)} left")
    elif not running:
        parts.append(duration(event.seconds))
    return " · ".join(part for part in parts if part)


def compact(number: float) -> str:
    """A count in few characters: 950, 1.2k, 34k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # Compared after rounding, so that 999,999 is 1M and not 1000k.
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.1f}".removesuffix(".0") + letter if scaled < 9.95 else f"{scaled:.0f}{letter}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time in words: 0.4 s, 46 s, 3 min, 1 h 12 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _progress_html(event: Progress, text: str) -> str:
    value = min(event.done, event.rows)
    busy = "true" if event.state == "running" else "false"
    bar = f'<progress max="{max(event.rows, 1)}" value="{value}" aria-label="{escape(text)}"></progress>'
    return f'<div class="skytells-progress" aria-busy="{busy}">{bar} {escape(text)}</div>'
