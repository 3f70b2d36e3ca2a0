"""Retries: which failures are worth another attempt, after how long, and when a run gives up."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from skytells_nb.engine.service.request_size import TOO_LARGE
from skytells_nb.errors import (
    APIError,
    BadRequestError,
    ConnectError,
    ConnectionLostError,
    ContentPolicyError,
    ContextLengthError,
    InvalidResponseError,
    NotFoundError,
    RateLimitError,
    RefusalError,
    RequestTimeoutError,
    Retryable,
    ServerError,
    SkytellsError,
    TransportError,
)

MAX_RETRY_AFTER_S = 120.0
"""Longest wait that Retry-After can ask for."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts and waits: full jitter between 0 and ``base * 2**failures`` seconds, at most ``cap``.

    A rate-limit rejection (429) uses up no attempt: the rate limiter delays every request until the service accepts
    them again. But a run that is only rejected for ``rate_limit_patience`` seconds, or has to wait longer, ends. One in
    the body of a success is an attempt like any other: it may have been paid for, and what sent it keeps no limits.
    """

    retries: int = 5
    base: float = 0.5
    cap: float = 8.0
    connect_retries: int = 2
    rate_limit_patience: float = 900.0
    jitter: Callable[[], float] = random.random

    def allows(self, error: Exception, failures: int) -> bool:
        """Return whether a request that failed ``failures`` times, now with ``error``, may be retried."""
        if is_rate_limited(error):
            return True
        if isinstance(error, ConnectError):
            return failures <= min(self.connect_retries, self.retries)
        if isinstance(error, (InvalidResponseError, RequestTimeoutError)) or (
            isinstance(error, Retryable) and getattr(error, "tokens", None)
        ):
            # It was paid for, or may have been: one more attempt tells a transient fault from a broken service.
            return failures <= min(1, self.retries)
        if isinstance(error, Retryable) or (isinstance(error, APIError) and error.status in (408, 409)):
            return failures <= self.retries
        return False

    def give_up(self, error: SkytellsError, limited_for: float = 0.0) -> str | None:
        """Return why a run that was rejected for so many seconds should end, ``None`` if it should wait.

        A wait beyond ``rate_limit_patience`` is a used-up quota, or a service that is closed, whatever its status. The
        error then says the reason too.
        """
        retry_after = (error.retry_after or 0.0) if isinstance(error, APIError) else 0.0
        if retry_after > self.rate_limit_patience:
            cause = ": the account's quota is probably used up" if isinstance(error, RateLimitError) else ""
            reason = f"The service asks to wait {describe_wait(retry_after)}{cause}. Run again after that."
        elif limited_for > self.rate_limit_patience:
            reason = f"Every request of the last {describe_wait(limited_for)} was rejected by the account's limit."
        else:
            return None
        if isinstance(error, APIError):
            error.message = f"{error.message.rstrip('.')}. {reason}"
        return reason

    def quota_exhausted(self, seconds: float, limit: str | None) -> RateLimitError | None:
        """Return the error of a run whose next request is permitted in so many seconds, if that is too long."""
        if seconds <= self.rate_limit_patience:
            return None
        return RateLimitError(
            f"The account's limit of {limit} permits the next request in about {describe_wait(seconds)}. "
            "Run again after that.",
            status=429,
            retry_after=seconds,
        )

    def wait(self, error: Exception, failures: int) -> float:
        """Return the seconds before the next attempt."""
        backoff = self.jitter() * min(self.cap, self.base * 2.0 ** min(failures, 30))
        retry_after = error.retry_after if isinstance(error, APIError) else None
        return backoff if retry_after is None else min(retry_after, MAX_RETRY_AFTER_S) + 0.25 * backoff


def describe_wait(seconds: float) -> str:
    """Return a wait as text, in minutes, or in hours from one hour on.

    >>> describe_wait(1_200), describe_wait(5_400), describe_wait(86_400)
    ('20 minutes', '1.5 hours', '24 hours')
    """
    if seconds < 3570:
        return f"{seconds / 60:,.0f} minutes"
    hours = f"{seconds / 3600:,.1f}".removesuffix(".0")
    return f"{hours} hour{'s' if hours != '1' else ''}"


def is_rate_limited(error: BaseException) -> TypeGuard[RateLimitError]:
    """Whether a request was rejected by a limit, so that all should wait; an error in a success is one like others."""
    return isinstance(error, RateLimitError) and not error.is_in_success


def is_splittable(error: Exception) -> bool:
    """Whether some of the inputs may be at fault, or too many in one request, and not a parameter of every part."""
    if isinstance(error, APIError) and error.status == TOO_LARGE:
        return True
    if not isinstance(error, BadRequestError):
        return False
    name = (error.param or "input").partition("[")[0].partition(".")[0]
    return name in ("input", "messages", "prompt", "response_format")


def billed(problem: Exception, tokens: float) -> tuple[bool, tuple[int, int] | None]:
    """Return whether a failed attempt was answered, and what it used of so many input tokens; ``None`` is unknown."""
    if isinstance(problem, ContentPolicyError):
        # The prompt was read and is billed; there is no output.
        return False, (round(tokens), 0)
    if isinstance(problem, RefusalError):
        # An answer like any other, as far as the account is concerned.
        return True, problem.tokens if problem.tokens[0] else None
    if isinstance(problem, SkytellsError) and problem.tokens is not None:
        return True, problem.tokens
    if isinstance(problem, (RequestTimeoutError, ConnectionLostError)):
        # It may have been answered, on the way to us.
        return False, None
    rejected = isinstance(problem, SkytellsError) and not isinstance(problem, InvalidResponseError)
    # What could not be read, or not stored, was paid for; how much is not reported.
    return (False, (0, 0)) if rejected else (True, None)


def describe_error(problem: Exception) -> str:
    """Return an error for the log: without its message, which may quote what was sent."""
    status = f" {problem.status}" if isinstance(problem, APIError) else ""
    request = getattr(problem, "request_id", None)
    return f"{type(problem).__name__}{status}{f' (request {request})' if request else ''}"


MAX_REPEATED_REJECTIONS = 12
"""Requests that are rejected in the same words, with none answered, after which the call itself counts as wrong."""
_INPUT_NAMES = ("", "input", "messages", "prompt")
_INPUT_TOO_LONG = re.compile(r"\b(too (long|large|many)|context (length|window)|tokens|characters)\b", re.IGNORECASE)
_PARAMETER = re.compile(r"\bmax_\w*tokens\b|\bdimensions\b|\btemperature\b", re.IGNORECASE)
_VARYING_WORDS = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\S*\d\S*")


class RepeatedRejections:
    """Recognizes a call that is wrong for every row by its first rejections, before all rows are sent in vain.

    Rejections for what one text says or how long it is do not count: the next text may be accepted. Not thread-safe.
    """

    def __init__(self) -> None:
        self._kind: tuple[object, ...] | None = None
        self._count = 0

    def record(self, problem: SkytellsError, *, more_waits: bool = True) -> str | None:
        """A request was rejected and none was answered yet; return why the run should end, ``None`` if it may go on.

        ``more_waits`` is whether there is more to send.
        """
        if not isinstance(problem, APIError) or problem.status >= 500 or _concerns_one_input(problem):
            self._kind = None
            return None
        # A path or a method that does not exist says nothing about a row.
        if isinstance(problem, NotFoundError) or problem.status in (405, 410) or problem.status < 400:
            return (
                "The call itself is wrong, not a single row: check base_url and the model. No more requests were sent."
            )
        words = " ".join(_VARYING_WORDS.sub(" ", problem.message).split())
        kind = (type(problem), problem.status, problem.code, problem.param, words)
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if self._count < MAX_REPEATED_REJECTIONS or not more_waits:
            return None
        return (
            f"The first {self._count} requests were rejected with the same error and none succeeded, so the call "
            "itself is probably wrong. Check the model and its parameters. No more requests were sent."
        )


def _concerns_one_input(problem: APIError) -> bool:
    if isinstance(problem, (ContentPolicyError, ContextLengthError)) or problem.status in (TOO_LARGE, 451):
        return True
    name = (problem.param or "").partition("[")[0].partition(".")[0]
    about_length = _INPUT_TOO_LONG.search(problem.message) is not None and not _PARAMETER.search(problem.message)
    return name in _INPUT_NAMES and about_length


FAILURE_THRESHOLD = 10
"""Consecutive failures after which the service counts as down."""
FREE_RETRIES = 30
RETRIES_PER_SUCCESS = 0.5
"""Retry budget of a run: so many, and a share of the requests that were answered."""
MAX_PROBES = 5
MIN_PAUSE_S = 0.5
MAX_PAUSE_S = 8.0


class CircuitBreaker:
    """Counts the failed attempts of one run, over all its threads.

    Closed, it allows everything. After ``FAILURE_THRESHOLD`` consecutive failures it opens: one probe goes at a time,
    after pauses that double; a response closes it again, and after ``probes`` failed ones the run gives up. Invalid
    responses were paid for, so they get no probe, and a service that does not respond, for which the attempts waited
    long enough, gets one.
    """

    def __init__(self, *, probes: int = MAX_PROBES, clock: Callable[[], float] = time.monotonic) -> None:
        self._probes = probes
        self._clock = clock
        self._changed = threading.Condition()
        self._probing: threading.Thread | None = None
        self._failed_probes = 0
        self._next_probe = 0.0
        self._attempts = 0
        self.consecutive_failures = 0
        self.successes = 0
        self.retries = 0

    @property
    def open(self) -> bool:
        return self.consecutive_failures >= FAILURE_THRESHOLD

    @property
    def waiting(self) -> str | None:
        """What is waited for, as text; ``None`` while requests are allowed."""
        if not self.open:
            return None
        return f"the service does not answer; probe {min(self._failed_probes + 1, self._probes)} of {self._probes}"

    def allow(self, stopped: Callable[[], bool]) -> bool:
        """Wait until this thread may send; return ``False`` if the run was stopped meanwhile."""
        with self._changed:
            while not stopped():
                if not self.open:
                    return True
                wait = self._next_probe - self._clock()
                probing = self._probing
                if (probing in (None, threading.current_thread()) or not probing.is_alive()) and wait <= 0:
                    self._probing = threading.current_thread()
                    return True
                self._changed.wait(min(0.1, max(0.001, wait)))
            return False

    def cancel_probe(self) -> None:
        """This thread sends no probe after all, if it was to send one; another may."""
        with self._changed:
            if self._probing is threading.current_thread():
                self._probing = None
                self._changed.notify_all()

    def record_success(self) -> None:
        """A request was answered."""
        with self._changed:
            self.successes += 1
            self._close()

    def record_failure(self, problem: SkytellsError, *, first: bool = True) -> str | None:
        """An attempt ended in this error; return why the run should end, ``None`` if it may continue.

        ``first`` is whether it is the first failure of its request. A request that fails again and again shows no more
        about the service than once: a few such rows at the end of a run must not look like a service that is down.
        """
        with self._changed:
            counts = (TransportError, ServerError, InvalidResponseError, RateLimitError)
            if not isinstance(problem, counts) or is_rate_limited(problem):
                # It was rejected, so the service is up.
                self._close()
                return None
            self._attempts += 1
            self.consecutive_failures += first or not isinstance(problem, ServerError)
            probe = self._probing is threading.current_thread()
            if probe:
                self._probing = None
                self._failed_probes += 1
            if not self.open:
                return None
            allowed_probes = 0 if isinstance(problem, InvalidResponseError) else self._probes
            if isinstance(problem, RequestTimeoutError):
                allowed_probes = min(1, allowed_probes)
            if isinstance(problem, ConnectError) and not self.successes:
                allowed_probes = 0
            if self._failed_probes >= allowed_probes:
                return f"{self._attempts:,} consecutive attempts failed: the service seems to be down."
            self._next_probe = self._clock() + min(MAX_PAUSE_S, MIN_PAUSE_S * 2.0**self._failed_probes)
            return None

    def may_retry(self) -> str | None:
        """Count a retry; return why it should not be made, ``None`` if it may."""
        with self._changed:
            if self.retries >= FREE_RETRIES + RETRIES_PER_SUCCESS * self.successes:
                return (
                    f"{self.retries:,} retries were made for {self.successes:,} answers: the service fails too often "
                    "to continue."
                )
            self.retries += 1
            return None

    def _close(self) -> None:
        if self._attempts:
            self._attempts = self.consecutive_failures = self._failed_probes = 0
            self._probing = None
            self._changed.notify_all()
