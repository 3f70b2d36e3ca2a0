"""The progress of the partitions of a call while they run, over all workers, where the graph was built."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skytells_nb.engine.report import Report
from skytells_nb.progress.events import GuardedCallback, Progress, ProgressCallback
from skytells_nb.progress.long_step import ProgressLine

EVENT_INTERVAL_S = 0.5
"""Between two events of one partition on their way to the driver."""
MAX_LISTENERS = 100

_FIELDS = ("rows", "done", "cached", "failed", "requests", "retries", "tokens", "cost", "in_flight", "processed")


class PartitionProgress:
    """What one partition does, as it is told where the graph was built: a callback for the events of its runs."""

    def __init__(self, topic: str, number: int, rows: int) -> None:
        self._topic = topic
        self._number = number
        self._rows = rows
        self._next = 0.0
        self._last: dict[str, Any] = {}
        self._tell({"state": "running", "rows": rows})

    def __call__(self, event: Progress) -> None:
        # A run beside the rows, such as that of labels, has few inputs, and its end is not that of the partition.
        if event.rows == self._rows and event.state == "running" and time.monotonic() >= self._next:
            self._tell({"state": "running", "limit": event.limit, **{name: getattr(event, name) for name in _FIELDS}})

    def end(self, report: Report | None, state: str) -> None:
        """Tell what the partition did in the end."""
        told: dict[str, Any] = {**self._last, "state": state, "rows": self._rows, "in_flight": 0}
        if report is not None:
            told |= {
                "done": report.answered + report.nulls + report.failed,
                "failed": report.failed,
                "requests": report.requests,
                "retries": report.retries,
                "tokens": report.tokens_in + report.tokens_out,
                "cost": report.cost,
            }
        self._tell(told)

    def _tell(self, told: Mapping[str, Any]) -> None:
        self._next = time.monotonic() + EVENT_INTERVAL_S
        message = {"number": self._number, **told}
        try:
            from distributed import get_worker

            # Numbers of numpy cannot be sent.
            get_worker().log_event(self._topic, {name: _plain(value) for name, value in message.items()})
        except (ImportError, ValueError):
            with _lock:
                listener = _listeners.get(self._topic)
            if listener is not None:
                listener(message)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


@dataclass
class CollectionProgress:
    """The sum of what partitions tell, as the events of one call.

    Rows of partitions that have not begun are not known; they count as many as the others have on average. A line is
    shown from the first event on, and ends when every partition has ended, or when one was stopped and none runs.
    """

    label: str
    partitions: int
    progress: bool | ProgressCallback
    _parts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _show: ProgressCallback | None = None
    _close: Callable[[], None] = lambda: None
    _started: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Take over what a partition tells."""
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
        total = {name: sum(part.get(name) or 0 for part in parts) for name in _FIELDS}
        costs = [part["cost"] for part in parts if part.get("cost") is not None]
        states = {part["state"] for part in parts}
        ended = len(parts) == self.partitions or bool(states & {"failed", "interrupted"})
        state: Any = "running"
        if "running" not in states and ended:
            state = next((name for name in ("failed", "interrupted") if name in states), "done")
        rows = total["rows"]
        if len(parts) < self.partitions and parts:
            rows = round(rows / len(parts) * self.partitions)
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


_listeners: dict[str, CollectionProgress] = {}
"""By topic; the oldest go first."""
_lock = threading.Lock()


def show_progress(topic: str, listener: CollectionProgress) -> None:
    """Show what the partitions of a call tell, in this process and from the workers of its client, if it has one."""
    with _lock:
        _listeners[topic] = listener
        oldest = next(iter(_listeners)) if len(_listeners) > MAX_LISTENERS else None
        if oldest is not None:
            del _listeners[oldest]
    try:
        from distributed import default_client

        client = default_client()  # type: ignore[no-untyped-call]
    except (ImportError, ValueError):
        return
    if oldest is not None:
        with contextlib.suppress(ValueError):
            client.unsubscribe_topic(oldest)
    client.subscribe_topic(topic, lambda event: listener(event[1]))
