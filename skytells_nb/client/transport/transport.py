"""Send a request and return a response, an event stream, or a library error."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import logging
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from skytells_nb.client.transport.auth import APIKey, KeyAuth, as_api_key, resolve_api_key
from skytells_nb.client.transport.base_url import is_loopback, origin_of, resolve_base_url
from skytells_nb.client.transport.http11 import LARGE_BYTES, HTTPConnectionPool, RawResponse
from skytells_nb.client.transport.rate_limits import RateLimits, read_limits
from skytells_nb.client.transport.sse import EventDecoder, ServerSentEvent
from skytells_nb.client.transport.status_errors import error_from_response, error_in_success_body
from skytells_nb.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    InvalidResponseError,
    ReplayMissError,
    RequestCancelledError,
    RequestTimeoutError,
    TransportError,
)
from skytells_nb.service_text import NAME_CHARS, hide, quoted, quoted_name

T = TypeVar("T")

_log = logging.getLogger(__name__)

_EVENTS = "text/event-stream"
_HEADERS = {"user-agent": "skytells-nb", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. A whole stream has no time limit, only its inactivity (``idle``)."""

    connect: float = 10.0
    read: float = 600.0
    idle: float = 120.0
    write: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigurationError(
                    f"The {field.name} timeout must be more than 0 seconds, got {getattr(self, field.name)!r}."
                )


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """A whole response with status 2xx."""

    content: bytes
    request_id: str | None


class PendingResponse:
    """A large response whose body begins to arrive: ``read`` it once, from any thread."""

    def __init__(self, transport: Transport, read: Callable[[], ResponseBody]) -> None:
        self._transport = transport
        self._read = read

    def read(self) -> ResponseBody:
        """Read the whole response; raises like ``Transport.send``."""
        return self._transport._map_exceptions(self._read, self._transport.timeouts.read)


