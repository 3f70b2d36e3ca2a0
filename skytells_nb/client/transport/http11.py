"""HTTP/1.1 connections and their pool, over the standard library's sockets."""

from __future__ import annotations

import http.client
import io
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import httpx

from skytells_nb.client.transport.auth import APIKey

_LINE_BYTES = 65_536
_MAX_FIELDS = 100
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FRAMING = frozenset(("content-length", "transfer-encoding"))
"""Header fields that define where a body ends: two different values would be ambiguous."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The status line and header fields, by lower-case names; repeated fields are joined by commas."""

    minor: int
    """Minor version: 1 for HTTP/1.1."""
    status: int
    fields: dict[str, str]

    @property
    def is_informational(self) -> bool:
        return 100 <= self.status < 200

    @property
    def chunked(self) -> bool:
        return self.fields.get("transfer-encoding", "").lower() == "chunked"

    @property
    def length(self) -> int | None:
        """Bytes of the body, ``None`` if the last chunk or the connection's end delimits it."""
        if self.is_informational or self.status in (204, 304):
            return 0
        length = self.fields.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and not self.chunked else None

    @property
    def connection_close(self) -> bool:
        """Whether the server closes the connection after this response."""
        options = self.fields.get("connection", "").lower()
        if "close" in options or (self.minor == 0 and "keep-alive" not in options):
            return True
        return not self.chunked and self.length is None


def read_head(stream: io.BufferedIOBase) -> ResponseHead:
    """Read the next head; raises HTTPException if it is invalid, RemoteDisconnected if it is incomplete."""
    minor, status = _status(_line(stream))
    fields: dict[str, str] = {}
    name = ""
    for _ in range(_MAX_FIELDS + 1):
        line = _line(stream)
        if line in ("\r\n", "\n"):
            return ResponseHead(minor, status, fields)
        if line[0] in " \t" and name:
            # Obsolete line folding: the line continues the one before.
            fields[name] = f"{fields[name]} {line.strip()}".strip()
            continue
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not _NAME(name):
            raise http.client.HTTPException("the head of the response is not valid HTTP")
        if name not in fields:
            fields[name] = value
        elif name not in _FRAMING:
            fields[name] += f", {value}"
        elif fields[name] != value:
            raise http.client.HTTPException(f"the response has two different {name} fields")
    raise http.client.HTTPException(f"the response has more than {_MAX_FIELDS} header fields")


def _status(line: str) -> tuple[int, int]:
    version, _, rest = line.partition(" ")
    code = rest[:3]
    known = version[:-1] == "HTTP/1." and version[-1].isdigit()
    if not known or not (code.isascii() and code.isdigit()) or code < "100" or rest[3:4].strip():
        raise http.client.BadStatusLine(line[:80])
    return min(int(version[-1]), 1), int(code)


def _line(stream: io.BufferedIOBase) -> str:
    line = stream.readline(_LINE_BYTES + 1)
    if len(line) > _LINE_BYTES:
        raise http.client.LineTooLong("header line")
    if not line.endswith(b"\n"):
        raise http.client.RemoteDisconnected("the server closed the connection within the head of its response")
    return line.decode("latin-1")


_READ_BYTES = 16_384
# TLS has its own errors for a connection that ended without close_notify, and for writing after close_notify.
_CLOSED_BY_PEER = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
LARGE_BYTES = 1 << 20
"""Bodies of this size are large."""


