"""A progress line that is updated in place: its timing, its text, its form in a terminal, a log and HTML."""

from __future__ import annotations

import contextlib
import html
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO

from skytells_nb.formatting import format_compact, format_dollars, format_duration
from skytells_nb.progress.events import Progress, ProgressCallback, RunState
from skytells_nb.sanitize import strip_escapes

UPDATE_INTERVAL_S = 0.25
INITIAL_DELAY_S = 0.3
"""Work that takes less than this shows no intermediate state."""
LONG_STEP_S = 2.0
"""A step that takes less than this shows nothing at all."""
HEARTBEAT_S = 1.0
"""Between the updates of a step that cannot say how far it is."""
LOG_INTERVAL_S = 30.0
"""Between the lines of a log."""
MIN_LOG_INTERVAL_S = 5.0
"""Before the line for a wait that begins: at some limits one begins every second."""

Mode = Literal["live", "final", "plain"]
"""One output that is updated; one output at the end; lines of text."""


class Publish(Protocol):
    """Publishes one MIME bundle; with ``update`` it replaces the output with this display id."""

    def __call__(self, data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None: ...


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


class LogLines:
    """Lines of a log: one each 30 seconds, one when a wait begins, and the final state."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._timer = UpdateTimer(clock, LOG_INTERVAL_S, LOG_INTERVAL_S)
        self._wait_timer = UpdateTimer(clock, interval_s=MIN_LOG_INTERVAL_S)
        self._was_waiting = False

    @property
    def due(self) -> bool:
        """Whether the next line may be written."""
        return self._timer.due

    def show(self, text: str, *, waiting: bool = False, final: bool = False) -> None:
        """Write the state if a line is due."""
        wait_begins = waiting and not self._was_waiting
        self._was_waiting = waiting
        if final or self._timer.due or (wait_begins and self._wait_timer.due):
            self._out.write(f"{text}\n")
            self._out.flush()
            self._timer.restart()
            self._wait_timer.restart()


class ProgressDisplay:
    """A callback for ``Progress`` events that updates one line, at most four times a second.

    In a notebook it is one output, saved with its final state; in a terminal one line, rewritten in place; in a log a
    line is written each 30 seconds, when a wait begins, and at the end. Close it when the work is over: the last event
    is then shown as the final state. A display that fails (a closed terminal, a broken pipe, no stderr) is silent from
    then on. Also a context manager.
    """

    def __init__(
        self,
        label: str,
        *,
        mode: Mode,
        publish: Publish | None,
        out: TextIO | None,
        display_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.mode = mode
        self._publish = publish
        self._out = out
        self._terminal = None if out is None else TerminalLine(out)
        self._log = None if out is None else LogLines(out, clock)
        self._lock = threading.Lock()
        self._timer = UpdateTimer(clock)
        self._display_id = display_id
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

    def __enter__(self) -> Self:
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
        saved = self.mode != "plain" and final and event.state == "done"
        text = saved_text(event, self.label) if saved else progress_text(event, self.label)
        if self.mode == "plain":
            if self._out is None or self._terminal is None or self._log is None:
                return
            if self._out.isatty():
                self._terminal.show(text, final=final)
            else:
                self._log.show(text, waiting=event.waiting is not None, final=final)
            if event.note:
                self._out.write(f"{event.note}\n")
                self._out.flush()
        elif self.mode == "live" or final:
            assert self._publish is not None
            page = progress_html(
                html.escape(text),
                min(event.done, event.rows),
                event.rows,
                running=event.state == "running",
            )
            if event.note:
                page += f'<div class="skytells-progress-note">{html.escape(event.note)}</div>'
                text += f"\n{event.note}"
            self._publish({"text/html": page, "text/plain": text}, {}, display_id=self._display_id, update=self._shown)
            self._shown = True


class LongStep:
    """A step without requests, whose progress is shown once it takes longer than two seconds.

    The step is called with the amount that is done, and with the total where that was not known before; it passes an
    event to ``show`` at most four times a second. An amount of 0 says that what prepares the step is over: rate and
    time left are those since then. Where the amounts do not take equal times, ``set_share`` tells how much of the work
    is done. With ``heartbeat`` a thread shows that it goes on also where nothing is said for a while. As a context
    manager it ends with the final state, if anything was shown.

    >>> events = []
    >>> with LongStep("dedupe", events.append, step="comparing", total=9, delay_s=0) as on_progress:
    ...     on_progress(3)
    >>> [(event.state, event.done, event.rows) for event in events]
    [('running', 3, 9), ('done', 9, 9)]
    """

    def __init__(
        self,
        label: str,
        show: ProgressCallback,
        *,
        step: str | None = None,
        total: int = 0,
        unit: str = "rows",
        heartbeat: bool = False,
        delay_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._clock = clock
        self._started = clock()
        self._delay_s = LONG_STEP_S if delay_s is None else delay_s
        self._timer = UpdateTimer(clock, self._delay_s, UPDATE_INTERVAL_S)
        self._event = Progress(label, "running", rows=total, done=0, step=step, unit=unit)
        self._since = self._told = self._started
        """When the preparation was over, and when the step was last called."""
        self._share: float | None = None
        self._lock = threading.Lock()
        self._shown = False
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="skytells-progress", daemon=True) if heartbeat else None

    def __call__(self, done: int, total: int | None = None, *, step: str | None = None) -> None:
        with self._lock:
            rows = self._event.rows if total is None else total
            self._event = replace(self._event, done=done, rows=rows, step=step or self._event.step)
            self._told = self._clock()
            if not done:
                self._since, self._share = self._told, None
            if self._timer.due:
                self._tell("running")

    def set_share(self, share: float) -> None:
        """Say which share of the work is done, before the call with the amount."""
        self._share = share

    def __enter__(self) -> Self:
        if self._heart is not None:
            # Where no thread can start, the line is updated by the step's own calls.
            with contextlib.suppress(RuntimeError):
                self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with self._lock:
            if not self._shown:
                return
            if problem is None:
                self._event = replace(self._event, done=max(self._event.done, self._event.rows))
                self._tell("done")
            else:
                self._tell("interrupted" if isinstance(problem, KeyboardInterrupt) else "failed")

    def _tell(self, state: RunState) -> None:
        now = self._clock()
        self._shown = True
        self._timer.restart()
        event = replace(self._event, state=state, seconds=now - self._started, processed=self._event.done)
        share = self._share or (event.done / event.rows if event.rows else 0.0)
        left = (self._told - self._since) * (1 - share) / share - (now - self._told) if share > 0 else None
        expected = None if left is None or state != "running" else max(left, 0.0)
        self._show(replace(event, processing_seconds=now - self._since, expected_seconds=expected))

    def _beat(self) -> None:
        pause = self._delay_s
        while not self._ended.wait(pause):
            pause = HEARTBEAT_S
            with self._lock:
                if self._timer.due and not self._ended.is_set():
                    self._tell("running")


def progress_text(event: Progress, label: str = "") -> str:
    """Return the line as text, such as ``embed · 1,200/20,000 rows · 300 cached · 34k tokens · $0.02 · 46 s left``."""
    running = event.state == "running"
    parts = [strip_escapes(label or event.label)]
    if event.state in ("interrupted", "failed"):
        parts.append(event.state)
    if event.step and (running or not event.requests):
        parts.append(event.step)
    if event.rows:
        parts.append(f"{event.done:,}/{event.rows:,} {event.unit}")
    elif event.done:
        parts.append(f"{event.done:,} {event.unit}")
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
        rate = f"{event.rate:,.0f}" if event.rate >= 10 else f"{event.rate:.2g}"
        parts.append(f"{rate} {event.unit}/s")
    if running and event.in_flight:
        parts.append(f"{event.in_flight:,} in flight")
    if running and event.limit:
        parts.append(f"limit {strip_escapes(event.limit)}")
    if running and event.waiting:
        parts.append(strip_escapes(event.waiting))
    elif running and event.seconds_left is not None:
        parts.append(f"{format_duration(event.seconds_left)} left")
    elif not running or (event.step and not event.rows):
        parts.append(format_duration(event.seconds))
    return " · ".join(part for part in parts if part)


def saved_text(event: Progress, label: str = "") -> str:
    """Return the final line that a notebook saves: what is the same each time that it runs, as ``embed · 5/5 rows``.

    Times, tokens and what came from the cache are in the report.
    """
    parts = [strip_escapes(label or event.label)]
    if event.rows:
        parts.append(f"{event.done:,}/{event.rows:,} {event.unit}")
    elif event.done:
        parts.append(f"{event.done:,} {event.unit}")
    if event.failed:
        parts.append(f"{event.failed:,} failed")
    return " · ".join(part for part in parts if part)


def progress_html(escaped: str, done: int, total: int, *, running: bool) -> str:
    """Return a progress bar with its text, which must be escaped; a total of 0 shows that the length is unknown."""
    amount = f'max="{total}" value="{done}" ' if total else "" if running else 'max="1" value="1" '
    bar = f'<progress {amount}aria-label="{escaped}"></progress>'
    busy = "true" if running else "false"
    # A front end takes the text between two dollar signs of one element for a formula.
    shown = escaped.replace("$", "<span>$</span>") if escaped.count("$") > 1 else escaped
    return f'<div class="skytells-progress" aria-busy="{busy}">{bar} {shown}</div>'
