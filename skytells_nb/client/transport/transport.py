"""Send a request and return a response, an event stream, or a library error."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from skytells_nb.client.transport.auth import APIKey, KeyAuth, as_api_key, resolve_api_key
from skytells_nb.client.transport.base_url import is_loopback, origin_of, resolve_base_url
from skytells_nb.client.transport.http11 import LARGE_BYTES, HTTPConnectionPool, RawResponse, pause
from skytells_nb.client.transport.http_response import announced_length, is_unencoded
from skytells_nb.client.transport.httpx_responses import iter_pieces, read_response
from skytells_nb.client.transport.proxy_and_tls import empty_tls_context, proxy_for, tls_context
from skytells_nb.client.transport.rate_limits import RateLimits, read_limits
from skytells_nb.client.transport.request_options import DEFAULT_MAX_ANSWER_MB, NO_OPTIONS, RequestOptions, Timeouts
from skytells_nb.client.transport.sse import (
    BLANKS,
    EventDecoder,
    ServerSentEvent,
    beginning,
    is_event_stream,
    json_events,
    pieces_as_utf8,
)
from skytells_nb.client.transport.status_errors import error_from_response, not_events
from skytells_nb.client.transport.transport_errors import no_progress_error, seconds_to_retry, transport_error
from skytells_nb.errors import (
    ConfigurationError,
    RequestCancelledError,
    SkytellsError,
    TransportError,
)
from skytells_nb.sanitize import NAME_CHARS, quoted, quoted_name, register_secret

T = TypeVar("T")

_log = logging.getLogger(__name__)

_EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """A whole response with status 2xx."""

    content: bytes = field(repr=False)
    """Not in the representation: a traceback with variables would show it, and a proxy may put the key into it."""
    request_id: str | None
    origin: str = field(default="", compare=False)
    """Where it came from, for what is reported once for each service."""
    content_type: str = field(default="", compare=False)


class PendingResponse:
    """A large response whose body begins to arrive: ``read`` it once, from any thread."""

    def __init__(self, transport: Transport, read: Callable[[], ResponseBody], timeouts: Timeouts) -> None:
        self._transport = transport
        self._read = read
        self._timeouts = timeouts

    def read(self) -> ResponseBody:
        """Read the whole response; raises like ``Transport.send``."""
        return self._transport._map_exceptions(self._read, self._timeouts)


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
        max_answer_mb: float = DEFAULT_MAX_ANSWER_MB,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = as_api_key(api_key)
        self.base_url = resolve_base_url(base_url)
        self.origin = origin_of(self.base_url)
        self.timeouts = timeouts or Timeouts()
        if isinstance(max_answer_mb, bool) or not isinstance(max_answer_mb, (int, float)) or not max_answer_mb > 0:
            raise ConfigurationError(f"max_answer_mb must be a number greater than 0, got {max_answer_mb!r}.")
        self._max_bytes = int(min(max_answer_mb * 1e6, 2**60))
        self.limits: RateLimits | None = None
        """The account's rate limits as the last response reported them."""
        self._root = self
        """The transport whose connections this one uses, see ``with_options``."""
        self._resent = 0
        self._stop = threading.Event()
        self._options = NO_OPTIONS
        self._max_retries = 0
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        key = resolve_api_key(api_key)
        self._auth = KeyAuth(key)
        register_secret(key)
        self._network = http
        _transports.add(self)
        parts = urlsplit(self.base_url)
        self._host = parts.netloc
        self._tls = tls_context() if http is None and parts.scheme == "https" else None
        # A proxy from the environment must never see requests to this machine.
        local = http is not None or is_loopback(parts.hostname or "")
        self._proxy = None if local else proxy_for(self.base_url)
        self._direct: HTTPConnectionPool | None = None
        if http is None and self._proxy is None:
            self._direct = HTTPConnectionPool(
                self.base_url,
                key,
                _own_headers(),
                tls=self._tls,
                max_bytes=self._max_bytes,
                opened=self._track_socket,
                resend=self._count_resend,
            )

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def with_options(self, options: RequestOptions, max_retries: int | None = None) -> Transport:
        """Return a transport with other defaults, and the same connections."""
        if max_retries is not None and (
            isinstance(max_retries, bool) or not isinstance(max_retries, int) or not 0 <= max_retries <= 100
        ):
            raise ConfigurationError(f"max_retries must be a whole number from 0 to 100, got {max_retries!r}.")
        other = copy.copy(self)
        other._options = options.with_defaults(self._options)
        other.timeouts = options.timeouts or self.timeouts
        if max_retries is not None:
            other._max_retries = max_retries
        return other

    @property
    def aborted(self) -> bool:
        """Whether ``abort`` was called."""
        return self._root._stop.is_set()

    @property
    def resent(self) -> int:
        """Requests that were sent a second time, because the server had closed their reused connection."""
        return self._root._resent

    def send(
        self, method: str, path: str, body: bytes | None = None, options: RequestOptions = NO_OPTIONS
    ) -> ResponseBody:
        """Make one exchange; raises APIError for a status other than 2xx, TransportError if no response arrives."""

        def exchange() -> ResponseBody:
            started = self._start(method, path, body, options)
            return started if isinstance(started, ResponseBody) else started.read()

        return self._retry(exchange)

    def begin(
        self, method: str, path: str, body: bytes | None = None, options: RequestOptions = NO_OPTIONS
    ) -> ResponseBody | PendingResponse:
        """Start ``send``; of a large response, the caller reads the body when it has memory for it."""
        return self._retry(lambda: self._start(method, path, body, options))

    def stream(self, path: str, body: bytes, options: RequestOptions = NO_OPTIONS) -> EventStream:
        """Open a stream of events; raises like ``send`` before the first one. Close it to end the exchange."""
        options = self._options if options is NO_OPTIONS else options.with_defaults(self._options)
        limits = options.timeouts or self.timeouts

        def exchange() -> EventStream:
            return self._map_exceptions(lambda: self._stream(path, body, options, limits), limits, streaming=True)

        return self._retry(exchange)

    def _start(
        self, method: str, path: str, body: bytes | None, options: RequestOptions
    ) -> ResponseBody | PendingResponse:
        options = self._options if options is NO_OPTIONS else options.with_defaults(self._options)
        limits = options.timeouts or self.timeouts
        return self._map_exceptions(lambda: self._begin(method, path, body, options, limits), limits)

    def _retry(self, exchange: Callable[[], T]) -> T:
        """Make an exchange, and again after a failure that may be over, as often as this transport does that."""
        for failures in itertools.count(1):
            try:
                return exchange()
            except SkytellsError as problem:
                wait = None if failures > self._max_retries else seconds_to_retry(problem, failures)
                if wait is None:
                    raise
                _log.info("%s: retrying in %.1f s", type(problem).__name__, wait)
            pause(self._root._stop, wait)
        raise AssertionError

    def abort(self) -> None:
        """Close every open connection now, from any thread; calls in flight end with RequestCancelledError."""
        if self._root is not self:
            self._root.abort()
            return
        self._stop.set()
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                # The plain socket's method: that of a TLS socket would drop its cipher while another thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        if self._root is not self:
            self._root.close()
            return
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
            proxy=None if self._proxy is None else self._proxy.proxy,
            verify=self._tls or empty_tls_context(),
            trust_env=False,
            follow_redirects=False,
            headers=_own_headers(),
        )

    def _begin(
        self, method: str, path: str, body: bytes | None, options: RequestOptions, limits: Timeouts
    ) -> ResponseBody | PendingResponse:
        self._check_usable()
        direct, target = self._direct, _target(path, options)
        if direct is None:
            deadline = time.monotonic() + limits.total
            response = self._root._http.send(
                self._request(method, target, body, options, limits, limits.read), stream=True
            )

            def read() -> ResponseBody:
                return self._checked_raw(read_response(response, self._max_bytes, deadline), method, target)

            large = response.is_success and (announced_length(response.headers) or 0) >= LARGE_BYTES
            return PendingResponse(self, read, limits) if large else read()
        started = direct.request(method, target, body, limits, options.headers)
        if isinstance(started, RawResponse):
            return self._checked_raw(started, method, target)
        return PendingResponse(self, lambda: self._checked_raw(direct.read_body(started), method, target), limits)

    def _checked_raw(self, raw: RawResponse, method: str, path: str) -> ResponseBody:
        if not raw.is_plain_json:
            return self._checked(raw.to_httpx(method, self.base_url + path, self._max_bytes))
        self.limits = read_limits(raw.headers) or self.limits
        headers = raw.headers
        return ResponseBody(raw.content, self._request_id(headers), self.origin, headers["content-type"])

    def _checked(self, response: httpx.Response) -> ResponseBody:
        content = self._content(response)
        self._check(response, content)
        if self.aborted and not {"content-length", "transfer-encoding"} & set(response.headers):
            # The connection's end delimits this body, and ``abort`` may have ended it.
            raise RequestCancelledError("The call was stopped.")
        kind = response.headers.get("content-type", "")
        return ResponseBody(content, self._request_id(response.headers), self.origin, kind)

    def _stream(self, path: str, body: bytes, options: RequestOptions, limits: Timeouts) -> EventStream:
        self._check_usable()
        target = _target(path, options)
        if self._direct is None:
            deadline = time.monotonic() + limits.stream
            request = self._request("POST", target, body, options, limits, limits.idle, _EVENTS)
            response = self._root._http.send(request, stream=True)
            if not response.is_success or not is_unencoded(response.headers):
                raw = read_response(response, self._max_bytes, deadline)
                return self._decoded(raw.to_httpx("POST", str(response.request.url), self._max_bytes), limits)
            pieces = iter_pieces(response, self._max_bytes, deadline)
            return self._events(response.headers, pieces, response.close, limits)
        opened = self._direct.stream(target, body, limits, options.headers)
        if not 200 <= opened.status < 300 or not is_unencoded(opened.headers):
            response = opened.read_rest().to_httpx("POST", self.base_url + target, self._max_bytes)
            return self._decoded(response, limits)
        return self._events(opened.headers, opened.iter_bytes(), opened.close, limits)

    def _decoded(self, response: httpx.Response, limits: Timeouts) -> EventStream:
        """Return the events of a response that was read whole; raises the error that it is by its status."""
        self._check(response, self._content(response))
        return self._events(response.headers, iter((response.content,)), response.close, limits)

    def _events(
        self, headers: Mapping[str, str], pieces: Iterator[bytes], end: Callable[[], None], limits: Timeouts
    ) -> EventStream:
        """Return the events of a success, by what it says; raises its error if it contains one instead."""
        self.limits = read_limits(headers) or self.limits
        request_id = self._request_id(headers)
        kind = headers.get("content-type", "no content type")
        pieces = pieces_as_utf8(pieces)
        if _EVENTS in kind.lower():
            return EventStream(self, pieces, end, request_id, limits)
        kind = quoted(kind, NAME_CHARS)
        try:
            limited = self._until(time.monotonic() + limits.keep_alives, pieces, limits)
            begun = beginning(limited)
            if is_event_stream(begun):
                return EventStream(self, itertools.chain((begun,), pieces), end, request_id, limits)
            content = begun + b"".join(limited)
            error = not_events(content, kind, request_id, self._auth.redact)
            if error is not None:
                # Not in the variables of a traceback: it may show the key.
                del begun, content
                raise error
            return EventStream(self, iter((content,)), end, request_id, limits)
        except BaseException:
            end()
            raise

    def _until(self, deadline: float, pieces: Iterator[bytes], limits: Timeouts) -> Iterator[bytes]:
        """Yield the pieces that arrive by the deadline; raise after one that does not."""
        for piece in pieces:
            yield piece
            if time.monotonic() > deadline:
                raise no_progress_error(self._host, limits)

    def _check_usable(self) -> None:
        if self.aborted:
            raise RequestCancelledError("The call was stopped.")
        if self._root._closed:
            raise TransportError("This client is closed; connect again, or create another one.")

    def _count_resend(self, method: str, path: str) -> None:
        if self.aborted:
            raise RequestCancelledError("The call was stopped.")
        with self._lock:
            self._resent += 1
        _log.debug("%s %s: the server had closed the reused connection; sent again on a new one", method, path)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        options: RequestOptions,
        limits: Timeouts,
        silence: float,
        accept: str = "*/*",
    ) -> httpx.Request:
        headers = {"accept": accept} | ({"content-type": "application/json"} if body is not None else {})
        return self._root._http.build_request(
            method,
            self.base_url + path,
            content=body,
            headers=headers | dict(options.headers),
            timeout=httpx.Timeout(silence, connect=limits.connect, write=limits.write),
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

    def _map_exceptions(self, action: Callable[[], T], limits: Timeouts, *, streaming: bool = False) -> T:
        """Return what ``action`` returns; raises its failure as a library error.

        Whatever a response is, it must not end more than its own call: what Python raises for a number with thousands
        of digits or a length that no memory holds is an error of the exchange too. Errors are raised outside their
        handler and an interrupt loses its frames: the exception that the caller gets references neither frames of the
        libraries below nor their requests, which contain the key.
        """
        try:
            return action()
        except KeyboardInterrupt as interrupt:
            failure: BaseException = interrupt.with_traceback(None)
        except SkytellsError:
            raise
        except Exception as problem:
            variable = None if self._proxy is None else self._proxy.variable
            failure = (
                RequestCancelledError("The call was stopped.")
                if self.aborted
                else transport_error(problem, self._host, limits, variable, streaming=streaming)
            )
        try:
            raise failure
        finally:
            del failure


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class EventStream:
    """The events of one response, as they arrive. Iterate it, then close it; closing early ends the exchange."""

    def __init__(
        self,
        transport: Transport,
        pieces: Iterator[bytes],
        end: Callable[[], None],
        request_id: str | None,
        timeouts: Timeouts,
    ) -> None:
        self._transport = transport
        self._pieces = pieces
        self._end = end
        self._timeouts = timeouts
        self._closed = False
        self.request_id = request_id
        self.is_json = False
        """Whether the body turned out to be JSON instead of a stream of events."""
        self.origin = transport.origin
        self._decoder = EventDecoder()
        self.waiting_since: float | None = None
        """When the first piece arrived since this was set to ``None``: its reader does that for each part it awaits."""

    def __iter__(self) -> Iterator[ServerSentEvent]:
        transport, decoder, pieces = self._transport, self._decoder, self._pieces
        held: list[bytes] = []
        first = b""
        while not self._closed:
            piece = transport._map_exceptions(lambda: next(pieces, None), self._timeouts, streaming=True)
            if piece is None:
                break
            # What it is shows at its first character: some gateways answer with JSON under this content type.
            first = first or piece.lstrip(BLANKS)[:1]
            if not first or first in b"{[":
                held.append(piece)
                if first:
                    continue
            else:
                if held:
                    piece, held = b"".join((*held, piece)), []
                yield from decoder.feed(piece)
            self._check_progress()
        if transport.aborted:
            raise RequestCancelledError("The call was stopped.")
        self.is_json = bool(held)
        yield from json_events(b"".join(held)) if held else decoder.close()

    @property
    def other_text(self) -> str:
        """What came between the events and is none; without the key that a proxy may have put in it."""
        return self._transport._auth.redact(self._decoder.other_lines).decode("utf-8", "replace").strip()

    def _check_progress(self) -> None:
        """Raise RequestTimeoutError if pieces have arrived for too long without a part of the answer."""
        now = time.monotonic()
        if self.waiting_since is None:
            self.waiting_since = now
        elif now - self.waiting_since > self._timeouts.keep_alives:
            raise no_progress_error(self._transport._host, self._timeouts)

    def close(self) -> None:
        self._closed = True
        self._end()

    def __del__(self) -> None:
        # An unreferenced stream would continue, and be paid for, until it is collected.
        with contextlib.suppress(Exception):
            self.close()


def _target(path: str, options: RequestOptions) -> str:
    return f"{path}?{options.query}" if options.query else path


@functools.cache
def _own_headers() -> dict[str, str]:
    version = sys.modules["skytells_nb"].__version__  # not imported: the package imports this module
    return {"user-agent": f"skytells-nb/{version}", "accept-encoding": "identity"}
