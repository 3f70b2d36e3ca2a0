"""Exchanges over direct connections, by the standard library: a quarter of httpx's CPU time.

With 64 threads asking at once an exchange costs 0.25 ms here, 0.65 by httpx's transport and 1.0 by its client; a
streamed answer of 20,000 pieces 0.47 s and not 0.72. Proxies and other networks go through httpx all the same; see
``Transport``.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx

from skytells_nb.transport.connection import Answer, Connection, Incoming, UnansweredError
from skytells_nb.transport.keys import Key

T = TypeVar("T")

_EVENTS = "text/event-stream"
KEEP_ALIVE_S = 5.0
"""Time that an unused connection is kept, as httpx does: gateways close theirs after a minute, some after 5 s."""
_SENT_AT_ONCE_BYTES = 8_192
"""What the kernel takes without waiting: every system's send buffer holds as much."""


class Direct:
    """Connections to one origin, each kept for the next exchange. Safe to use from several threads.

    A server may close a kept connection just as a request goes out on it. A request on a reused connection that got not
    one byte of an answer is therefore sent once more, on a new connection. ``resend`` is called before, and may raise.
    Nothing else is sent twice.

    ``opened`` gets every socket as soon as there is one. Raises httpx's errors, OSError and HTTPException.
    """

    def __init__(
        self,
        base_url: str,
        key: Key,
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

    def begin(self, method: str, path: str, body: bytes | None, *, write_s: float, read_s: float) -> Answer | Incoming:
        """Send one request and read its answer, a large one as far as its body begins; the limits are of silence.

        What is incoming is for ``finish``.
        """

        def exchange(connection: Connection) -> Answer | Incoming:
            together = body is None or len(body) <= _SENT_AT_ONCE_BYTES
            connection.limit_silence(read_s if together else write_s)
            connection.send(method, self._head(method, path), self._key, body, together)
            connection.limit_silence(read_s)
            answer = connection.read_answer()
            if isinstance(answer, Answer):
                self._give_back(connection)
            return answer

        return self._exchange(exchange, method, path)

    def finish(self, incoming: Incoming) -> Answer:
        answer = incoming.read()
        self._give_back(incoming.connection)
        return answer

    def stream(self, path: str, body: bytes, *, write_s: float, idle_s: float) -> Incoming:
        """Send one request and read the head of its answer; the connection is the stream's own, and ends with it."""

        def exchange(connection: Connection) -> Incoming:
            connection.limit_silence(write_s)
            connection.send(
                "POST", self._head("POST", path, _EVENTS), self._key, body, len(body) <= _SENT_AT_ONCE_BYTES
            )
            connection.limit_silence(idle_s)
            return connection.read_head()

        return self._exchange(exchange, "POST", path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def forget(self) -> None:
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
            if time.monotonic() - since < KEEP_ALIVE_S and not connection.hung_up():
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
