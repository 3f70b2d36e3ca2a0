"""Progress of a layout: the callback, and the line that shows it in a notebook or a terminal."""

from __future__ import annotations

import builtins
import html
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from typing_extensions import TypeIs

from skytells_nb.progress.events import GuardedCallback, ProgressCallback
from skytells_nb.progress.line import INITIAL_DELAY_S, LogLines, LongStep, TerminalLine, UpdateTimer, progress_html

StageCallback = Callable[[str, int, int], None]
"""Called with the stage, the completed amount and the total; both are 0 when the length of the stage is unknown."""
Listener = StageCallback | ProgressCallback
"""What takes the progress of a layout: the stages, or the events of every other long step."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


@contextmanager
def progress_line(progress: bool | Listener, label: str) -> Iterator[StageCallback]:
    """The callback for ``progress=``; True shows a line, unless the layout takes less than 0.3 seconds.

    A function of one argument gets the events of every other long step.
    """
    if callable(progress):
        if not _takes_events(progress):
            yield progress
            return
        with LongStep(label, GuardedCallback(progress), unit="steps") as step:
            yield lambda stage, done, total: step(done, total, step=stage)
        return
    show = _find_output() if progress else None
    if show is None:
        yield no_progress
        return
    line = StageProgress(label, show)
    try:
        yield line
    except BaseException:
        line.close("stopped")
        raise
    line.close("done")


class StageProgress:
    """A line that is updated at most four times a second and finally shows the duration.

    >>> lines = []
    >>> progress = StageProgress("Map of 900 rows", lambda text, *_: lines.append(text), initial_delay_s=0)
    >>> progress("laying out", 30, 200)
    >>> lines
    ['Map of 900 rows · laying out 15%']
    """

    def __init__(
        self,
        label: str,
        show: Callable[[str, int, int, bool], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        initial_delay_s: float = INITIAL_DELAY_S,
    ) -> None:
        self._label = label
        self._show = show
        self._clock = clock
        self._started = clock()
        self._timer = UpdateTimer(clock, initial_delay_s)
        self._shown = False
        self._failed = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        # A stage of unknown length may be long: it is shown immediately.
        if self._failed or (total and not self._timer.due):
            return
        percentage = f" {done / total:.0%}" if total else " …"
        self._try_to_show(f"{self._label} · {stage}{percentage}", done, total, False)
        self._shown = True
        self._timer.restart()

    def close(self, state: str) -> None:
        """Show the final state and the duration, if anything was shown before."""
        if self._shown:
            self._try_to_show(f"{self._label} · {state} in {self._clock() - self._started:.0f} s", 1, 1, True)

    def _try_to_show(self, text: str, done: int, total: int, last: bool) -> None:
        """Show a state; a display that fails is silent from then on, and the layout goes on."""
        try:
            if not self._failed:
                self._show(text, done, total, last)
        except Exception:
            self._failed = True


class LogOutput:
    """Lines of a log, one each 30 seconds; a layout that takes less has none.

    >>> import io
    >>> log = io.StringIO()
    >>> LogOutput(log)("Map of 900 rows · laying out 15%", 30, 200, False)
    >>> log.getvalue()
    ''
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = LogLines(out, clock)
        self._written = False

    def __call__(self, text: str, done: int, total: int, last: bool) -> None:
        if self._lines.due or (last and self._written):
            self._written = True
            self._lines.show(text, final=last)


class _CellOutput:
    """One output of a cell, by the ``display`` that IPython adds to the builtins."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def __call__(self, text: str, done: int, total: int, last: bool) -> None:
        view = _ProgressView(text, done, total, last)
        if self._handle is None:
            self._handle = self._display(view, display_id=True)
        else:
            self._handle.update(view)


class _ProgressView:
    def __init__(self, text: str, done: int, total: int, last: bool) -> None:
        self._text = text
        self._last = last
        self._done, self._total = done, total

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return progress_html(html.escape(self._text), self._done, self._total, running=not self._last)


def _takes_events(listener: Listener) -> TypeIs[ProgressCallback]:
    """Whether a function takes one argument, and not the three of a stage."""
    try:
        inspect.signature(listener).bind("", 0, 0)
    except TypeError:
        return True
    except ValueError:
        pass  # of a function that tells nothing of its arguments
    return False


def _find_output() -> Callable[[str, int, int, bool], None] | None:
    """A terminal, a notebook cell or a log; None for executed notebooks, and where there is no output."""
    if _is_terminal(sys.stderr):
        line = TerminalLine(sys.stderr)
        return lambda text, done, total, last: line.show(text, final=last)
    is_static = os.environ.get("SKYTELLS_NB_STREAM", "").strip().lower() in ("final", "plain")
    if is_static or "PYTEST_CURRENT_TEST" in os.environ:
        return None
    if not getattr(builtins, "__IPYTHON__", False):
        return None if sys.stderr is None else LogOutput(sys.stderr)
    display = getattr(builtins, "display", None)
    return _CellOutput(display) if display is not None else None


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False  # none, closed, or gone
