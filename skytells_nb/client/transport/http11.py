"""HTTP/1.1 connections and their pool, over the standard library's sockets."""

from __future__ import annotations

import errno
import io
import math
import os
import select
import socket
import ssl
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from skytells_nb.client.transport.auth import APIKey
from skytells_nb.client.transport.http_response import BodyReader, ResponseHead, decode_body, read_final_head, read_head
from skytells_nb.client.transport.request_options import Headers, Timeouts
from skytells_nb.errors import InvalidResponseError

S = TypeVar("S")
T = TypeVar("T")
_READ_BYTES = 16_384
_SIGNAL_POLL_S = 0.25
"""How long the main thread waits at a time: a signal that comes just before a system call does not end it."""
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

    def to_httpx(self, method: str, url: str, max_bytes: int) -> httpx.Response:
        """Return the response decoded; raises InvalidResponseError if that is not possible or makes it too large."""
        # As bytes: httpx would refuse a text that is not ASCII, and with it the whole response.
        headers = [
            (n.encode("latin-1"), v.encode("latin-1")) for n, v in self.headers.items() if n != "content-encoding"
        ]
        encoding = self.headers.get("content-encoding", "")
        try:
            content = decode_body(self.content, encoding, max_bytes, self.headers) if encoding else self.content
        except InvalidResponseError:
            if 200 <= self.status < 300:
                raise
            content = b""  # the status says enough
        # As a stream: httpx would add a content-length to plain content.
        response = httpx.Response(
            self.status, headers=headers, stream=httpx.ByteStream(content), request=httpx.Request(method, url)
        )
        response.read()
        return response


class DeadlineExceeded(Exception):
    """The response was not complete at its deadline."""


class TooManyOpenFiles(httpx.ConnectError):
    """This process has no file descriptor left for a connection."""


class UnansweredError(ConnectionError):
    """The server closed the connection before the first byte of a response."""


class BodyStream:
    """A response whose head was read: its body can be read as it arrives, or whole. ``close`` ends it early."""

    def __init__(
        self,
        connection: Connection,
        head: ResponseHead,
        file: io.BufferedReader[Any],
        body: BodyReader,
        begun: bytes = b"",
    ) -> None:
        self.connection = connection
        self._file = file
        self._body = body
        self._begun = begun
        self.status = head.status
        self.headers: Mapping[str, str] = head.fields

    @property
    def is_event_stream(self) -> bool:
        """Whether it is an unencoded stream of events."""
        kind = self.headers.get("content-type", "").lower()
        return 200 <= self.status < 300 and "text/event-stream" in kind and "content-encoding" not in self.headers

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield bytes as they arrive; raises like ``HTTPConnectionPool.request``."""
        try:
            while piece := self._body.read_some():
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
            content = self._body.read()
            if self._begun:
                content = self._begun + content
        except BaseException as problem:
            self.connection.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no response in time") from None
            raise
        finally:
            self._file.close()
        if self._body.closes:
            self.connection.close()
        return RawResponse(self.status, self.headers, content)

    def close(self) -> None:
        self._file.close()
        self.connection.close()


def _parse_complete(received: bytes, max_bytes: int) -> tuple[ResponseHead, bytes] | None:
    """Parse a response that arrived in one piece, as short ones do; ``None`` if more follows.

    A file and a reader for each would be a tenth of the cost of a completion.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = io.BytesIO(received[: end + 4])
    head = read_head(lines)
    body = received[lines.tell() :]
    length = head.length
    if head.is_informational or length is None or not len(body) >= length <= max_bytes:
        return None
    return head, body


class _Incoming(io.RawIOBase):
    """What a connection receives, after some bytes that were read already."""

    def __init__(self, connection: Connection, received: bytes) -> None:
        self._connection = connection
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(self._received), len(buffer))
        if not size:
            return self._connection.receive_into(buffer)
        buffer[:size], self._received = self._received[:size], self._received[size:]
        return size


