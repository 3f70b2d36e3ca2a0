"""Failures of an exchange: as errors of the library, and which are worth another attempt."""

from __future__ import annotations

import http.client
import random

import httpx

from skytells_nb.client.transport.http11 import DeadlineExceeded, TooManyOpenFiles, is_too_many_open_files
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.errors import (
    AccountError,
    APIError,
    ConnectError,
    ConnectionLostError,
    RequestTimeoutError,
    Retryable,
    SkytellsError,
    TooManyOpenFilesError,
    TransportError,
)
from skytells_nb.sanitize import quoted

MAX_RETRY_AFTER_S = 60.0
"""Longest Retry-After that a single call waits for; a longer one is only in its error's ``retry_after``."""
MAX_BACKOFF_S = 8.0


def transport_error(
    error: Exception, host: str, limits: Timeouts, proxy_variable: str | None, *, streaming: bool
) -> TransportError:
    """Return the library's error for what an exchange with this host raised."""
    if isinstance(error, TooManyOpenFiles) or is_too_many_open_files(error):
        return TooManyOpenFilesError(
            f"This process has too many files open for another connection to {host}. Raise the limit of open "
            "files (ulimit -n), or lower max_in_flight=."
        )
    by_proxy = f" through the proxy in {proxy_variable}" if proxy_variable else ""
    if isinstance(error, httpx.ConnectTimeout):
        return ConnectError(f"{host} did not accept a connection within {limits.connect:g} s{by_proxy}.")
    if isinstance(error, httpx.ProxyError):
        reason = f"The proxy in {proxy_variable}" if proxy_variable else "The proxy"
        return ConnectError(f"{reason} did not connect to {host}: {quoted(error, 300)}.")
    if isinstance(error, httpx.ConnectError):
        advice = f"Check {proxy_variable}" if proxy_variable else "Check base_url and the network"
        return ConnectError(f"{host} could not be reached{by_proxy}: {error}. {advice}.")
    if isinstance(error, httpx.WriteTimeout):
        return RequestTimeoutError(f"{host} stopped accepting the request for {limits.write:g} s.")
    if isinstance(error, httpx.TimeoutException):
        return RequestTimeoutError(f"{host} sent nothing for {limits.idle if streaming else limits.read:g} s.")
    if isinstance(error, DeadlineExceeded):
        whole = limits.stream if streaming else limits.total
        return RequestTimeoutError(f"{host} had not completed its response within {whole:g} s.")
    if isinstance(error, MemoryError):
        return TransportError(f"The response of {host} did not fit into memory.")
    if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, http.client.HTTPException, OSError)):
        reason = quoted(error, 300) or type(error).__name__
        return ConnectionLostError(f"The connection to {host} was lost before the response was complete: {reason}")
    return TransportError(f"The exchange with {host} failed: {quoted(error, 300) or type(error).__name__}")


def no_progress_error(host: str, limits: Timeouts) -> RequestTimeoutError:
    """Return the error for a stream that is kept open without a part of an answer."""
    return RequestTimeoutError(
        f"{host} kept the stream open for {limits.keep_alives:g} s without sending any part of its answer. If requests "
        "wait longer than that in a queue, raise timeout= to more than a third of the wait."
    )


def seconds_to_retry(problem: SkytellsError, failures: int) -> float | None:
    """Return the seconds to wait before another attempt, ``None`` for a failure that another would not change."""
    if isinstance(problem, AccountError) or not (
        isinstance(problem, Retryable) or (isinstance(problem, APIError) and problem.status in (408, 409))
    ):
        return None
    retry_after = problem.retry_after if isinstance(problem, APIError) else None
    if retry_after is not None:
        return retry_after if retry_after <= MAX_RETRY_AFTER_S else None
    return float(min(MAX_BACKOFF_S, 0.5 * 2.0 ** (failures - 1)) * (1 - 0.25 * random.random()))
