"""Which failures are worth another try, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from skytells_nb.errors import (
    AnswerError,
    APIError,
    BadRequestError,
    ConnectError,
    RateLimitError,
    RequestTimeoutError,
    Retryable,
)

RETRY_AFTER_CAP_S = 120.0
"""A service that asks for more is asked again after this."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries and waits: full jitter between nothing and ``base * 2**failures`` seconds, at most ``cap``.

    Being limited (429) costs no try: the pacer holds every request back until the service takes them again. But a run
    that gets nothing but refusals for ``rate_limit_patience`` seconds, or is told to wait longer than that, ends.
    """

    retries: int = 5
    base: float = 0.5
    cap: float = 8.0
    connect_retries: int = 2
    rate_limit_patience: float = 900.0
    jitter: Callable[[], float] = random.random

    def allows(self, error: Exception, failures: int) -> bool:
        """Whether a request that failed ``failures`` times, now with ``error``, may be sent again."""
        if isinstance(error, RateLimitError):
            return True
        if isinstance(error, ConnectError):
            return failures <= min(self.connect_retries, self.retries)
        if isinstance(error, (AnswerError, RequestTimeoutError)):
            # It was paid for, or may have been: one more try tells a passing fault from a broken service.
            return failures <= min(1, self.retries)
        if isinstance(error, Retryable) or (isinstance(error, APIError) and error.status in (408, 409)):
            return failures <= self.retries
        return False

    def gives_up(self, error: RateLimitError, limited_for: float) -> str | None:
        """Why a run that was refused for so many seconds should end, ``None`` where it should wait."""
        asked = error.retry_after or 0.0
        if asked > self.rate_limit_patience:
            return f"The service asks to wait {asked / 60:,.0f} minutes: the account's quota seems to be used up."
        if limited_for > self.rate_limit_patience:
            return f"Every request of the last {limited_for / 60:,.0f} minutes was refused by the account's limit."
        return None

    def too_far(self, seconds: float, limit: str | None) -> RateLimitError | None:
        """The error of a run whose next request this limit lets through in so many seconds, where that is too long."""
        if seconds <= self.rate_limit_patience:
            return None
        return RateLimitError(
            f"The account's limit of {limit} lets the next request through in about {seconds / 60:,.0f} minutes. "
            "Run again then.",
            status=429,
            retry_after=seconds,
        )

    def wait(self, error: Exception, failures: int) -> float:
        """Seconds before the next try."""
        backoff = self.jitter() * min(self.cap, self.base * 2.0 ** min(failures, 30))
        asked = error.retry_after if isinstance(error, APIError) else None
        return backoff if asked is None else min(asked, RETRY_AFTER_CAP_S) + 0.25 * backoff


def divisible(error: Exception) -> bool:
    """Whether a part of the inputs may be at fault: not where another parameter is, which every part would have."""
    if not isinstance(error, BadRequestError):
        return False
    name = (error.param or "input").partition("[")[0].partition(".")[0]
    return name in ("input", "messages", "prompt", "response_format")


def told(problem: Exception) -> str:
    """An error as the log names it: without its message, which may quote what was sent."""
    status = f" {problem.status}" if isinstance(problem, APIError) else ""
    request = getattr(problem, "request_id", None)
    return f"{type(problem).__name__}{status}{f' (request {request})' if request else ''}"
