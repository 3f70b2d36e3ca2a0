"""The progress of a call that is done in parts, one after the other or in several processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skytells_nb.progress.events import GuardedCallback, Progress, ProgressCallback
from skytells_nb.progress.long_step import ProgressLine

SUMMED = ("rows", "done", "cached", "failed", "requests", "retries", "tokens", "cost", "in_flight", "processed")
"""What is summed over the parts."""


@dataclass
class PartsProgress:
    """The sum of what parts of a call tell, as the events of one call.

    Where the number of ``rows`` is not known, parts that have not begun count as many as the others have on average.
    A line is shown from the first event on, and ends when every part has ended, or when one was stopped and none runs.
    """

    label: str
    parts: int
    progress: bool | ProgressCallback
    rows: int | None = None
    _parts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _show: ProgressCallback | None = None
    _close: Callable[[], None] = lambda: None
    _started: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Take over what a part tells: its ``number``, its ``state``, and sums so far."""
        with self._lock, contextlib.suppress(TypeError, ValueError, KeyError):
            if self._show is None:
                if message["state"] != "running":
                    return  # what another computation left
                self._begin()
            before = self._parts.get(message["number"], {})
            self._parts[message["number"]] = {**before, **message}
            event = self._event()
            assert self._show is not None
            self._show(event)
            if event.state != "running":
                self._close()
                self._show, self._parts = None, {}

    def _begin(self) -> None:
        self._started = time.monotonic()
        if callable(self.progress):
            self._show, self._close = GuardedCallback(self.progress), lambda: None
        else:
            line = ProgressLine(self.label)
            self._show, self._close = line, line.close

    def _event(self) -> Progress:
        parts = list(self._parts.values())
        total = {name: sum(part.get(name) or 0 for part in parts) for name in SUMMED}
        costs = [part["cost"] for part in parts if part.get("cost") is not None]
        states = {part["state"] for part in parts}
        ended = len(parts) == self.parts or bool(states & {"failed", "interrupted"})
        state: Any = "running"
        if "running" not in states and ended:
            state = next((name for name in ("failed", "interrupted") if name in states), "done")
        rows = total["rows"] if self.rows is None else self.rows
        if self.rows is None and len(parts) < self.parts and parts:
            rows = round(rows / len(parts) * self.parts)
        seconds = time.monotonic() - self._started
        return Progress(
            label=self.label,
            state=state,
            rows=rows,
            done=total["done"],
            cached=total["cached"],
            failed=total["failed"],
            requests=total["requests"],
            tokens=total["tokens"],
            cost=sum(costs) if costs else None,
            seconds=seconds,
            retries=total["retries"],
            in_flight=total["in_flight"],
            limit=next((part["limit"] for part in reversed(parts) if part.get("limit")), None),
            processed=total["processed"],
            processing_seconds=seconds,
        )
