"""The account's limits, for each model: requests and tokens a window, requests at once, with the headers for them."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from skytells_nb.errors import InputError
from skytells_nb.local.errors import APIException
from skytells_nb.local.faults import validate_flags, parse_flags

_PREFIX = "x-skytells-ratelimit-"


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What one account may send to one model; ``None`` is no limit.

    ``kind="fixed"`` counts within windows that follow each other; ``"bucket"`` refills evenly and lets through a burst
    of ``burst`` requests (default: a whole window's). Tier 1 of the service is ``Limits(25, 60)``; scaled down for
    tests, ``Limits(25, 2)``.
    """

    requests: int | None = None
    window: float = 60.0
    """Seconds."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """Tokens a window, counted when a request ends: a request is refused once they are used up."""
    concurrency: int | None = None
    kind: Literal["fixed", "bucket"] = "fixed"
    burst: int | None = None
    retry_after_ms: bool = False
    """Send ``retry-after-ms`` beside the whole seconds of Retry-After."""
    headers: bool = True
    """Send the counters; without them a client has only the 429s to learn from."""
    error_id: str = "RATE_LIMITED"

    def __post_init__(self) -> None:
        if self.window <= 0 or any(n is not None and n < 1 for n in self._counts()):
            raise InputError("Limits are at least 1, and a window is longer than 0 seconds.")

    def _counts(self) -> tuple[int | None, ...]:
        return self.requests, self.concurrency, self.burst, self.tokens_in, self.tokens_out

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> LimitOptions:
        """From ``"requests=25, window=2"`` or a mapping."""
        return cls(**validate_flags(cls, parse_flags(given) if isinstance(given, str) else given))


@dataclass(slots=True)
class _Meter:
    """One model's state: what is left, since when, and what is under way."""

    remaining: float
    window_start: float
    tokens_in: float = math.inf
    tokens_out: float = math.inf
    """Tokens left; below 0 where the last request took more than there were."""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may pass, the headers of its answer, and how long to wait where it may not (seconds)."""

    allowed: bool
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0

    def error(self, limits: LimitOptions) -> APIException:
        headers = {"retry-after": str(max(1, math.ceil(self.wait)))}
        if limits.retry_after_ms:
            headers["retry-after-ms"] = str(max(1, math.ceil(self.wait * 1000)))
        return APIException(limits.error_id, headers=headers, details={"category": "rate_limit"})


class Account:
    """The meters of one account, shared by every connection and key; times come in as an argument (seconds)."""

    def __init__(self, limits: LimitOptions) -> None:
        self.limits = limits
        self._meters: dict[str, _Meter] = {}
        self._lock = threading.Lock()

    def acquire(self, model: str, now: float) -> Admission:
        """Ask for one request; every admission that is allowed must be given back with :meth:`leave`."""
        with self._lock:
            meter = self._meters.get(model)
            if meter is None:
                meter = self._meters[model] = _Meter(self._capacity, now, *self._tokens)
            self._refill(meter, now)
            limits = self.limits
            if limits.concurrency is not None and meter.in_flight >= limits.concurrency:
                # Nothing says when a slot frees itself: the shortest wait that Retry-After can name.
                return Admission(False, self._headers(meter), min(1.0, limits.window))
            if meter.remaining < 1 or meter.tokens_in <= 0 or meter.tokens_out <= 0:
                return Admission(False, self._headers(meter), self._wait(meter, now))
            meter.remaining -= 1
            meter.in_flight += 1
            return Admission(True, self._headers(meter))

    def release(self, model: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """A request that was let in has ended, having taken so many tokens."""
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
                min(most, left + share * most) if most < math.inf else left
                for most, left in zip(self._tokens, (meter.tokens_in, meter.tokens_out), strict=True)
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
        lacking = [0.0] if limits.requests is None else [(1 - meter.remaining) / limits.requests]
        for most, left in zip(self._tokens, (meter.tokens_in, meter.tokens_out), strict=True):
            if left <= 0:
                lacking.append((1 - left) / most)
        return max(lacking) * limits.window

    def _headers(self, meter: _Meter) -> dict[str, str]:
        limits = self.limits
        if not limits.headers:
            return {}
        windowed = any(n is not None for n in (limits.requests, limits.tokens_in, limits.tokens_out))
        named = {"window": f"{limits.window:g}" if windowed else "-"}
        for name, most, left in (
            ("requests", limits.requests, meter.remaining),
            ("tokens-in", limits.tokens_in, meter.tokens_in),
            ("tokens-out", limits.tokens_out, meter.tokens_out),
        ):
            # What is not configured the service writes as "-".
            named[f"limit-{name}"] = "-" if most is None else str(most)
            named[f"remaining-{name}"] = "-" if most is None else str(max(0, math.floor(left)))
        return {_PREFIX + name: value for name, value in named.items()}
