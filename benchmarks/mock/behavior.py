"""How the server behaves, and what it has counted since it was last told to behave so."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Behavior:
    """What a run asks of the server."""

    latency_ms: float = 0.0
    """Time between a request and its answer."""
    requests_per_s: float = 0.0
    """Rate of a token bucket for all clients together; 0 is no limit. Above it: 429, which costs nothing."""
    burst: float = 0.0
    """Size of that bucket."""
    retry_after_s: float = 1.0
    share_500: float = 0.0
    share_dropped: float = 0.0
    """Requests whose connection is cut without an answer."""
    dimensions: int = 1536
    """Of vectors, where the request does not say."""
    most_inputs: int = 2048


@dataclass
class Counts:
    """What was asked and answered."""

    requests: int = 0
    answered: int = 0
    refused_429: int = 0
    failed_500: int = 0
    dropped: int = 0
    bad: int = 0
    inputs: int = 0
    """Texts in embedding requests, answered or not."""
    connections: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """Answers by the mark of the row they were for."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Embedding requests by encoding and form of input."""
    in_flight: int = 0
    peak_in_flight: int = 0
    _area: float = 0.0
    _first: float | None = None
    _last: float = 0.0
    _cpu: float = field(default_factory=time.process_time)

    def moved(self, change: int) -> None:
        """A request came (1) or ended (-1)."""
        now = time.perf_counter()
        if self._first is None:
            self._first = self._last = now
        self._area += self.in_flight * (now - self._last)
        self._last = now
        self.in_flight += change
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def told(self) -> dict[str, Any]:
        """The figures as they stand in a result."""
        span = self._last - self._first if self._first is not None else 0.0
        return {
            "requests": self.requests,
            "answered": self.answered,
            "refused_429": self.refused_429,
            "failed_500": self.failed_500,
            "dropped": self.dropped,
            "bad": self.bad,
            "inputs": self.inputs,
            "connections": self.connections,
            "rows_answered": len(self.rows),
            "row_repeats": self.rows.total() - len(self.rows),
            "kinds": dict(self.kinds),
            "peak_in_flight": self.peak_in_flight,
            "mean_in_flight": round(self._area / span, 1) if span else 0.0,
            "span_s": round(span, 3),
            "cpu_s": round(time.process_time() - self._cpu, 3),
        }


class Bucket:
    """The permitted rate: full at first, refilled evenly."""

    def __init__(self, behavior: Behavior) -> None:
        self._rate = behavior.requests_per_s
        self._size = behavior.burst or behavior.requests_per_s
        self.left = self._size
        self._at = time.perf_counter()

    def take(self) -> bool:
        """Whether one more request is permitted now."""
        if not self._rate:
            return True
        now = time.perf_counter()
        self.left = min(self._size, self.left + (now - self._at) * self._rate)
        self._at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Faults:
    """Which requests fail. The faults depend on the body and the attempt, not on the client."""

    def __init__(self, behavior: Behavior) -> None:
        self._share_500 = behavior.share_500
        self._share_any = behavior.share_500 + behavior.share_dropped
        self._attempts: Counter[int] = Counter()

    def draw(self, body: bytes) -> str | None:
        """``"500"``, ``"drop"`` or nothing for this attempt."""
        if not self._share_any:
            return None
        number = zlib.crc32(body)
        self._attempts[number] += 1
        lot = zlib.crc32(b"%d/%d" % (number, self._attempts[number])) / 2**32
        if lot < self._share_500:
            return "500"
        return "drop" if lot < self._share_any else None
