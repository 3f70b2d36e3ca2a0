"""Parse the rate-limit headers and ``Retry-After`` of a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The account's limits for one model as last reported by the service; ``None`` if not reported."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    window: float | None = None
    """Seconds."""
    limit_tokens_in: int | None = None
    remaining_tokens_in: int | None = None
    limit_tokens_out: int | None = None
    remaining_tokens_out: int | None = None
    limit_concurrent: int | None = None
    remaining_concurrent: int | None = None


_NAMES = {
    "limit_requests": ("x-skytells-ratelimit-limit-requests", "x-ratelimit-limit-rpm"),
    "remaining_requests": ("x-skytells-ratelimit-remaining-requests", "x-ratelimit-remaining-rpm"),
    "limit_tokens_in": ("x-skytells-ratelimit-limit-tokens-in",),
    "remaining_tokens_in": ("x-skytells-ratelimit-remaining-tokens-in",),
    "limit_tokens_out": ("x-skytells-ratelimit-limit-tokens-out",),
    "remaining_tokens_out": ("x-skytells-ratelimit-remaining-tokens-out",),
    "limit_concurrent": ("x-ratelimit-limit-concurrent",),
    "remaining_concurrent": ("x-ratelimit-remaining-concurrent",),
}


def read_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Return the limits in these headers, ``None`` if there are none. A value of "-" means not configured."""
    # One pass: each look-up in httpx's headers is a linear search.
    headers = {name: value for key, value in headers.items() if "ratelimit" in (name := key.lower())}
    if not headers:
        return None
    limits: dict[str, int] = {}
    for name, keys in _NAMES.items():
        for key in keys:
            number = _number(headers.get(key))
            if number is not None:
                limits[name] = int(number)
                break
    window = _number(headers.get("x-skytells-ratelimit-window"))
    if window == 0:
        window = None
    if window is None and "x-ratelimit-limit-rpm" in headers:
        window = 60.0
    if not limits and window is None:
        return None
    return RateLimits(window=window, **limits)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, of ``retry-after-ms`` or ``Retry-After`` (seconds or a date); never negative."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 1e12 else None
