"""Counters of requests and responses, by which tests check what a client sends."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_RECORDS = 1000
"""Number of request records that are stored."""
MAX_TRACKED_INPUTS = 250_000
"""Number of inputs tracked by their hash, for ``distinct`` and ``repeated``; later inputs are only counted."""


@dataclass(slots=True)
class RequestRecord:
    """One request. ``status`` is 0 until the response starts; ``complete`` is true once all of it was sent."""

    request_id: str
    endpoint: str
    model: str
    inputs: int
    stream: bool
    attempt: int
    faults: str
    status: int = 0
    complete: bool = False
    seconds: float = 0.0


@dataclass(slots=True)
class Counts:
    """The counters of one endpoint.

    ``inputs`` counts the inputs received, ``answered`` those with a complete response of status 200, ``distinct`` the
    different ones, and ``repeated`` those received again after they had been answered.
    """

    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    inputs: int = 0
    answered: int = 0
    distinct: int = 0
    repeated: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class Stats:
    """Counters by endpoint (``chat``, ``responses``, ``embeddings``) and the last requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Reset everything except the requests in flight."""
        with self._lock:
            previous: dict[str, Counts] = getattr(self, "_counts", {})
            self._counts = {
                name: Counts(in_flight=old.in_flight, most_in_flight=old.in_flight) for name, old in previous.items()
            }
            self._answered_by_hash: dict[bytes, bool] = {}
            self._records: deque[RequestRecord] = deque(maxlen=MAX_RECORDS)

    def __getitem__(self, endpoint: str) -> Counts:
        """Return a snapshot of one endpoint's counters."""
        with self._lock:
            return self._copy(self._counts.get(endpoint, Counts()))

    @property
    def records(self) -> list[RequestRecord]:
        """The last requests, oldest first."""
        with self._lock:
            return list(self._records)

    def record_request(self, record: RequestRecord, inputs: Sequence[str]) -> list[bytes]:
        """Count a request; pass the returned hashes to :meth:`record_response`."""
        hashes = [hashlib.blake2b(f"{record.endpoint}\0{text}".encode(), digest_size=12).digest() for text in inputs]
        with self._lock:
            counts = self._counts.setdefault(record.endpoint, Counts())
            counts.requests += 1
            counts.in_flight += 1
            counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
            counts.inputs += len(hashes)
            for key in hashes:
                answered = self._answered_by_hash.get(key)
                if answered is None:
                    counts.distinct += 1
                    if len(self._answered_by_hash) < MAX_TRACKED_INPUTS:
                        self._answered_by_hash[key] = False
                elif answered:
                    counts.repeated += 1
            self._records.append(record)
        return hashes

    def record_response(self, record: RequestRecord, hashes: list[bytes]) -> None:
        """Count the end of a request."""
        with self._lock:
            counts = self._counts.setdefault(record.endpoint, Counts())
            counts.in_flight = max(0, counts.in_flight - 1)
            counts.statuses[record.status] = counts.statuses.get(record.status, 0) + 1
            if record.complete and record.status == 200:
                counts.answered += len(hashes)
                for key in hashes:
                    if key in self._answered_by_hash:
                        self._answered_by_hash[key] = True

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain values, the response of ``GET /_stats``."""
        with self._lock:
            return {
                "endpoints": {name: _to_dict(counts) for name, counts in self._counts.items()},
                "records": [_to_dict(record) for record in self._records],
            }

    @staticmethod
    def _copy(counts: Counts) -> Counts:
        return Counts(**{**_to_dict(counts), "statuses": dict(counts.statuses)})


def _to_dict(value: RequestRecord | Counts) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__slots__}
