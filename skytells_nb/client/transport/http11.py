"""One connection to a server: requests out, answers in, by the standard library."""

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
_MOST_FIELDS = 100
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FRAMING = frozenset(("content-length", "transfer-encoding"))
"""Fields that say where a body ends: two that differ would be two ends."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Fields are by their names in lower case; several of one name are joined by commas."""

    minor: int
    """Of the version: 1 for HTTP/1.1."""
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
        """Bytes of the body, ``None`` where only its own end, or the connection's, tells."""
        if self.is_informational or self.status in (204, 304):
            return 0
        told = self.fields.get("content-length", "")
        return int(told) if told.isascii() and told.isdigit() and not self.chunked else None

    @property
    def connection_close(self) -> bool:
        """Whether the connection ends with this answer."""
        wanted = self.fields.get("connection", "").lower()
        if "close" in wanted or (self.minor == 0 and "keep-alive" not in wanted):
            return True
        return not self.chunked and self.length is None


def read_head(stream: io.BufferedIOBase) -> ResponseHead:
    """The next head of this stream; HTTPException where it is none, RemoteDisconnected where it was cut."""
    minor, status = _status(_line(stream))
    fields: dict[str, str] = {}
    name = ""
    for _ in range(_MOST_FIELDS + 1):
        line = _line(stream)
        if line in ("\r\n", "\n"):
            return ResponseHead(minor, status, fields)
        if line[0] in " \t" and name:
            # An old way to go on with the line before.
            fields[name] = f"{fields[name]} {line.strip()}".strip()
            continue
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not _NAME(name):
            raise http.client.HTTPException("the answer's head is no HTTP")
        if name not in fields:
            fields[name] = value
        elif name not in _FRAMING:
            fields[name] += f", {value}"
        elif fields[name] != value:
            raise http.client.HTTPException(f"the answer has two {name} fields that differ")
    raise http.client.HTTPException(f"the answer has more than {_MOST_FIELDS} header fields")


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
        raise http.client.RemoteDisconnected("the server closed the connection within its answer's head")
    return line.decode("latin-1")


_READ_BYTES = 16_384
# TLS has an error of its own for a connection that ended without a goodbye, and one for writing after a goodbye.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
LARGE_BYTES = 1 << 20
"""Bodies of this size are large."""


@dataclass(frozen=True, slots=True, repr=False)
class RawResponse:
    """What came: the body as it travelled, and the headers by their names in lower case.

    It has no repr of its own: a proxy's page may show the key.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_plain_json(self) -> bool:
        """Whether it is whole JSON with status 200, as nearly every answer."""
        headers = self.headers
        known_length = "content-length" in headers or "transfer-encoding" in headers
        encoded = "content-encoding" in headers
        return self.status == 200 and known_length and not encoded and "json" in headers.get("content-type", "")

    def to_httpx(self, method: str, url: str) -> httpx.Response:
        """The answer as httpx would have given it, decoded."""
        # As a stream: given as content it would get a length that nobody sent.
        body = httpx.ByteStream(self.content)
        response = httpx.Response(
            self.status, headers=dict(self.headers), stream=body, request=httpx.Request(method, url)
        )
        response.read()
        return response


class UnansweredError(ConnectionError):
    """The connection ended before any byte of an answer came, by no time limit of ours."""


class _Response(http.client.HTTPResponse):
    """The standard library's reading of a body, after a head of ours; every interim answer is passed over."""

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
    """An answer whose head is there and whose body is not: read as it comes or whole. ``close`` ends it early."""

    def __init__(self, connection: Connection, response: _Response, begun: bytes = b"") -> None:
        self.connection = connection
        self._response = response
        self._begun = begun
        self.status = response.status
        self.headers: Mapping[str, str] = response.head.fields

    @property
    def is_event_stream(self) -> bool:
        """Whether it is a stream of events, as it travelled."""
        kind = self.headers.get("content-type", "").lower()
        return 200 <= self.status < 300 and "text/event-stream" in kind and "content-encoding" not in self.headers

    def iter_bytes(self) -> Iterator[bytes]:
        """What comes, as soon as it comes; raises like ``Direct.begin``."""
        try:
            # With nothing asked for in particular the standard library gives what one read of the socket brings.
            while piece := self._response.read1():
                yield piece
        except TimeoutError:
            raise httpx.ReadTimeout("the stream was silent") from None
        finally:
            self.close()

    def read_rest(self) -> RawResponse:
        """The rest in one piece, for an answer that is no stream of events."""
        return RawResponse(self.status, self.headers, b"".join(self.iter_bytes()))

    def read(self) -> RawResponse:
        """All of it, with the connection left open for the next; raises like ``Direct.begin``."""
        try:
            content = self._response.read()
            if self._begun:
                content = self._begun + content
        except BaseException as problem:
            self.connection.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no answer in time") from None
            raise
        finally:
            self._response.close()
        if self._response.will_close:
            self.connection.close()
        return RawResponse(self.status, self.headers, content)

    def close(self) -> None:
        self._response.close()
        self.connection.close()


