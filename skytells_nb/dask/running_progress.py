"""The progress of the partitions of a call while they run, over all workers, where the graph was built."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from skytells_nb.engine.report import Report
from skytells_nb.progress.events import Progress
from skytells_nb.progress.parts import SUMMED, PartsProgress

EVENT_INTERVAL_S = 0.5
"""Between two events of one partition on their way to the driver."""
MAX_LISTENERS = 100


class PartitionProgress:
    """What one partition does, as it is told where the graph was built: a callback for the events of its runs."""

    def __init__(self, topic: str, number: int, rows: int) -> None:
        self._topic = topic
        self._number = number
        self._rows = rows
        self._next = 0.0
        self._ended = False
        self._lock = threading.Lock()
        self._tell({"state": "running", "rows": rows})

    def __call__(self, event: Progress) -> None:
        # A run beside the rows, such as that of labels, has few inputs, and its end is not that of the partition. A
        # thread of a run that was stopped may come with an event when the partition has ended.
        with self._lock:
            if event.rows == self._rows and event.state == "running" and time.monotonic() >= self._next:
                sums = {name: getattr(event, name) for name in SUMMED}
                self._tell({"state": "running", "limit": event.limit, **sums})

    def end(self, report: Report | None, state: str) -> None:
        """Tell what the partition did in the end."""
        told: dict[str, Any] = {"state": state, "rows": self._rows, "in_flight": 0}
        if report is not None:
            told |= {
                "done": report.answered + report.nulls + report.failed,
                "failed": report.failed,
                "requests": report.requests,
                "retries": report.retries,
                "tokens": report.tokens_in + report.tokens_out,
                "cost": report.cost,
            }
        with self._lock:
            self._tell(told)
            self._ended = True

    def _tell(self, told: Mapping[str, Any]) -> None:
        if self._ended:
            return
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


_listeners: dict[str, PartsProgress] = {}
"""By topic; the oldest go first."""
_lock = threading.Lock()


def show_progress(topic: str, listener: PartsProgress) -> None:
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
