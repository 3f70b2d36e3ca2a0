"""The progress line of a run, which stays in the notebook in its final state."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from skytells_nb.engine.report import Progress
from skytells_nb.formatting import format_compact, format_dollars, format_duration
from skytells_nb.progress_line import TerminalLine, UpdateTimer, progress_html
from skytells_nb.widgets.display import Mode, Publish, cell_publish, display_mode, new_display_id
from skytells_nb.widgets.safe_html import escape, plain

LOG_INTERVAL_S = 30.0
"""Between the lines of a log."""
MIN_LOG_INTERVAL_S = 5.0
"""Before the line for a wait that begins: at some limits one begins every second."""


class ProgressLine:
    """A callback for ``Progress`` events that updates one line, at most four times a second.

    In a notebook it is one output, saved with its final state; in a terminal one line on stderr, rewritten in place;
    if stderr is a file, a line is written each 30 seconds, when a wait begins, and at the end. Close it when the run is
    over: the last event is then shown as the final state. A display that fails (a closed terminal, a broken pipe, no
    stderr) is silent from then on. Also a context manager.

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
        # Without a console, as under pythonw and in services, there is no stderr.
        self._out: TextIO | None = out if out is not None else sys.stderr
        self._terminal = None if self._out is None else TerminalLine(self._out)
        self._lock = threading.Lock()
        self._timer = UpdateTimer(clock)
        self._log_timer = UpdateTimer(clock, LOG_INTERVAL_S, LOG_INTERVAL_S)
        self._wait_timer = UpdateTimer(clock, interval_s=MIN_LOG_INTERVAL_S)
        self._was_waiting = False
        self._display_id = new_display_id()
        self._shown = False
        self._last: Progress | None = None
        self._closed = False
        self._failed = False

    def __call__(self, event: Progress) -> None:
        with self._lock:
            if self._closed:
                return
            self._last = event
            if event.state != "running":
                self._finish()
            elif self._timer.due:
                self._show(event, final=False)
                self._timer.restart()

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
        if self._failed:
            return
        try:
            self._display(event, final=final)
        except Exception:
            # The work is paid for, and does not depend on being shown.
            self._failed = True

    def _display(self, event: Progress, *, final: bool) -> None:
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
        if self._out is None or self._terminal is None:
            return
        text = progress_text(event, self.label)
        if self._out.isatty():
            self._terminal.show(text, final=final)
            return
        wait_begins = event.waiting is not None and not self._was_waiting
        self._was_waiting = event.waiting is not None
        if final or self._log_timer.due or (wait_begins and self._wait_timer.due):
            self._out.write(f"{text}\n")
            self._out.flush()
            self._log_timer.restart()
            self._wait_timer.restart()


def progress_text(event: Progress, label: str = "") -> str:
    """Return the line as text, such as ``embed · 1,200/20,000 rows · 300 cached · 34k tokens · $0.02 · 46 s left``."""
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
        parts.append(f"{format_compact(event.tokens)} tokens")
    if event.cost:
        parts.append(format_dollars(event.cost))
    if event.rate > 0:
        parts.append(f"{event.rate:,.0f} rows/s" if event.rate >= 10 else f"{event.rate:.2g} rows/s")
    if running and event.in_flight:
        parts.append(f"{event.in_flight:,} in flight")
    if running and event.limit:
        parts.append(f"limit {plain(event.limit)}")
    if running and event.waiting:
        parts.append(plain(event.waiting))
    elif running and event.seconds_left is not None:
        parts.append(f"{format_duration(event.seconds_left)} left")
    elif not running:
        parts.append(format_duration(event.seconds))
    return " · ".join(part for part in parts if part)


def _progress_html(event: Progress, text: str) -> str:
    done = min(event.done, event.rows)
    return progress_html(escape(text), done, max(event.rows, 1), running=event.state == "running")