@dataclass(frozen=True, slots=True, repr=False)
class RawResponse:
    """A response with its body as sent, and its headers by lower-case names.

    It has no repr of its own: a proxy's page may contain the key.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_plain_json(self) -> bool:
        """Whether it is complete, unencoded JSON with status 200, as nearly every response."""
        headers = self.headers
        known_length = "content-length" in headers or "transfer-encoding" in headers
        encoded = "content-encoding" in headers
        return self.status == 200 and known_length and not encoded and "json" in headers.get("content-type", "")

    def to_httpx(self, method: str, url: str) -> httpx.Response:
        """Return the response as httpx would, decoded."""
        # As a stream: httpx would add a content-length to plain content.
        body = httpx.ByteStream(self.content)
        response = httpx.Response(
            self.status, headers=dict(self.headers), stream=body, request=httpx.Request(method, url)
        )
        response.read()
        return response


class UnansweredError(ConnectionError):
    """The server closed the connection before the first byte of a response."""


class _Response(http.client.HTTPResponse):
    """The standard library's reader of bodies with our reader of heads; informational responses are skipped."""

    fp: io.BufferedReader

    def __init__(self, sock: _PrefixedSocket, method: str) -> None:
        super().__init__(cast(socket.socket, sock), method=method)

    def begin(self) -> None:
        head = read_head(self.fp)
        while head.is_informational:
            head = read_head(self.fp)
        self.head = head
        self.status = head.status
        self.chunked, self.chunk_left = head.chunked, None
        self.length, self.will_close = head.length, head.connection_close


class BodyStream:
    """A response whose head was read: its body can be read as it arrives, or whole. ``close`` ends it early."""

    def __init__(self, connection: Connection, response: _Response, received: bytes = b"") -> None:
        self.connection = connection
        self._response = response
        self._received = received
        self.status = response.status
        self.headers: Mapping[str, str] = response.head.fields

    @property
    def is_event_stream(self) -> bool:
        """Whether it is an unencoded stream of events."""
        kind = self.headers.get("content-type", "").lower()
        return 200 <= self.status < 300 and "text/event-stream" in kind and "content-encoding" not in self.headers

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield bytes as they arrive; raises like ``HTTPConnectionPool.request``."""
        try:
            # Without a size, read1 returns what one read of the socket returns.
            while piece := self._response.read1():
                yield piece
        except TimeoutError:
            raise httpx.ReadTimeout("the stream was silent") from None
        finally:
            self.close()

    def read_rest(self) -> RawResponse:
        """Read the rest of a response that is not a stream of events."""
        return RawResponse(self.status, self.headers, b"".join(self.iter_bytes()))

    def read(self) -> RawResponse:
        """Read the whole response and leave the connection open; raises like ``HTTPConnectionPool.request``."""
        try:
            content = self._response.read()
            if self._received:
                content = self._received + content
        except BaseException as problem:
            self.connection.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no response in time") from None
            raise
        finally:
            self._response.close()
        if self._response.will_close:
            self.connection.close()
        return RawResponse(self.status, self.headers, content)

    def close(self) -> None:
        self._response.close()
        self.connection.close()


def _parse_complete(received: bytes) -> tuple[ResponseHead, bytes] | None:
    """Parse a response that arrived in one piece, as short ones do; ``None`` if more follows.

    The standard library creates a file and a response object for each: a tenth of the cost of a completion.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = io.BytesIO(received[: end + 4])
    head = read_head(lines)
    body = received[lines.tell() :]
    if head.is_informational or head.length is None or len(body) < head.length:
        return None
    return head, body


class _PrefixedSocket(io.RawIOBase):
    """A socket of which some bytes were read already, in the form that the standard library expects."""

    def __init__(self, sock: socket.socket, received: bytes) -> None:
        self._sock = sock
        self._received = received

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(self._received), len(buffer))
        if not size:
            return self._sock.recv_into(buffer)
        buffer[:size], self._received = self._received[:size], self._received[size:]
        return size