class Transport:
    """HTTP to one address with one key. Safe for several threads; fastest with one transport for each.

    ``http`` replaces the network, for example with ``httpx.MockTransport``.
    """

    def __init__(
        self,
        api_key: str | APIKey | None = None,
        *,
        base_url: str | None = None,
        timeouts: Timeouts | None = None,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = as_api_key(api_key)
        self.base_url = resolve_base_url(base_url)
        self.origin = origin_of(self.base_url)
        self.timeouts = timeouts or Timeouts()
        self.limits: RateLimits | None = None
        """The account's rate limits as the last response reported them."""
        self.resent = 0
        """Requests that were sent a second time, because the server had closed their reused connection."""
        self.aborted = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        key = resolve_api_key(api_key)
        self._auth = KeyAuth(key)
        hide(key)
        self._network = http
        _transports.add(self)
        parts = urlsplit(self.base_url)
        self._tls = _tls_context() if http is None and parts.scheme == "https" else None
        # A proxy from the environment must never see requests to this machine.
        self._trust_env = not is_loopback(parts.hostname or "")
        self._direct: HTTPConnectionPool | None = None
        if http is None and not (self._trust_env and {"http", "https", "all"} & getproxies().keys()):
            self._direct = HTTPConnectionPool(
                self.base_url,
                key,
                _HEADERS,
                tls=self._tls,
                connect_s=self.timeouts.connect,
                opened=self._track_socket,
                resend=self._count_resend,
            )

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def send(self, method: str, path: str, body: bytes | None = None) -> ResponseBody:
        """Make one exchange; raises APIError for a status other than 2xx, TransportError if no response arrives."""
        started = self.begin(method, path, body)
        return started if isinstance(started, ResponseBody) else started.read()

    def begin(self, method: str, path: str, body: bytes | None = None) -> ResponseBody | PendingResponse:
        """Start ``send``; of a large response, the caller reads the body when it has memory for it."""
        return self._map_exceptions(lambda: self._begin(method, path, body), self.timeouts.read)

    def stream(self, path: str, body: bytes) -> EventStream:
        """Open a stream of events; raises like ``send`` before the first one. Close it to end the exchange."""
        return self._map_exceptions(lambda: self._stream(path, body), self.timeouts.idle)

    def abort(self) -> None:
        """Close every open connection now, from any thread; calls in flight end with RequestCancelledError."""
        self.aborted = True
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                # The plain socket's method: that of a TLS socket would drop its cipher while another thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        if self._direct is not None:
            self._direct.close()
        if "_http" in vars(self):
            self._http.close()

    def _reset_after_fork(self) -> None:
        # The parent uses the idle connections too: two processes would read each other's responses.
        self._lock = threading.Lock()
        self._sockets = set()
        vars(self).pop("_http", None)
        if self._direct is not None:
            self._direct.reset_after_fork()

    @functools.cached_property
    def _http(self) -> httpx.Client:
        """For proxies and other networks."""
        return httpx.Client(
            auth=self._auth,
            transport=self._network,
            verify=self._tls or _empty_tls_context(),
            trust_env=self._trust_env,
            follow_redirects=False,
            headers=_HEADERS,
        )

    def _begin(self, method: str, path: str, body: bytes | None) -> ResponseBody | PendingResponse:
        self._check_usable()
        direct = self._direct
        if direct is None:
            response = self._http.send(self._request(method, path, body, self.timeouts.read), stream=True)
            length = response.headers.get("content-length", "")
            if response.is_success and length.isdigit() and int(length) >= LARGE_BYTES:
                return PendingResponse(self, lambda: self._checked(_read(response)))
            return self._checked(_read(response))
        started = direct.request(method, path, body, write_s=self.timeouts.write, read_s=self.timeouts.read)
        if isinstance(started, RawResponse):
            return self._checked_raw(started, method, path)
        return PendingResponse(self, lambda: self._checked_raw(direct.read_body(started), method, path))

    def _checked_raw(self, raw: RawResponse, method: str, path: str) -> ResponseBody:
        if not raw.is_plain_json:
            return self._checked(raw.to_httpx(method, self.base_url + path))
        self.limits = read_limits(raw.headers) or self.limits
        return ResponseBody(raw.content, self._request_id(raw.headers))

    def _checked(self, response: httpx.Response) -> ResponseBody:
        content = self._content(response)
        self._check(response, content)
        if self.aborted and not {"content-length", "transfer-encoding"} & set(response.headers):
            # The connection's end delimits this body, and ``abort`` may have ended it.
            raise RequestCancelledError("The call was stopped.")
        return ResponseBody(content, self._request_id(response.headers))

    def _stream(self, path: str, body: bytes) -> EventStream:
        self._check_usable()
        if self._direct is None:
            return self._events(
                self._http.send(self._request("POST", path, body, self.timeouts.idle, _EVENTS), stream=True)
            )
        opened = self._direct.stream(path, body, write_s=self.timeouts.write, idle_s=self.timeouts.idle)
        if not opened.is_event_stream:
            return self._events(opened.read_rest().to_httpx("POST", self.base_url + path))
        self.limits = read_limits(opened.headers) or self.limits
        return EventStream(self, opened.iter_bytes(), opened.close, self._request_id(opened.headers))

    def _events(self, response: httpx.Response) -> EventStream:
        """Return the events of the response; raises its error if it contains one instead."""
        try:
            kind = response.headers.get("content-type", "no content type")
            if response.is_success and _EVENTS in kind.lower():
                self.limits = read_limits(response.headers) or self.limits
                return EventStream(self, response.iter_bytes(), response.close, self._request_id(response.headers))
            response.read()
            content = self._content(response)
            self._check(response, content)
            with contextlib.suppress(ValueError):
                error = error_in_success_body(json.loads(content), self._request_id(response.headers))
                if error is not None:
                    raise error
            raise InvalidResponseError(
                f"The response must be a stream of events, got {kind}.", request_id=self._request_id(response.headers)
            )
        except BaseException:
            response.close()
            raise

    def _check_usable(self) -> None:
        if self.aborted:
            raise RequestCancelledError("The call was stopped.")
        if self._closed:
            raise TransportError("This client is closed; connect again, or create another one.")

    def _count_resend(self, method: str, path: str) -> None:
        if self.aborted:
            raise RequestCancelledError("The call was stopped.")
        with self._lock:
            self.resent += 1
        _log.debug("%s %s: the server had closed the reused connection; sent again on a new one", method, path)

    def _request(
        self, method: str, path: str, body: bytes | None, read_timeout: float, accept: str = "*/*"
    ) -> httpx.Request:
        limits = self.timeouts
        return self._http.build_request(
            method,
            self.base_url + path,
            content=body,
            headers={"accept": accept} | ({"content-type": "application/json"} if body is not None else {}),
            timeout=httpx.Timeout(read_timeout, connect=limits.connect, write=limits.write),
            extensions={"trace": self._trace},
        )

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        # TLS takes over the plain socket and leaves it empty; events of a proxy have another prefix.
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._track_socket(info["return_value"].get_extra_info("socket"))

    def _track_socket(self, sock: socket.socket) -> None:
        """Track an open socket for ``abort``: a blocked read ends only when its socket is shut down."""
        with self._lock:
            self._sockets = {s for s in self._sockets if s.fileno() >= 0}
            self._sockets.add(sock)
        if self.aborted:
            self.abort()

    def _request_id(self, headers: Mapping[str, str]) -> str | None:
        """Return the service's id of a request, which nearly always is a plain one."""
        value = headers.get("x-request-id")
        if not value or (value.isascii() and value.isprintable() and len(value) <= NAME_CHARS):
            return (quoted_name(value) if self._auth.occurs_in(value) else value) if value else None
        return quoted_name(value)

    def _check(self, response: httpx.Response, content: bytes) -> None:
        self.limits = read_limits(response.headers) or self.limits
        if not response.is_success:
            raise error_from_response(response, content)

    def _content(self, response: httpx.Response) -> bytes:
        """Return the body; if the service did not make it, without the key that a proxy may have put in it."""
        if response.is_success and "json" in response.headers.get("content-type", ""):
            return response.content
        return self._auth.redact(response.content)

    def _map_exceptions(self, action: Callable[[], T], silence: float) -> T:
        """Return what ``action`` returns; raises its failure as a library error. ``silence`` is its timeout in seconds.

        Errors are raised outside their handler and an interrupt loses its frames: the exception that the caller gets
        references neither frames of the libraries below nor their requests, which contain the key.
        """
        try:
            return action()
        except KeyboardInterrupt as interrupt:
            failure: BaseException = interrupt.with_traceback(None)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, http.client.HTTPException, OSError) as problem:
            failure = self._failure(problem, silence)
        try:
            raise failure
        finally:
            del failure

    def _failure(self, error: Exception, silence: float) -> TransportError:
        host = urlsplit(self.base_url).netloc
        if self.aborted:
            return RequestCancelledError("The call was stopped.")
        if isinstance(error, httpx.ConnectTimeout):
            return ConnectError(f"{host} did not accept a connection within {self.timeouts.connect:g} s.")
        if isinstance(error, httpx.ConnectError):
            return ConnectError(f"{host} could not be reached: {error}. Check base_url and the network.")
        if isinstance(error, httpx.WriteTimeout):
            return RequestTimeoutError(f"{host} accepted none of the request for {self.timeouts.write:g} s.")
        if isinstance(error, httpx.TimeoutException):
            return RequestTimeoutError(f"{host} sent nothing for {silence:g} s.")
        if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, http.client.HTTPException, OSError)):
            reason = quoted(error, 300) or type(error).__name__
            return ConnectionLostError(f"The connection to {host} was lost before the response was complete: {reason}")
        return TransportError(f"The exchange with {host} failed: {error}")


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class EventStream:
    """The events of one response, as they arrive. Iterate it, then close it; closing early ends the exchange."""

    def __init__(
        self, transport: Transport, pieces: Iterator[bytes], end: Callable[[], None], request_id: str | None
    ) -> None:
        self._transport = transport
        self._pieces = pieces
        self._end = end
        self._closed = False
        self.request_id = request_id

    def __iter__(self) -> Iterator[ServerSentEvent]:
        transport, decoder, pieces = self._transport, EventDecoder(), self._pieces
        while not self._closed:
            piece = transport._map_exceptions(lambda: next(pieces, None), transport.timeouts.idle)
            if piece is None:
                break
            yield from decoder.feed(piece)
        if transport.aborted:
            raise RequestCancelledError("The call was stopped.")
        yield from decoder.close()

    def close(self) -> None:
        self._closed = True
        self._end()

    def __del__(self) -> None:
        # An unreferenced stream would continue, and be paid for, until it is collected.
        with contextlib.suppress(Exception):
            self.close()


def _read(response: httpx.Response) -> httpx.Response:
    try:
        response.read()
    except BaseException:
        response.close()
        raise
    return response


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One context for the process: loading the certificates for each worker's client takes tens of milliseconds."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _empty_tls_context() -> ssl.SSLContext:
    """A context without certificates, for plain http: it trusts no host."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Offline(httpx.BaseTransport):
    """Raises ReplayMissError with this message for every request, before any socket is opened."""

    def __init__(self, message: str) -> None:
        self._message = message

    def handle_request(self, request: httpx.Request) -> NoReturn:
        raise ReplayMissError(self._message)
