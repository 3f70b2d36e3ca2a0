"""Which failures are worth another try, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from skytells_nb.errors import AnswerError, APIError, ConnectError, RateLimitError, Retryable

RETRY_AFTER_CAP_S = 120.0
"""A service that asks for more is asked again after this."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries and waits: full jitter between nothing and ``base * 2**failures`` seconds, at most ``cap``.

    Being limited (429) costs no try: the pacer holds every request back until the service takes them again.
    """

    retries: int = 5
    base: float = 0.5
    cap: float = 8.0
    connect_retries: int = 2
    rate_limit_retries: int = 1000
    jitter: Callable[[], float] = random.random

    def allows(self, error: Exception, failures: int) -> bool:
        """Whether a request that failed ``failures`` times, now with ``error``, may be sent again."""
        if isinstance(error, RateLimitError):
            return failures <= self.rate_limit_retries
        if isinstance(error, ConnectError):
            return failures <= min(self.connect_retries, self.retries)
        if isinstance(error, AnswerError):
            # A wrong answer was paid for: one more try tells a passing fault from a broken service.
            return failures <= min(1, self.retries)
        if isinstance(error, Retryable) or (isinstance(error, APIError) and error.status in (408, 409)):
            return failures <= self.retries
        return False

    def wait(self, error: Exception, failures: int) -> float:
        """Seconds before the next try."""
        backoff = self.jitter() * min(self.cap, self.base * 2.0 ** min(failures, 30))
        asked = error.retry_after if isinstance(error, APIError) else None
        return backoff if asked is None else min(asked, RETRY_AFTER_CAP_S) + 0.25 * backoff
