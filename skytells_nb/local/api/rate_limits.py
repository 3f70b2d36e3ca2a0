"""Rate limits of the account, per model: requests and tokens per window, concurrent requests, and their headers."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from skytells_nb.errors import InputError
from skytells_nb.local.errors import APIException
from skytells_nb.local.faults import parse_flags, validate_flags

_PREFIX = "x-skytells-ratelimit-"


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """Limits of one account for one model; ``None`` means unlimited.

    ``kind="fixed"`` counts in consecutive windows; ``"bucket"`` refills evenly and admits bursts of ``burst`` requests
    (default: the requests of a whole window). Tier 1 of the service is ``LimitOptions(25, 60)``; scaled down for tests,
    ``LimitOptions(25, 2)``.
    """

    requests: int | None = None
    window: float = 60.0
    """Seconds."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """Tokens per window, counted when a request ends; further requests are rejected once they are used up."""
    concurrency: int | None = None
    kind: Literal["fixed", "bucket"] = "fixed"
    burst: int | None = None
    retry_after_ms: bool = False
    """Send ``retry-after-ms`` in addition to Retry-After in whole seconds."""
    headers: bool = True
    """Send the rate-limit headers; without them a client learns the limits from 429 responses only."""
    error_id: str = "RATE_LIMITED"

    def __post_init__(self) -> None:
        if self.window <= 0 or any(n is not None and n < 1 for n in self._counts()):
            raise InputError(f"Limits must be at least 1 and window must be positive, got {self!r}.")

    def _counts(self) -> tuple[int | None, ...]:
        return self.requests, self.concurrency, self.burst, self.tokens_in, self.tokens_out

    @classmethod
    def parse(cls, flags: str | Mapping[str, Any]) -> LimitOptions:
        """Create from ``"requests=25, window=2"`` or a mapping."""
        return cls(**validate_flags(cls, parse_flags(flags) if isinstance(flags, str) else flags))


@dataclass(slots=True)
class _Meter:
    """The counters of one model: what remains of the window, its start, and the requests in flight."""

    remaining: float
    window_start: float
    tokens_in: float = math.inf
    tokens_out: float = math.inf
    """Remaining tokens; negative if the last request used more than remained."""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is admitted, the headers of its response, and the seconds to wait if it is rejected."""

    allowed: bool
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0

    def error(self, limits: LimitOptions) -> APIException:
        """Return the 429 error for a rejected request."""
        headers = {"retry-after": str(max(1, math.ceil(self.wait)))}
        if limits.retry_after_ms:
            headers["retry-after-ms"] = str(max(1, math.ceil(self.wait * 1000)))
        return APIException(limits.error_id, headers=headers, details={"category": "rate_limit"})


class Account:
    """The counters of one account, shared by all connections and keys. Callers pass the time, in seconds."""

    def __init__(self, limits: LimitOptions) -> None:
        self.limits = limits
        self._meters: dict[str, _Meter] = {}
        self._lock = threading.Lock()

    def acquire(self, model: str, now: float) -> Admission:
        """Request admission; every admission that is allowed must be returned with :meth:`release`."""
        with self._lock:
            meter = self._meters.get(model)
            if meter is None:
                meter = self._meters[model] = _Meter(self._capacity, now, *self._tokens)
            self._refill(meter, now)
            limits = self.limits
            if limits.concurrency is not None and meter.in_flight >= limits.concurrency:
                # It is unknown when a slot becomes free: use the shortest wait that Retry-After can express.
                return Admission(False, self._headers(meter), min(1.0, limits.window))
            if meter.remaining < 1 or meter.tokens_in <= 0 or meter.tokens_out <= 0:
                return Admission(False, self._headers(meter), self._wait(meter, now))
            meter.remaining -= 1
            meter.in_flight += 1
            return Admission(True, self._headers(meter))

    def release(self, model: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Record the end of an admitted request and the tokens it used."""
        with self._lock:
            meter = self._meters[model]
            meter.in_flight -= 1
            meter.tokens_in -= tokens_in
            meter.tokens_out -= tokens_out

    @property
    def _capacity(self) -> float:
        limits = self.limits
        if limits.requests is None:
            return math.inf
        return limits.burst or limits.requests if limits.kind == "bucket" else limits.requests

    @property
    def _tokens(self) -> tuple[float, float]:
        return self.limits.tokens_in or math.inf, self.limits.tokens_out or math.inf

    def _refill(self, meter: _Meter, now: float) -> None:
        limits = self.limits
        if limits.kind == "bucket":
            share = (now - meter.window_start) / limits.window
            if limits.requests is not None:
                meter.remaining = min(self._capacity, meter.remaining + share * limits.requests)
            meter.tokens_in, meter.tokens_out = (
                min(limit, remaining + share * limit) if limit < math.inf else remaining
                for limit, remaining in zip(self._tokens, (meter.tokens_in, meter.tokens_out), strict=True)
            )
            meter.window_start = now
        elif now - meter.window_start >= limits.window:
            meter.window_start += limits.window * math.floor((now - meter.window_start) / limits.window)
            meter.remaining = self._capacity
            meter.tokens_in, meter.tokens_out = self._tokens

    def _wait(self, meter: _Meter, now: float) -> float:
        limits = self.limits
        if limits.kind != "bucket":
            return meter.window_start + limits.window - now
        missing = [0.0] if limits.requests is None else [(1 - meter.remaining) / limits.requests]
        for limit, remaining in zip(self._tokens, (meter.tokens_in, meter.tokens_out), strict=True):
            if remaining <= 0:
                missing.append((1 - remaining) / limit)
        return max(missing) * limits.window

    def _headers(self, meter: _Meter) -> dict[str, str]:
        limits = self.limits
        if not limits.headers:
            return {}
        has_window = any(n is not None for n in (limits.requests, limits.tokens_in, limits.tokens_out))
        headers = {"window": f"{limits.window:g}" if has_window else "-"}
        for name, limit, remaining in (
            ("requests", limits.requests, meter.remaining),
            ("tokens-in", limits.tokens_in, meter.tokens_in),
            ("tokens-out", limits.tokens_out, meter.tokens_out),
        ):
            # The service writes "-" for a limit that is not configured.
            headers[f"limit-{name}"] = "-" if limit is None else str(limit)
            headers[f"remaining-{name}"] = "-" if limit is None else str(max(0, math.floor(remaining)))
        return {_PREFIX + name: value for name, value in headers.items()}