def _whole(begun: bytes) -> tuple[ResponseHead, bytes] | None:
    """The head and the body of an answer that came in one piece, as a short one does; ``None`` where there is more.

    The standard library makes a file and a response for each answer: a tenth of what a completion costs.
    """
    end = begun.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = io.BytesIO(begun[: end + 4])
    head = read_head(lines)
    body = begun[lines.tell() :]
    if head.is_informational or head.length is None or len(body) < head.length:
        return None
    return head, body


class _PrefixedSocket(io.RawIOBase):
    """A socket of which something was read already, in the form that the standard library takes."""

    def __init__(self, sock: socket.socket, begun: bytes) -> None:
        self._sock = sock
        self._begun = begun

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(self._begun), len(buffer))
        if not size:
            return self._sock.recv_into(buffer)
        buffer[:size], self._begun = self._begun[:size], self._begun[size:]
        return size


class Connection:
    """One connection; it is closed, and ``sock`` is ``None``, where the server wants no more requests on it.

    The standard library reads the bodies of answers. Requests are a few lines that never differ, which it would check
    one by one at a fifth of an exchange's cost.
    """

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self._limit: float | None = None
        self._method = ""

    def open(
        self, url: httpx.URL, tls: ssl.SSLContext | None, timeout: float, opened: Callable[[socket.socket], None]
    ) -> None:
        host, port = url.raw_host.decode("ascii"), url.port or (443 if tls is not None else 80)
        sock = self.sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened(sock)
        if tls is not None:
            # Known before its handshake, which a silent server would hold as long as any other wait.
            secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            self.sock = secured
            opened(secured)
            secured.do_handshake()
        self._limit = timeout

    def close(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def is_readable(self) -> bool:
        """Whether the server has closed, or said something nobody asked for."""
        if not hasattr(select, "poll"):
            return bool(select.select([self._open_socket()], [], [], 0)[0])
        poll = select.poll()
        poll.register(self._open_socket(), select.POLLIN)
        return bool(poll.poll(0))

    def send(self, method: str, head: bytes, key: APIKey, body: bytes | None, together: bool) -> None:
        """Send a request: ``head`` is all of its head up to the key."""
        self._method = method
        if body is None:
            body, end = b"", b"\r\n\r\n"
        else:
            end = b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        sock = self._open_socket()
        try:
            # No name for what holds the key: a traceback shows what names hold.
            if together:
                # Each sending hands the interpreter to another thread.
                sock.sendall(b"".join((head, key.reveal().encode("ascii"), end, body)))
            else:
                sock.sendall(b"".join((head, key.reveal().encode("ascii"), end)))
                sock.sendall(body)
        except TimeoutError:
            raise httpx.WriteTimeout("the request was not taken in time") from None
        except _HUNG_UP:
            # A server may answer before the request is whole, and close: its answer says why.
            pass

    def read_head(self) -> BodyStream:
        """The answer as far as its head; raises like ``read_answer``."""
        response = _Response(_PrefixedSocket(self._open_socket(), self._first_bytes()), method=self._method)
        try:
            response.begin()
        except BaseException as problem:
            response.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no answer in time") from None
            raise
        return BodyStream(self, response)

    def read_answer(self) -> RawResponse | BodyStream:
        """The answer; a large one as far as its body begins to come. Raises UnansweredError where no byte comes."""
        first = self._first_bytes()
        found = _whole(first)
        if found is not None:
            head, content = found
            if head.connection_close or len(content) > (head.length or 0):
                self.close()
            return RawResponse(head.status, head.fields, content[: head.length])
        response = _Response(_PrefixedSocket(self._open_socket(), first), method=self._method)
        begun = b""
        try:
            response.begin()
            if response.length is None:
                begun = response.read(LARGE_BYTES)
            elif response.length >= LARGE_BYTES:
                # Some gateways send the head while the answer is still made.
                response.fp.peek(1)
        except BaseException as problem:
            response.close()
            if isinstance(problem, TimeoutError):
                raise httpx.ReadTimeout("no answer in time") from None
            raise
        incoming = BodyStream(self, response, begun)
        return (
            incoming if (response.length or len(begun)) >= LARGE_BYTES and response.status == 200 else incoming.read()
        )

    def set_timeout(self, seconds: float) -> None:
        if seconds != self._limit:
            self._open_socket().settimeout(seconds)
            self._limit = seconds

    def _first_bytes(self) -> bytes:
        """What comes first of an answer."""
        try:
            first = self._open_socket().recv(_READ_BYTES)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None
        except _HUNG_UP as problem:
            raise UnansweredError(str(problem)) from None
        if not first:
            raise UnansweredError("the server closed the connection without an answer")
        return first

    def _open_socket(self) -> socket.socket:
        if self.sock is None:
            raise httpx.ConnectError("the connection is closed")
        return self.sock


T = TypeVar("T")

_EVENTS = "text/event-stream"
KEEP_ALIVE_S = 5.0
"""Time that an unused connection is kept, as httpx does: gateways close theirs after a minute, some after 5 s."""
_SENT_AT_ONCE_BYTES = 8_192
"""What the kernel takes without waiting: every system's send buffer holds as much."""


class HTTPConnectionPool:
    """Connections to one origin, each kept for the next exchange. Safe to use from several threads.

    A server may close a kept connection just as a request goes out on it. A request on a reused connection that got not
    one byte of an answer is therefore sent once more, on a new connection. ``resend`` is called before, and may raise.
    Nothing else is sent twice.

    ``opened`` gets every socket as soon as there is one. Raises httpx's errors, OSError and HTTPException.
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
        """Send one request and read its answer, a large one as far as its body begins; the limits are of silence.

        What is incoming is for ``finish``.
        """

        def exchange(connection: Connection) -> RawResponse | BodyStream:
            together = body is None or len(body) <= _SENT_AT_ONCE_BYTES
            connection.set_timeout(read_s if together else write_s)
            connection.send(method, self._head(method, path), self._key, body, together)
            connection.set_timeout(read_s)
            answer = connection.read_answer()
            if isinstance(answer, RawResponse):
                self._give_back(connection)
            return answer

        return self._exchange(exchange, method, path)

    def read_body(self, incoming: BodyStream) -> RawResponse:
        answer = incoming.read()
        self._give_back(incoming.connection)
        return answer

    def stream(self, path: str, body: bytes, *, write_s: float, idle_s: float) -> BodyStream:
        """Send one request and read the head of its answer; the connection is the stream's own, and ends with it."""

        def exchange(connection: Connection) -> BodyStream:
            connection.set_timeout(write_s)
            connection.send(
                "POST", self._head("POST", path, _EVENTS), self._key, body, len(body) <= _SENT_AT_ONCE_BYTES
            )
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
        """Let go of every kept connection, as a forked child must: the parent uses them."""
        self._lock = threading.Lock()
        idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _exchange(self, exchange: Callable[[Connection], T], method: str, path: str) -> T:
        """Make an exchange on a kept connection or a new one, and once more on a new one where a kept one had ended."""
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
        """The request line and the headers that every request has, up to where the key follows."""
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
        """A connection, and whether it was used before."""
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

    def _give_back(self, connection: Connection) -> None:
        if connection.sock is None:
            return
        with self._lock:
            if not self._closed:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()
