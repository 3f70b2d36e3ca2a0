"""The account's limits: so many requests a window and so many at once, for each model, with the headers that say so."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from skytells_nb.errors import InputError
from skytells_nb.local.envelope import Problem
from skytells_nb.local.flags import read_flags, split_flags

_PREFIX = "x-skytells-ratelimit-"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one account may send to one model; ``None`` is no limit.

    ``kind="fixed"`` counts within windows that follow each other; ``"bucket"`` refills evenly and lets through a burst
    of ``burst`` requests (default: a whole window's). Tier 1 of the service is ``Limits(25, 60)``; scaled down for
    tests, ``Limits(25, 2)``.
    """

    requests: int | None = None
    window: float = 60.0
    """Seconds."""
    concurrency: int | None = None
    kind: Literal["fixed", "bucket"] = "fixed"
    burst: int | None = None
    retry_after_ms: bool = False
    """Send ``retry-after-ms`` beside the whole seconds of Retry-After."""
    headers: bool = True
    """Send the counters; without them a client has only the 429s to learn from."""
    error_id: str = "RATE_LIMITED"

    def __post_init__(self) -> None:
        if self.window <= 0 or any(n is not None and n < 1 for n in (self.requests, self.concurrency, self.burst)):
            raise InputError("Limits are at least 1, and a window is longer than 0 seconds.")

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> Limits:
        """From ``"requests=25, window=2"`` or a mapping."""
        return cls(**read_flags(cls, split_flags(given) if isinstance(given, str) else given))


@dataclass(slots=True)
class _Meter:
    """One model's state: what is left, since when, and what is under way."""

    left: float
    since: float
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may pass, the headers of its answer, and how long to wait where it may not (seconds)."""

    allowed: bool
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0

    def problem(self, limits: Limits) -> Problem:
        headers = {"retry-after": str(max(1, math.ceil(self.wait)))}
        if limits.retry_after_ms:
            headers["retry-after-ms"] = str(max(1, math.ceil(self.wait * 1000)))
        return Problem(limits.error_id, headers=headers, details={"category": "rate_limit"})


class Account:
    """The meters of one account, shared by every connection and key; times come in as an argument (seconds)."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._meters: dict[str, _Meter] = {}
        self._lock = threading.Lock()

    def enter(self, model: str, now: float) -> Admission:
        """Ask for one request; every admission that is allowed must be given back with :meth:`leave`."""
        with self._lock:
            meter = self._meters.get(model)
            if meter is None:
                meter = self._meters[model] = _Meter(self._capacity, now)
            self._refill(meter, now)
            limits = self.limits
            if limits.concurrency is not None and meter.under_way >= limits.concurrency:
                # Nothing says when a slot frees itself: the shortest wait that Retry-After can name.
                return Admission(False, self._headers(meter), min(1.0, limits.window))
            if limits.requests is not None and meter.left < 1:
                return Admission(False, self._headers(meter), self._wait(meter, now))
            meter.left -= 1
            meter.under_way += 1
            return Admission(True, self._headers(meter))

    def leave(self, model: str) -> None:
        with self._lock:
            self._meters[model].under_way -= 1

    @property
    def _capacity(self) -> float:
        limits = self.limits
        if limits.requests is None:
            return math.inf
        return limits.burst or limits.requests if limits.kind == "bucket" else limits.requests

    def _refill(self, meter: _Meter, now: float) -> None:
        limits = self.limits
        if limits.requests is None:
            return
        if limits.kind == "bucket":
            gained = (now - meter.since) * limits.requests / limits.window
            meter.left, meter.since = min(self._capacity, meter.left + gained), now
        elif now - meter.since >= limits.window:
            meter.since += limits.window * math.floor((now - meter.since) / limits.window)
            meter.left = self._capacity

    def _wait(self, meter: _Meter, now: float) -> float:
        limits = self.limits
        if limits.kind == "bucket":
            return (1 - meter.left) * limits.window / (limits.requests or 1)
        return meter.since + limits.window - now

    def _headers(self, meter: _Meter) -> dict[str, str]:
        limits = self.limits
        if not limits.headers:
            return {}
        known = limits.requests is not None
        named = {
            "limit-requests": str(limits.requests) if known else "-",
            "remaining-requests": str(max(0, math.floor(meter.left))) if known else "-",
            "window": f"{limits.window:g}" if known else "-",
            # Not configured here, as on most tiers: the service writes "-".
            "limit-tokens-in": "-",
            "remaining-tokens-in": "-",
            "limit-tokens-out": "-",
            "remaining-tokens-out": "-",
        }
        return {_PREFIX + name: value for name, value in named.items()}
