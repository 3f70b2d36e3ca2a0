"""How far a fit is: what it tells, and the one line that shows it in a notebook or a terminal."""

from __future__ import annotations

import builtins
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

StageCallback = Callable[[str, int, int], None]
"""Called with the stage in words, how much of it is done, and of how much; 0 of 0 where that cannot be known."""

QUIET_START_S = 0.3
INTERVAL_S = 0.25


def quiet(stage: str, done: int, total: int) -> None:
    """A listener that says nothing."""


@contextmanager
def progress_line(progress: bool | StageCallback, label: str) -> Iterator[StageCallback]:
    """The listener that ``progress=`` asks for; with True a line, which a fit that is over at once does not show."""
    if callable(progress):
        yield progress
        return
    show = _shown_here() if progress else None
    if show is None:
        yield quiet
        return
    line = StageProgress(label, show)
    try:
        yield line
    except BaseException:
        line.close("stopped")
        raise
    line.close("done")


class StageProgress:
    """One line that is rewritten as a fit goes on, at most four times a second, and ends by saying how long it took.

    >>> said = []
    >>> line = StageLine("Map of 900 rows", lambda text, done, total, last: said.append(text), quiet_s=0)
    >>> line("laying out", 30, 200)
    >>> said
    ['Map of 900 rows · laying out 15%']
    """

    def __init__(
        self,
        label: str,
        show: Callable[[str, int, int, bool], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = QUIET_START_S,
    ) -> None:
        self._label = label
        self._show = show
        self._clock = clock
        self._began = clock()
        self._due = self._began + quiet_s
        self._shown = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        # A stage whose length nobody knows may be a long one: it is said at once.
        if self._clock() < self._due and total:
            return
        share = f" {done / total:.0%}" if total else " …"
        self._show(f"{self._label} · {stage}{share}", done, total, False)
        self._shown = True
        self._due = self._clock() + INTERVAL_S

    def close(self, word: str) -> None:
        """Say that it is over, where anything was said."""
        if self._shown:
            self._show(f"{self._label} · {word} in {self._clock() - self._began:.0f} s", 1, 1, True)


class _Cell:
    """One output of a cell, through the ``display`` that IPython puts among the builtins."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def __call__(self, text: str, done: int, total: int, last: bool) -> None:
        view = _View(text, done, total)
        if self._handle is None:
            self._handle = self._display(view, display_id=True)
        else:
            self._handle.update(view)


class _View:
    def __init__(self, text: str, done: int, total: int) -> None:
        self._text = text
        self._bar = f'max="{total}" value="{done}" ' if total else ""

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        bar = f'<progress {self._bar}aria-label="{self._text}"></progress>'
        return f'<div class="skytells-progress">{bar} {self._text}</div>'


class _Terminal:
    """One line of a terminal, rewritten in place."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._width = 0

    def __call__(self, text: str, done: int, total: int, last: bool) -> None:
        self._out.write("\r" + text.ljust(self._width) + ("\n" if last else ""))
        self._out.flush()
        self._width = len(text)


def _shown_here() -> Callable[[str, int, int, bool], None] | None:
    """Where a line can be rewritten: a terminal or a notebook cell. In logs, pipes and recorded notebooks nothing."""
    if sys.stderr is not None and sys.stderr.isatty():
        return _Terminal(sys.stderr)
    still = os.environ.get("SKYTELLS_NB_STREAM", "").strip().lower() in ("final", "plain")
    if still or "PYTEST_CURRENT_TEST" in os.environ or not getattr(builtins, "__IPYTHON__", False):
        return None
    display = getattr(builtins, "display", None)
    return _Cell(display) if display is not None else None
