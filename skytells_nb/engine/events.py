"""What a run tells whoever listens: frozen values, sent sideways; the engine never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Rows count input rows; ``cost`` is US dollars, ``None`` where no price is known."""

    label: str
    state: State
    rows: int
    done: int
    cached: int
    failed: int
    requests: int
    tokens: int
    cost: float | None
    seconds: float
    retries: int = 0
    in_flight: int = 0
    """Requests under way just now."""
    limit: str | None = None
    """The account's limit as far as it is known, such as "25 requests per 60 s"."""
    waiting: str | None = None
    """What is waited for just now, such as "12 s for the account's limit"."""

    @property
    def rate(self) -> float:
        """Rows a second since the start, cached ones not counted."""
        return (self.done - self.cached) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate so far; ``None`` before anything came back."""
        rate = self.rate
        return (self.rows - self.done) / rate if rate > 0 else None


Listener = Callable[[Progress], None]


def ignore(event: Progress) -> None:
    """The listener for runs that nobody watches."""
