"""Which failures are worth another try, and after how long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from skytells_nb.errors import (
    APIError,
    BadRequestError,
    ConnectError,
    InvalidResponseError,
    RateLimitError,
    RequestTimeoutError,
    Retryable,
    ServerError,
    SkytellsError,
    TransportError,
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
        if isinstance(error, (InvalidResponseError, RequestTimeoutError)):
            # It was paid for, or may have been: one more try tells a passing fault from a broken service.
            return failures <= min(1, self.retries)
        if isinstance(error, Retryable) or (isinstance(error, APIError) and error.status in (408, 409)):
            return failures <= self.retries
        return False

    def give_up(self, error: RateLimitError, limited_for: float) -> str | None:
        """Why a run that was refused for so many seconds should end, ``None`` where it should wait."""
        asked = error.retry_after or 0.0
        if asked > self.rate_limit_patience:
            return f"The service asks to wait {asked / 60:,.0f} minutes: the account's quota seems to be used up."
        if limited_for > self.rate_limit_patience:
            return f"Every request of the last {limited_for / 60:,.0f} minutes was refused by the account's limit."
        return None

    def quota_exhausted(self, seconds: float, limit: str | None) -> RateLimitError | None:
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


def is_splittable(error: Exception) -> bool:
    """Whether a part of the inputs may be at fault: not where another parameter is, which every part would have."""
    if not isinstance(error, BadRequestError):
        return False
    name = (error.param or "input").partition("[")[0].partition(".")[0]
    return name in ("input", "messages", "prompt", "response_format")


def describe_error(problem: Exception) -> str:
    """An error as the log names it: without its message, which may quote what was sent."""
    status = f" {problem.status}" if isinstance(problem, APIError) else ""
    request = getattr(problem, "request_id", None)
    return f"{type(problem).__name__}{status}{f' (request {request})' if request else ''}"


TRIPS_AFTER = 10
"""Tries that fail one after another before the service counts as down."""
FREE_RETRIES = 30
RETRIES_PER_ANSWER = 0.5
"""What a run may spend on trying again: so many, and a share of the requests that were answered."""
PROBES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


class CircuitBreaker:
    """Counts the tries of one run that brought no answer, whoever made them.

    Closed, it lets everything through. After ``TRIPS_AFTER`` failures in a row it opens: one probe goes at a time,
    after pauses that double; an answer closes it again, and after ``probes`` failed ones the service is given up.
    Answers that cannot be trusted were paid for, so these get no probe, and a silent service, which was waited for
    long enough, gets one.
    """

    def __init__(self, *, probes: int = PROBES, clock: Callable[[], float] = time.monotonic) -> None:
        self._probes = probes
        self._clock = clock
        self._changed = threading.Condition()
        self._probing: threading.Thread | None = None
        self._failed_probes = 0
        self._next_probe = 0.0
        self._tries = 0
        self.in_a_row = 0
        self.answers = 0
        self.retries = 0

    @property
    def open(self) -> bool:
        return self.in_a_row >= TRIPS_AFTER

    @property
    def waiting(self) -> str | None:
        """What is waited for, in words; ``None`` while requests flow."""
        if not self.open:
            return None
        return f"the service does not answer; probe {min(self._failed_probes + 1, self._probes)} of {self._probes}"

    def allow(self, stopped: Callable[[], bool]) -> bool:
        """Wait until this thread may try; ``False`` when the run was stopped meanwhile."""
        with self._changed:
            while not stopped():
                if not self.open:
                    return True
                wait = self._next_probe - self._clock()
                if self._probing in (None, threading.current_thread()) and wait <= 0:
                    self._probing = threading.current_thread()
                    return True
                self._changed.wait(min(0.1, max(0.001, wait)))
            return False

    def record_success(self) -> None:
        with self._changed:
            self.answers += 1
            self._close()

    def record_failure(self, problem: SkytellsError, *, first: bool = True) -> str | None:
        """A try ended in this error; why the run should end, ``None`` where it may go on.

        ``first`` is the first failure of its request. A request that the service fails on again and again says no more
        of the service than once: a few such rows, left over at the end, must not look like a dead service.
        """
        with self._changed:
            if not isinstance(problem, (TransportError, ServerError, InvalidResponseError)):
                # It was refused, so the service is there.
                self._close()
                return None
            self._tries += 1
            self.in_a_row += first or not isinstance(problem, ServerError)
            probe = self._probing is threading.current_thread()
            if probe:
                self._probing = None
                self._failed_probes += 1
            if not self.open:
                return None
            patience = 0 if isinstance(problem, InvalidResponseError) else self._probes
            if isinstance(problem, RequestTimeoutError):
                patience = min(1, patience)
            if isinstance(problem, ConnectError) and not self.answers:
                patience = 0
            if self._failed_probes >= patience:
                return f"{self._tries:,} tries in a row brought no answer: the service seems to be down."
            self._next_probe = self._clock() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failed_probes)
            return None

    def may_retry(self) -> str | None:
        """Count a try that is made again; why it should not be, ``None`` where it may."""
        with self._changed:
            if self.retries >= FREE_RETRIES + RETRIES_PER_ANSWER * self.answers:
                return (
                    f"{self.retries:,} tries were made again for {self.answers:,} answers: the service fails too often "
                    "to go on."
                )
            self.retries += 1
            return None

    def _close(self) -> None:
        if self._tries:
            self._tries = self.in_a_row = self._failed_probes = 0
            self._probing = None
            self._changed.notify_all()
