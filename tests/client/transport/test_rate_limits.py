"""What headers say of limits and waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.transport.rate_limits import RateLimits, read_limits, read_retry_after


def test_the_headers_of_today() -> None:
    headers = httpx.Headers(
        {
            "X-Skytells-RateLimit-Limit-Requests": "25",
            "X-Skytells-RateLimit-Remaining-Requests": "24",
            "X-Skytells-RateLimit-Window": "60",
            "X-Skytells-RateLimit-Limit-Tokens-In": "1000",
            "X-Skytells-RateLimit-Remaining-Tokens-In": "900",
            "X-Skytells-RateLimit-Limit-Tokens-Out": "500",
            "X-Skytells-RateLimit-Remaining-Tokens-Out": "450",
        }
    )
    assert read_limits(headers) == RateLimits(25, 24, 60.0, 1000, 900, 500, 450)


def test_a_dash_means_not_configured() -> None:
    headers = {
        "x-skytells-ratelimit-limit-requests": "25",
        "x-skytells-ratelimit-limit-tokens-in": "-",
        "x-skytells-ratelimit-window": "-",
    }
    assert read_limits(headers) == RateLimits(limit_requests=25)


def test_only_dashes_say_nothing() -> None:
    assert read_limits({"x-skytells-ratelimit-limit-requests": "-"}) is None
    assert read_limits({}) is None


def test_the_older_headers_are_for_a_minute() -> None:
    headers = httpx.Headers(
        {
            "X-RateLimit-Limit-RPM": "50",
            "X-RateLimit-Remaining-RPM": "49",
            "X-RateLimit-Limit-Concurrent": "5",
            "X-RateLimit-Remaining-Concurrent": "4",
        }
    )
    assert read_limits(headers) == RateLimits(
        limit_requests=50, remaining_requests=49, window=60.0, limit_concurrent=5, remaining_concurrent=4
    )


@pytest.mark.parametrize("window", ["0", "-60", "nan", "inf", "soon"])
def test_a_window_that_is_none_is_not_said(window: str) -> None:
    headers = {"x-skytells-ratelimit-limit-requests": "25", "x-skytells-ratelimit-window": window}
    assert read_limits(headers) == RateLimits(limit_requests=25)


@given(st.dictionaries(st.sampled_from(["x-skytells-ratelimit-limit-requests", "retry-after"]), st.text()))
def test_no_header_makes_reading_fail(headers: dict[str, str]) -> None:
    read_limits(headers)
    seconds = read_retry_after(headers)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("86400", 86400.0),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert read_retry_after({"retry-after": value}) == seconds


def test_retry_after_in_milliseconds_comes_first() -> None:
    assert read_retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5


def test_retry_after_as_a_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    seconds = read_retry_after({"retry-after": then})
    assert seconds is not None
    assert 3000 < seconds <= 3600


def test_a_date_in_the_past_is_no_wait() -> None:
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_no_header_is_no_answer() -> None:
    assert read_retry_after({}) is None
