"""Progress of a long step, as frozen events to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from skytells_nb.errors import warn

RunState = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a call or of a long step of one, in input rows; ``cost`` is US dollars, ``None`` if none is known."""

    label: str
    state: RunState
    rows: int
    """All of them, 0 where their number is not known."""
    done: int
    cached: int = 0
    failed: int = 0
    requests: int = 0
    tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    retries: int = 0
    in_flight: int = 0
    """Requests in flight now."""
    limit: str | None = None
    """The account's limit as far as it is known, such as "25 requests per 60 s"."""
    waiting: str | None = None
    """What the run waits for now, such as "12 s for the account's limit"."""
    processed: int = 0
    """Rows that have been answered or have failed since the first request could be sent."""
    processing_seconds: float = 0.0
    """Seconds since the cache was looked up and the first request could be sent."""
    step: str | None = None
    """What is done now besides requests, such as "looking up cached answers" or "comparing"."""
    unit: str = "rows"
    """What ``rows`` and ``done`` count."""
    expected_seconds: float | None = None
    """Seconds that the rest is expected to take; ``None`` where rows and the rate tell as much."""
    note: str | None = None
    """What is to be known about the call, said once, when it has ended."""

    @property
    def rate(self) -> float:
        """Rows a second since then: missing and invalid rows, and those that were cached, took no time."""
        return self.processed / self.processing_seconds if self.processing_seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time at the rate so far; ``None`` before the first response."""
        if self.expected_seconds is not None:
            return self.expected_seconds
        rate = self.rate
        return max(0, self.rows - self.done) / rate if rate > 0 and self.rows else None


ProgressCallback = Callable[[Progress], None]


def no_progress(event: Progress) -> None:
    """Ignore progress."""


class StepCallback(Protocol):
    """What a long step calls with how much of it is done, and with the total where only the step knows it."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


def no_step(done: int, total: int | None = None) -> None:
    """Ignore the progress of a step."""


class GuardedCallback:
    """A callback that is not called again once it has failed: the work does not depend on being shown."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._failed = False

    def __call__(self, event: Progress) -> None:
        if self._failed:
            return
        try:
            self._callback(event)
        except Exception as problem:
            self._failed = True
            warn(
                f"The progress callback failed and will not be called again: {type(problem).__name__}: {problem}. The "
                "run is not affected."
            )