class Connection:
    """One connection; after a response that ends it, it is closed and ``sock`` is ``None``.

    Requests have the same few header lines each time; the standard library would check them one by one, at a fifth of
    the cost of an exchange.
    """

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self._silence = math.inf
        self._timeout: float | None = None
        """That of the socket, which may be a part of the silence that is allowed."""
        self._deadline = math.inf

    def open(
        self, url: httpx.URL, tls: ssl.SSLContext | None, timeout: float, opened: Callable[[socket.socket], None]
    ) -> None:
        """Connect within ``timeout`` seconds in all: a name may have several addresses, and TLS has its handshake."""
        deadline = time.monotonic() + timeout
        host, port = url.raw_host.decode("ascii"), url.port or (443 if tls is not None else 80)
        sock = self.sock = _connected(host, port, deadline)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened(sock)
        if tls is not None:
            # Reported before its handshake, so that a handshake with a silent server can be aborted too.
            secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            self.sock = secured
            opened(secured)
            secured.settimeout(_seconds_to(deadline))
            secured.do_handshake()

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

    def send(self, head: bytes, key: APIKey, body: bytes | None, together: bool) -> None:
        """Send a request; ``head`` is its head up to the value of the key."""
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

    def read_head(self, max_bytes: int) -> BodyStream:
        """Read the head of the response; raises like ``read_response``."""
        return self._begin_body(self._first_bytes(), max_bytes, whole=False)[0]

    def read_response(self, max_bytes: int) -> RawResponse | BodyStream:
        """Read the response, a large one up to the start of its body; raises UnansweredError if no byte arrives."""
        first = self._first_bytes()
        complete = _parse_complete(first, max_bytes)
        if complete is not None:
            head, content = complete
            if head.connection_close or len(content) > (head.length or 0):
                self.close()
            return RawResponse(head.status, head.fields, content[: head.length])
        body, large = self._begin_body(first, max_bytes, whole=True)
        return body if large else body.read()

    def _begin_body(self, first: bytes, max_bytes: int, *, whole: bool) -> tuple[BodyStream, bool]:
        """Return the body and whether it is large; with ``whole``, a part of it is awaited to know that."""
        file = io.BufferedReader(_Incoming(self, first))
        begun = b""
        try:
            head = read_final_head(file)
            body = BodyReader(file, head, max_bytes)
            if whole and body.length is None:
                begun = body.read(LARGE_BYTES)
            elif whole and (body.length or 0) >= LARGE_BYTES:
                # Some gateways send the head while the body is still being generated.
                body.wait()
        except BaseException as problem:
            file.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no response in time") from None
            raise
        large = (body.length or len(begun)) >= LARGE_BYTES and head.status == 200
        return BodyStream(self, head, file, body, begun), large

    def set_timeout(self, seconds: float) -> None:
        """Set the longest silence."""
        self._silence = seconds
        self._set_socket_timeout(seconds)

    def set_deadline(self, deadline: float) -> None:
        """Set the time by which the response must be complete, however steadily it arrives."""
        self._deadline = deadline

    def receive_into(self, buffer: Any) -> int:
        """Receive some bytes; raises TimeoutError after silence, DeadlineExceeded at the deadline."""
        sock, left = self._open_socket(), self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded
        try:
            return self._receive(sock.recv_into, buffer, min(left, self._silence))
        except TimeoutError:
            if left < self._silence:
                raise DeadlineExceeded from None
            raise

    def _first_bytes(self) -> bytes:
        """Receive the first bytes of a response."""
        try:
            first = self._receive(self._open_socket().recv, _READ_BYTES, self._silence)
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time") from None
        except _CLOSED_BY_PEER as problem:
            raise UnansweredError(str(problem)) from None
        if not first:
            raise UnansweredError("the server closed the connection without a response")
        return first

    def _receive(self, receive: Callable[[S], T], into: S, seconds: float) -> T:
        """Receive some bytes; raises TimeoutError after so many seconds. Ctrl-C ends it whenever it comes."""
        if threading.current_thread() is not threading.main_thread():
            self._set_socket_timeout(seconds)
            return receive(into)
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            self._set_socket_timeout(min(max(left, 0.001), _SIGNAL_POLL_S))
            try:
                return receive(into)
            except TimeoutError:
                if left <= _SIGNAL_POLL_S:
                    raise

    def _set_socket_timeout(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._open_socket().settimeout(seconds)
            self._timeout = seconds

    def _open_socket(self) -> socket.socket:
        if self.sock is None:
            raise httpx.ConnectError("the connection is closed")
        return self.sock


def pause(stopped: threading.Event, seconds: float) -> None:
    """Wait for so many seconds, until this is set, or for Ctrl-C, whenever it comes."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped.wait(min(left, _SIGNAL_POLL_S)):
        pass


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """Return a socket that is connected to the first address that accepts, by the deadline."""
    if sys.platform == "emscripten":  # its connect() returns at once, and what is sent then goes nowhere
        raise OSError('Python in a browser has no sockets; replay a recording: connect(cache="replay:FILE")')
    failure: OSError | None = None
    # The addresses are not looked up for one that needs no look-up, and each may take all of the time.
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_seconds_to(deadline))
            sock.connect(address)
        except BaseException as problem:
            sock.close()
            if not isinstance(problem, OSError):
                raise
            failure = failure or problem
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _seconds_to(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no connection in time")
    return left


def is_too_many_open_files(problem: BaseException | None) -> bool:
    """Whether a failure, or its cause, is that too many files are open; looking up a name says it in other words."""
    while problem is not None:
        if getattr(problem, "errno", None) in (errno.EMFILE, errno.ENFILE):
            return True
        if isinstance(problem, socket.gaierror):
            try:
                os.close(os.open(os.devnull, os.O_RDONLY))
            except OSError as other:
                return other.errno in (errno.EMFILE, errno.ENFILE)
        problem = problem.__cause__ or problem.__context__
    return False


_EVENTS = "text/event-stream"
KEEP_ALIVE_S = 5.0
"""Seconds that an idle connection is reusable, as in httpx: gateways close them after a minute, some after 5 s."""
_MAX_HEADS = 64
"""Heads of requests that are kept: an address has few paths, but each model has one of its own."""
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
        max_bytes: int,
        opened: Callable[[socket.socket], None],
        resend: Callable[[str, str], None],
    ) -> None:
        self._base_url = base_url
        self._key = key
        self._headers = headers
        self._tls = tls
        self._max_bytes = max_bytes
        self._opened = opened
        self._resend = resend
        self._heads: dict[tuple[str, str, str], bytes] = {}
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False
        # A pool that is dropped, as by a second connect(), leaves no open socket to the garbage collector.
        weakref.finalize(self, _close_all, self._idle).atexit = False

    def request(
        self, method: str, path: str, body: bytes | None, limits: Timeouts, headers: Headers = ()
    ) -> RawResponse | BodyStream:
        """Send a request and read its response, a large one up to the start of its body.

        A BodyStream must be passed to ``read_body``.
        """

        def exchange(connection: Connection) -> RawResponse | BodyStream:
            together = body is None or len(body) <= _SEND_BUFFER_BYTES
            connection.set_deadline(time.monotonic() + limits.total)
            connection.set_timeout(limits.read if together else limits.write)
            connection.send(self._head(method, path, "*/*", headers), self._key, body, together)
            connection.set_timeout(limits.read)
            response = connection.read_response(self._max_bytes)
            if isinstance(response, RawResponse):
                self._release(connection)
            return response

        return self._exchange(exchange, method, path, limits.connect)

    def read_body(self, body: BodyStream) -> RawResponse:
        """Read the rest of a large response and release its connection."""
        response = body.read()
        self._release(body.connection)
        return response

    def stream(self, path: str, body: bytes, limits: Timeouts, headers: Headers = ()) -> BodyStream:
        """Send a request and read the head of its response; the connection belongs to the stream and closes with it."""

        def exchange(connection: Connection) -> BodyStream:
            connection.set_deadline(time.monotonic() + limits.stream)
            connection.set_timeout(limits.write)
            head = self._head("POST", path, _EVENTS, headers)
            connection.send(head, self._key, body, len(body) <= _SEND_BUFFER_BYTES)
            connection.set_timeout(limits.idle)
            return connection.read_head(self._max_bytes)

        return self._exchange(exchange, "POST", path, limits.connect)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            _close_all(self._idle)

    def reset_after_fork(self) -> None:
        """Drop all idle connections in a forked child: the parent uses them."""
        self._lock = threading.Lock()
        _close_all(self._idle)

    def _exchange(self, exchange: Callable[[Connection], T], method: str, path: str, connect_s: float) -> T:
        """Make an exchange on an idle or new connection, and again on a new one if the idle one was closed."""
        connection, reused = self._take(connect_s)
        while True:
            try:
                return exchange(connection)
            except BaseException as problem:
                connection.close()
                if not (reused and isinstance(problem, UnansweredError)):
                    raise
            self._resend(method, path)
            connection, reused = self._open(connect_s), False

    def _head(self, method: str, path: str, accept: str, more: Headers) -> bytes:
        """Return the request line and the headers that every request has, up to the value of the key."""
        known = None if more else self._heads.get((method, path, accept))
        if known is None:
            url = httpx.URL(self._base_url + path)
            headers = {"accept": accept, **self._headers, **dict(more)}
            lines = [(b"host", url.netloc), *((k.encode("ascii"), v.encode("latin-1")) for k, v in headers.items())]
            target = b" ".join((method.encode("ascii"), url.raw_path, b"HTTP/1.1"))
            known = b"".join([target, b"\r\n", *(b"%s: %s\r\n" % line for line in lines), b"x-api-key: "])
            if not more and len(self._heads) < _MAX_HEADS:
                self._heads[method, path, accept] = known
        return known

    def _take(self, connect_s: float) -> tuple[Connection, bool]:
        """Return a connection, and whether it is a reused one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                since, connection = self._idle.pop()
            if time.monotonic() - since < KEEP_ALIVE_S and not connection.is_readable():
                return connection, True
            connection.close()
        return self._open(connect_s), False

    def _open(self, connect_s: float) -> Connection:
        connection = Connection()
        try:
            connection.open(httpx.URL(self._base_url), self._tls, connect_s, self._opened)
        except BaseException as problem:
            connection.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ConnectTimeout("no connection in time") from None
            if isinstance(problem, OSError):
                if is_too_many_open_files(problem):
                    raise TooManyOpenFiles(str(problem)) from None
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


def _close_all(idle: list[tuple[float, Connection]]) -> None:
    """Close the connections and remove them from the list."""
    while idle:
        idle.pop()[1].close()
