"""How long a service without a limit takes: seconds by tokens, corrected by what was measured in this process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

MIN_MEASURED_S = 0.5
"""Seconds of requests before the measurement counts: the first request loads the model."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one endpoint gets through in a second, all requests together."""

    requests: float
    tokens_in: float
    tokens_out: float

    def seconds(self, requests: int, tokens_in: int, tokens_out: int) -> float:
        """Return the seconds that these requests take."""
        return requests / self.requests + tokens_in / self.tokens_in + tokens_out / self.tokens_out


class SpeedEstimate:
    """Seconds that requests take, by the expected throughput of each endpoint and how that did in earlier runs."""

    def __init__(self, expected: dict[str, Throughput]) -> None:
        self._expected = expected
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[float, float]] = {}

    def record(self, endpoint: str, requests: int, tokens_in: int, tokens_out: int, seconds: float) -> None:
        """A run of this endpoint made these requests in so many seconds."""
        expected = self._expected.get(endpoint)
        if expected is None or not requests:
            return
        with self._lock:
            measured, predicted = self._sums.get(endpoint, (0.0, 0.0))
            self._sums[endpoint] = (
                measured + seconds,
                predicted + expected.seconds(requests, tokens_in, tokens_out),
            )

    def seconds(self, endpoint: str, requests: int, tokens_in: int, tokens_out: int) -> float | None:
        """Return the seconds that these requests take; ``None`` for an endpoint whose throughput is not known."""
        expected = self._expected.get(endpoint)
        if expected is None:
            return None
        with self._lock:
            measured, predicted = self._sums.get(endpoint, (0.0, 0.0))
        factor = measured / predicted if measured >= MIN_MEASURED_S and predicted > 0 else 1.0
        return factor * expected.seconds(requests, tokens_in, tokens_out)
