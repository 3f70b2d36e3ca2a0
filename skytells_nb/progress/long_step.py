"""Progress where the front end shows it: the line of a call, and that of a long step without requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from skytells_nb.progress.display import cell_publish, display_mode, new_display_id
from skytells_nb.progress.events import GuardedCallback, Progress, ProgressCallback, no_progress
from skytells_nb.progress.line import LongStep, Mode, ProgressDisplay, Publish


class ProgressLine(ProgressDisplay):
    """A progress line where the front end shows one: an output of the cell, a line of the terminal, or a log.

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
        mode = mode or ("live" if publish is not None else display_mode())
        if mode != "plain" and publish is None:
            publish = cell_publish()
        # Without a console, as under pythonw and in services, there is no stderr.
        stream: TextIO | None = out if out is not None else sys.stderr
        super().__init__(label, mode=mode, publish=publish, out=stream, display_id=new_display_id(), clock=clock)


@contextmanager
def long_step(
    label: str,
    progress: bool | ProgressCallback = True,
    *,
    step: str | None = None,
    total: int = 0,
    unit: str = "rows",
    prepares: bool = False,
) -> Iterator[LongStep]:
    """Report the progress of a step that may take long: the line and the events of every other call.

    Yields what the step calls with the amount that is done, as often as it likes, and with the total if that was not
    known before. Nothing is shown of a step that takes less than two seconds. ``progress`` is what the user passed:
    True shows a line, a function is called with events. A display that fails never ends the step. A line goes on while
    nothing is said where no total is known, and with ``prepares``, which says that it may take long before the first
    amount.

    >>> with long_step("dedupe", total=3, step="comparing") as on_progress:
    ...     for row in range(3):
    ...         on_progress(row + 1)
    """
    if callable(progress):
        show: ProgressCallback = GuardedCallback(progress)
    else:
        show = _LineWhenShown(label) if progress else no_progress
    # A function of the user is called by the user's thread only. A thread for each short step would cost a search more
    # than what it compares.
    heartbeat = progress is True and (prepares or not total)
    with LongStep(label, show, step=step, total=total, unit=unit, heartbeat=heartbeat) as on_progress:
        yield on_progress


class _LineWhenShown:
    """A progress line that is made with the first event: most steps are short, and show none."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._line: ProgressLine | None = None
        self._failed = False

    def __call__(self, event: Progress) -> None:
        if self._failed:
            return
        try:
            self._line = self._line or ProgressLine(self._label)
        except Exception:
            # As with a display that fails: the step does not depend on being shown.
            self._failed = True
            return
        self._line(event)
