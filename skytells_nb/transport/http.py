"""Send one request, get one answer or one stream of events, or one error of ours."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from skytells_nb.errors import (
    AnswerError,
    APIError,
    CancelledError,
    ConnectError,
    ConnectionLostError,
    RequestTimeoutError,
    SkytellsError,
    TransportError,
    api_error,
)
from skytells_nb.transport.address import find_base_url, is_loopback, origin_of
from skytells_nb.transport.keys import Key, KeyAuth, find_key
from skytells_nb.transport.limits import RateLimits, read_limits, read_retry_after
from skytells_nb.transport.sse import EventDecoder, ServerSentEvent


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. There is no limit on a whole stream, only on its silence (``idle``)."""

    connect: float = 10.0
    read: float = 600.0
    idle: float = 120.0
    write: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer with status 2xx."""

    content: bytes
    request_id: str | None


class Transport:
    """One address, one key, a few connections. Safe to use from several threads; fastest with one each.

    ``http`` replaces the network, for example with ``httpx.MockTransport``.
    """

    def __init__(
        self,
        api_key: str | Key | None = None,
        *,
        base_url: str | None = None,
        timeouts: Timeouts | None = None,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = find_base_url(base_url)
        self.origin = origin_of(self.base_url)
        self.timeouts = timeouts or Timeouts()
        self.limits: RateLimits | None = None
        """The account's limits as the last answer told them."""
        self.aborted = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        # A proxy from the environment must never see what is meant for this machine.
        trust_env = not is_loopback(urlsplit(self.base_url).hostname or "")
        self._http = httpx.Client(
            auth=KeyAuth(find_key(api_key)),
            transport=http,
            verify=_ssl_context(),
            trust_env=trust_env,
            follow_redirects=False,
            headers={"user-agent": "skytells-nb", "accept-encoding": "identity"},
        )

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """One exchange; raises an APIError for any status but 2xx, a TransportError where no answer came."""
        with self._errors():
            response = self._http.send(self._request(method, path, body, self.timeouts.read))
            self._check(response)
        return Reply(response.content, _request_id(response))

    def stream(self, path: str, body: bytes) -> EventStream:
        """A stream of events; raises like ``send`` before the first one. Close it to end the exchange."""
        with self._errors():
            request = self._request("POST", path, body, self.timeouts.idle)
            request.headers["accept"] = "text/event-stream"
            response = self._http.send(request, stream=True)
            try:
                if response.is_success and "text/event-stream" in response.headers.get("content-type", ""):
                    self.limits = read_limits(response.headers) or self.limits
                    return EventStream(self, response)
                response.read()
                self._check(response)
                kind = response.headers.get("content-type", "no content type")
                raise AnswerError(f"A stream was asked for and {kind} came.", request_id=_request_id(response))
            except BaseException:
                response.close()
                raise

    def abort(self) -> None:
        """Cut every open connection now, from any thread; calls under way end with CancelledError."""
        self.aborted = True
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()

    def _request(self, method: str, path: str, body: bytes | None, read_timeout: float) -> httpx.Request:
        if self.aborted:
            raise CancelledError("The call was stopped.")
        limits = self.timeouts
        return self._http.build_request(
            method,
            self.base_url + path,
            content=body,
            headers={"content-type": "application/json"} if body is not None else None,
            timeout=httpx.Timeout(read_timeout, connect=limits.connect, write=limits.write),
            extensions={"trace": self._trace},
        )

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Remember the sockets as they open: a blocked read ends only when its socket is shut down."""
        if event == "connection.connect_tcp.complete":
            sock = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets = {s for s in self._sockets if s.fileno() >= 0}
                self._sockets.add(sock)
            if self.aborted:
                self.abort()

    def _check(self, response: httpx.Response) -> None:
        self.limits = read_limits(response.headers) or self.limits
        status = response.status_code
        if response.is_success:
            return
        if response.is_redirect:
            target = origin_of(response.headers.get("location", "")).rstrip(":/") or "another path"
            raise APIError(
                f"{self.origin} redirected to {target}. It was not followed: the key goes to {self.origin} only. "
                "If the service has moved, set base_url.",
                status=status,
                request_id=_request_id(response),
            )
        try:
            body: Any = json.loads(response.content)
        except ValueError:
            body = response.content[:2000].decode("utf-8", "replace")
        raise api_error(status, body, request_id=_request_id(response), retry_after=read_retry_after(response.headers))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Every failure of the network as one of ours, without the frames and requests of the library below."""
        try:
            yield
        except SkytellsError:
            raise
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as problem:
            error = problem
        else:
            return
        self._raise(error)

    def _raise(self, error: Exception) -> NoReturn:
        host = urlsplit(self.base_url).netloc
        if self.aborted:
            raise CancelledError("The call was stopped.") from None
        if isinstance(error, httpx.ConnectTimeout):
            raise ConnectError(f"{host} did not accept a connection within {self.timeouts.connect:g} s.") from None
        if isinstance(error, httpx.ConnectError):
            raise ConnectError(f"{host} could not be reached: {error}. Check base_url and the network.") from None
        if isinstance(error, httpx.TimeoutException):
            raise RequestTimeoutError(f"{host} was silent for too long.") from None
        if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, OSError)):
            what = str(error) or type(error).__name__
            raise ConnectionLostError(f"The connection to {host} broke before the answer was there: {what}") from None
        raise TransportError(f"The exchange with {host} failed: {error}") from None


class EventStream:
    """The events of one answer, as they arrive. Iterate it, then close it; closing early ends the exchange."""

    def __init__(self, transport: Transport, response: httpx.Response) -> None:
        self._transport = transport
        self._response = response
        self.request_id = _request_id(response)

    def __iter__(self) -> Iterator[ServerSentEvent]:
        decoder = EventDecoder()
        with self._transport._errors():
            for piece in self._response.iter_raw():
                yield from decoder.feed(piece)
            yield from decoder.close()

    def close(self) -> None:
        self._response.close()


def _request_id(response: httpx.Response) -> str | None:
    return response.headers.get("x-request-id") or None


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """One for the process: loading the certificates again for each worker's client costs tens of milliseconds."""
    return httpx.create_ssl_context()
