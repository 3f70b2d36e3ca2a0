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
    waiting: str | None = None
    """Why nothing moves just now, such as "rate limit, 12 s"."""

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
