"""The client: endpoints as attributes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from skytells_nb.client.chat import Chat
from skytells_nb.client.embeddings import Embeddings
from skytells_nb.client.models import Models
from skytells_nb.client.responses import Responses
from skytells_nb.client.transport.auth import APIKey, as_api_key
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.client.transport.request_options import DEFAULT_MAX_ANSWER_MB, RequestOptions, Timeouts, as_timeouts
from skytells_nb.client.transport.transport import Transport


class Skytells:
    """The typed client of the Skytells Inference API.

    Its endpoints are ``chat.completions``, ``responses``, ``embeddings`` and ``models``. The client does not cache, and
    retries only with ``max_retries``; the pandas accessor does both. A request on a reused connection that the server
    had closed is sent once more, on a new one. It is a context manager that closes its connections at the end.

    Parameters
    ----------
    api_key : str, optional
        The key. By default the variable ``SKYTELLS_API_KEY``, then the system keyring.
    base_url : str, optional
        Address of the API. By default the variable ``SKYTELLS_BASE_URL``, then the public gateway.
    timeout : float or Timeouts, optional
        Seconds that the service may stay silent, or take to connect; a whole response may take three times as long. Or
        Timeouts, one limit for each phase of a request.
    max_retries : int, default 0
        How often a call is sent again after a failure that may be over: 408, 409, 429, 5xx, no connection, a lost
        connection and silence. ``Retry-After`` of up to a minute is waited for. A lost or late response may have been
        paid for, so nothing is retried unless you say so. A stream is retried until it begins.
    default_headers : mapping of str to str, optional
        Headers of every request, in addition to the client's own.
    default_query : mapping, optional
        Query parameters of every request.
    max_answer_mb : float, default 256
        Largest response that is read, in megabytes.
    transport : httpx.BaseTransport, optional
        Used in place of the network.

    Raises
    ------
    MissingKeyError
        If there is no key.
    ConfigurationError
        If the base URL cannot be used.

    Examples
    --------
    >>> with Skytells() as client:  # doctest: +SKIP
    ...     print(client.chat.completions.create(model="deepbrain-router", messages="Say hello."))
    Hello!
    """

    def __init__(
        self,
        api_key: str | APIKey | None = None,
        *,
        base_url: str | None = None,
        timeout: float | Timeouts | None = None,
        max_retries: int = 0,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        max_answer_mb: float = DEFAULT_MAX_ANSWER_MB,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = as_api_key(api_key)
        self._transport = Transport(
            api_key, base_url=base_url, timeouts=as_timeouts(timeout), max_answer_mb=max_answer_mb, http=transport
        )
        options = RequestOptions.of(headers=default_headers, query=default_query)
        self._use(self._transport.with_options(options, max_retries))

    def _use(self, transport: Transport) -> None:
        self._transport = transport
        self.chat = Chat(transport)
        self.responses = Responses(transport)
        self.embeddings = Embeddings(transport)
        self.models = Models(transport)

    def with_options(
        self,
        *,
        timeout: float | Timeouts | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a client with other options for its calls, and the same key, address and connections.

        Parameters
        ----------
        timeout : float or Timeouts, optional
            As for the client.
        max_retries : int, optional
            As for the client.
        default_headers : mapping of str to str, optional
            Headers in addition to those of this client.
        default_query : mapping, optional
            Query parameters in addition to those of this client.

        Returns
        -------
        Skytells
            The client. Closing either of the two closes both.

        Raises
        ------
        InputError
            If a header or a query cannot be sent.
        ConfigurationError
            If ``max_retries`` is not a number of retries.

        Examples
        --------
        >>> quick = client.with_options(timeout=5, max_retries=2)
        >>> quick.base_url == client.base_url
        True
        """
        other = copy.copy(self)
        options = RequestOptions.of(timeout, default_headers, default_query)
        other._use(self._transport.with_options(options, max_retries))
        return other

    @property
    def base_url(self) -> str:
        """Address of the API that requests go to."""
        return self._transport.base_url

    @property
    def origin(self) -> str:
        """Scheme, host and port that the key is sent to."""
        return self._transport.origin

    @property
    def limits(self) -> RateLimits | None:
        """The account's rate limits as the last response reported them; ``None`` before the first one that did."""
        return self._transport.limits

    @property
    def resent(self) -> int:
        """Requests that were sent a second time, because the server had closed their reused connection."""
        return self._transport.resent

    @property
    def aborted(self) -> bool:
        """Whether ``abort`` was called; an aborted client makes no more calls."""
        return self._transport.aborted

    def abort(self) -> None:
        """Close every open connection now, from any thread; calls in flight end with RequestCancelledError."""
        self._transport.abort()

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Skytells(base_url={self.base_url!r})"
