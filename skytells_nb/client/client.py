"""The client: endpoints as attributes."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from skytells_nb.client.chat import Chat
from skytells_nb.client.embeddings import Embeddings
from skytells_nb.client.models import Models
from skytells_nb.client.responses import Responses
from skytells_nb.client.transport.auth import APIKey, as_api_key
from skytells_nb.client.transport.limits import DEFAULT_MAX_ANSWER_MB, Timeouts, as_timeouts
from skytells_nb.client.transport.rate_limits import RateLimits
from skytells_nb.client.transport.transport import Transport


class Skytells:
    """The typed client of the Skytells Inference API.

    Its endpoints are ``chat.completions``, ``responses``, ``embeddings`` and ``models``. The client neither retries nor
    caches; the pandas accessor does both. Only a request on a reused connection that the server had closed is sent once
    more, on a new one. It is a context manager that closes its connections at the end.

    Parameters
    ----------
    api_key : str, optional
        The key. By default the variable ``SKYTELLS_API_KEY``, then the system keyring.
    base_url : str, optional
        Address of the API. By default the variable ``SKYTELLS_BASE_URL``, then the public gateway.
    timeout : float or Timeouts, optional
        Seconds that the service may stay silent, or take to connect; a whole response may take three times as long. Or
        Timeouts, one limit for each phase of a request.
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
        max_answer_mb: float = DEFAULT_MAX_ANSWER_MB,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = as_api_key(api_key)
        self._transport = Transport(
            api_key, base_url=base_url, timeouts=as_timeouts(timeout), max_answer_mb=max_answer_mb, http=transport
        )
        self.chat = Chat(self._transport)
        self.responses = Responses(self._transport)
        self.embeddings = Embeddings(self._transport)
        self.models = Models(self._transport)

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