class Connection:
    """One connection; after a response that ends it, it is closed and ``sock`` is ``None``.

    The standard library reads the bodies of responses. Requests have the same few header lines each time; the standard
    library would check them one by one, at a fifth of the cost of an exchange.
    """

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self._timeout: float | None = None
        self._method = ""

    def open(
        self, url: httpx.URL, tls: ssl.SSLContext | None, timeout: float, opened: Callable[[socket.socket], None]
    ) -> None:
        host, port = url.raw_host.decode("ascii"), url.port or (443 if tls is not None else 80)
        sock = self.sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened(sock)
        if tls is not None:
            # Reported before its handshake, so that a handshake with a silent server can be aborted too.
            secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            self.sock = secured
            opened(secured)
            secured.do_handshake()
        self._timeout = timeout

    def close(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def is_readable(self) -> bool:
        """Whether the server has closed the connection or sent unexpected bytes."""
        if not hasattr(select, "poll"):
            return bool(select.select([self._open_socket()], [], [], 0)[0])
        poll = select.poll()
        poll.register(self._open_socket(), select.POLLIN)
        return bool(poll.poll(0))

    def send(self, method: str, head: bytes, key: APIKey, body: bytes | None, together: bool) -> None:
        """Send a request; ``head`` is its head up to the value of the key."""
        self._method = method
        if body is None:
            body, end = b"", b"\r\n\r\n"
        else:
            end = b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        sock = self._open_socket()
        try:
            # Without a variable for bytes that contain the key: a traceback shows the values of variables.
            if together:
                # Each call of sendall releases the interpreter lock.
                sock.sendall(b"".join((head, key.reveal().encode("ascii"), end, body)))
            else:
                sock.sendall(b"".join((head, key.reveal().encode("ascii"), end)))
                sock.sendall(body)
        except TimeoutError:
            raise httpx.WriteTimeout("the request was not accepted in time") from None
        except _CLOSED_BY_PEER:
            # A server may respond before the request is complete, and close: its response says why.
            pass

    def read_head(self) -> BodyStream:
        """Read the head of the response; raises like ``read_response``."""
        response = _Response(_PrefixedSocket(self._open_socket(), self._first_bytes()), method=self._method)
        try:
            response.begin()
        except BaseException as problem:
            response.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no response in time") from None
            raise
        return BodyStream(self, response)

    def read_response(self) -> RawResponse | BodyStream:
        """Read the response, a large one up to the start of its body; raises UnansweredError if no byte arrives."""
        first = self._first_bytes()
        complete = _parse_complete(first)
        if complete is not None:
            head, content = complete
            if head.connection_close or len(content) > (head.length or 0):
                self.close()
            return RawResponse(head.status, head.fields, content[: head.length])
        response = _Response(_PrefixedSocket(self._open_socket(), first), method=self._method)
        received = b""
        try:
            response.begin()
            if response.length is None:
                received = response.read(LARGE_BYTES)
            elif response.length >= LARGE_BYTES:
                # Some gateways send the head while the body is still being generated.
                response.fp.peek(1)
        except BaseException as problem:
            response.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no response in time") from None
            raise
        body = BodyStream(self, response, received)
        large = (response.length or len(received)) >= LARGE_BYTES and response.status == 200
        return body if large else body.read()

    def set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._open_socket().settimeout(seconds)
            self._timeout = seconds

    def _first_bytes(self) -> bytes:
        """Receive the first bytes of a response."""
        try:
            first = self._open_socket().recv(_READ_BYTES)
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time") from None
        except _CLOSED_BY_PEER as problem:
            raise UnansweredError(str(problem)) from None
        if not first:
            raise UnansweredError("the server closed the connection without a response")
        return first

    def _open_socket(self) -> socket.socket:
        if self.sock is None:
            raise httpx.ConnectError("the connection is closed")
        return self.sock


T = TypeVar("T")

_EVENTS = "text/event-stream"
KEEP_ALIVE_S = 5.0
"""Seconds that an idle connection is reusable, as in httpx: gateways close them after a minute, some after 5 s."""
_SEND_BUFFER_BYTES = 8_192
"""Bytes that the kernel accepts without waiting: every system's send buffer is at least that large."""


class HTTPConnectionPool:
    """Reusable connections to one origin. Safe for several threads.

    A server may close an idle connection just as a request is sent on it. A request on a reused connection without a
    single byte of a response is therefore sent once more, on a new connection. ``resend`` is called before that, and
    may raise. Nothing else is sent twice.

    ``opened`` is called with every new socket. Raises httpx's errors, OSError and HTTPException.
    """

    def __init__(
        self,
        base_url: str,
        key: APIKey,
        headers: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None,
        connect_s: float,
        opened: Callable[[socket.socket], None],
        resend: Callable[[str, str], None],
    ) -> None:
        self._base_url = base_url
        self._key = key
        self._headers = headers
        self._tls = tls
        self._connect_s = connect_s
        self._opened = opened
        self._resend = resend
        self._heads: dict[tuple[str, str, str], bytes] = {}
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    def request(
        self, method: str, path: str, body: bytes | None, *, write_s: float, read_s: float
    ) -> RawResponse | BodyStream:
        """Send a request and read its response, a large one up to the start of its body; timeouts are of inactivity.

        A BodyStream must be passed to ``read_body``.
        """

        def exchange(connection: Connection) -> RawResponse | BodyStream:
            together = body is None or len(body) <= _SEND_BUFFER_BYTES
            connection.set_timeout(read_s if together else write_s)
            connection.send(method, self._head(method, path), self._key, body, together)
            connection.set_timeout(read_s)
            response = connection.read_response()
            if isinstance(response, RawResponse):
                self._release(connection)
            return response

        return self._exchange(exchange, method, path)

    def read_body(self, body: BodyStream) -> RawResponse:
        """Read the rest of a large response and release its connection."""
        response = body.read()
        self._release(body.connection)
        return response

    def stream(self, path: str, body: bytes, *, write_s: float, idle_s: float) -> BodyStream:
        """Send a request and read the head of its response; the connection belongs to the stream and closes with it."""

        def exchange(connection: Connection) -> BodyStream:
            connection.set_timeout(write_s)
            connection.send("POST", self._head("POST", path, _EVENTS), self._key, body, len(body) <= _SEND_BUFFER_BYTES)
            connection.set_timeout(idle_s)
            return connection.read_head()

        return self._exchange(exchange, "POST", path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def reset_after_fork(self) -> None:
        """Drop all idle connections in a forked child: the parent uses them."""
        self._lock = threading.Lock()
        idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _exchange(self, exchange: Callable[[Connection], T], method: str, path: str) -> T:
        """Make an exchange on an idle or new connection, and again on a new one if the idle one was closed."""
        connection, reused = self._take()
        while True:
            try:
                return exchange(connection)
            except BaseException as problem:
                connection.close()
                if not (reused and isinstance(problem, UnansweredError)):
                    raise
            self._resend(method, path)
            connection, reused = self._open(), False

    def _head(self, method: str, path: str, accept: str = "*/*") -> bytes:
        """Return the request line and the headers that every request has, up to the value of the key."""
        known = self._heads.get((method, path, accept))
        if known is None:
            url = httpx.URL(self._base_url + path)
            headers = {"accept": accept, **self._headers}
            lines = [(b"host", url.netloc), *((k.encode("ascii"), v.encode("ascii")) for k, v in headers.items())]
            target = b" ".join((method.encode("ascii"), url.raw_path, b"HTTP/1.1"))
            known = b"".join([target, b"\r\n", *(b"%s: %s\r\n" % line for line in lines), b"x-api-key: "])
            self._heads[method, path, accept] = known
        return known

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it is a reused one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                since, connection = self._idle.pop()
            if time.monotonic() - since < KEEP_ALIVE_S and not connection.is_readable():
                return connection, True
            connection.close()
        return self._open(), False

    def _open(self) -> Connection:
        connection = Connection()
        try:
            connection.open(httpx.URL(self._base_url), self._tls, self._connect_s, self._opened)
        except BaseException as problem:
            connection.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ConnectTimeout("no connection in time") from None
            if isinstance(problem, OSError):
                raise httpx.ConnectError(str(problem)) from None
            raise
        return connection

    def _release(self, connection: Connection) -> None:
        if connection.sock is None:
            return
        with self._lock:
            if not self._closed:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()
