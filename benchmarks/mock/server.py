"""The server: one process, one event loop, no framework.

    python -m benchmarks.mock.server --port 0

Prints its port once it listens, and ends by itself after ``--seconds``. Routes: ``POST /v1/embeddings``,
``/v1/chat/completions``, ``/v1/responses``; ``GET /v1/models``; ``POST /behavior`` with fields of ``Behavior`` starts
a run with zeroed counts, ``GET /counts`` tells them. Uses uvloop and orjson where they are installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from benchmarks.mock.answers import MARK, Vectors, chat, response
from benchmarks.mock.behavior import Behavior, Bucket, Counts, Faults

try:
    from orjson import loads
except ImportError:
    from json import loads

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


class Mock:
    """The state that all connections share."""

    def __init__(self) -> None:
        self._vectors = Vectors()
        self.behave(Behavior())

    def behave(self, behavior: Behavior) -> None:
        """Reset the counts and behave as configured."""
        self.behavior = behavior
        self.counts = Counts()
        self._bucket = Bucket(behavior)
        self._faults = Faults(behavior)
        for encoding in ("base64", "float"):
            self._vectors.of(["ready"], dimensions=behavior.dimensions, encoding=encoding, model="")

    def take(self, connection: Connection, method: bytes, path: str, body: bytes) -> None:
        """Answer one request, now or after the latency."""
        if path == "/behavior":
            known = {f.name for f in fields(Behavior)}
            self.behave(Behavior(**{name: value for name, value in loads(body).items() if name in known}))
            connection.send(200, b"{}")
        elif path == "/counts":
            connection.send(200, json.dumps(self.counts.told()).encode())
        elif method == b"GET" and path.endswith("/models"):
            connection.send(200, b'{"object":"list","data":[{"id":"mock","object":"model","owned_by":"mock"}]}')
        else:
            self._take_paid(connection, path, body)

    def _take_paid(self, connection: Connection, path: str, body: bytes) -> None:
        # Counts of a run that was ended must not go below zero in the next one.
        counts = self.counts
        counts.requests += 1
        counts.moved(1)
        if not self._bucket.take():
            counts.refused_429 += 1
            counts.moved(-1)
            connection.send(
                429, _error("Over the rate limit.", "rate_limit_exceeded"), self._limit_headers(refused=True)
            )
            return
        fault = self._faults.draw(body)
        if fault == "500":
            counts.failed_500 += 1
            self._later(counts, connection, 500, _error("The server had an error.", "server_error"))
        elif fault == "drop":
            counts.dropped += 1
            self._later(counts, connection, 0, b"")
        else:
            try:
                answer, rows = self._answer(path, loads(body))
            except (ValueError, KeyError, TypeError) as problem:
                counts.bad += 1
                self._later(counts, connection, 400, _error(str(problem), "invalid_request_error"))
            else:
                self._later(counts, connection, 200, answer, rows)

    def _answer(self, path: str, asked: dict[str, Any]) -> tuple[bytes, Sequence[str]]:
        if path.endswith("/embeddings"):
            return self._embed(asked)
        if path.endswith("/chat/completions"):
            answer, rows = chat(asked, self.counts.requests)
        elif path.endswith("/responses"):
            answer, rows = response(asked, self.counts.requests)
        else:
            raise ValueError(f"There is no route {path}.")
        return json.dumps(answer).encode(), rows

    def _embed(self, asked: dict[str, Any]) -> tuple[bytes, Sequence[str]]:
        given = asked["input"]
        one = isinstance(given, str) or (given and isinstance(given[0], int))
        listed = [given] if one else list(given)
        if not 1 <= len(listed) <= self.behavior.most_inputs:
            raise ValueError(f"input holds 1 to {self.behavior.most_inputs} texts; found {len(listed)}.")
        texts = [text if isinstance(text, str) else str(text) for text in listed]
        encoding = asked.get("encoding_format") or "float"
        self.counts.inputs += len(texts)
        self.counts.kinds[encoding if isinstance(listed[0], str) else f"{encoding}, tokens"] += 1
        answer = self._vectors.of(
            texts,
            dimensions=asked.get("dimensions") or self.behavior.dimensions,
            encoding=encoding,
            model=asked.get("model", ""),
        )
        return answer, [text[:10] for text in texts if MARK.match(text)]

    def _later(
        self, counts: Counts, connection: Connection, status: int, answer: bytes, rows: Sequence[str] = ()
    ) -> None:
        def finish() -> None:
            counts.moved(-1)
            if status == 200:
                counts.answered += 1
                counts.rows.update(rows)
            if status:
                connection.send(status, answer, self._limit_headers())
            else:
                connection.cut()

        if self.behavior.latency_ms:
            asyncio.get_running_loop().call_later(self.behavior.latency_ms / 1000, finish)
        else:
            finish()

    def _limit_headers(self, *, refused: bool = False) -> str:
        """What OpenAI says of its limits; a client that was not told the rate may learn it here."""
        limit = self.behavior.requests_per_s
        if not limit:
            return ""
        told = f"x-ratelimit-limit-requests: {limit:g}\r\nx-ratelimit-remaining-requests: {int(self._bucket.left)}\r\n"
        return f"{told}retry-after: {self.behavior.retry_after_s:g}\r\n" if refused else told


class Connection(asyncio.Protocol):
    """One client's connection: requests out of bytes. Bodies come with a content-length."""

    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._buffer = bytearray()
        self._head: tuple[bytes, str, int, int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods only.
        self._transport = cast(asyncio.Transport, transport)
        self._mock.counts.connections += 1

    def connection_lost(self, problem: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and (self._head is not None or self._read_head()):
            assert self._head is not None
            method, path, start, end = self._head
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[start:end])
            del self._buffer[:end]
            self._head = None
            self._mock.take(self, method, path, body)

    def send(self, status: int, body: bytes, headers: str = "") -> None:
        if self._transport is not None and not self._transport.is_closing():
            first = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\n{headers}"
            self._transport.writelines([f"{first}content-length: {len(body)}\r\n\r\n".encode(), body])

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> bool:
        stop = self._buffer.find(b"\r\n\r\n")
        if stop < 0:
            return False
        first, *lines = bytes(self._buffer[:stop]).split(b"\r\n")
        method, target, _ = first.split(b" ")
        named = dict(line.lower().split(b":", 1) for line in lines)
        if b"expect" in named and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(named.get(b"content-length", b"0"))
        self._head = (method, target.decode().partition("?")[0], stop + 4, stop + 4 + length)
        return True


def _error(message: str, code: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": code, "param": None, "code": code}}).encode()


async def serve(port: int, seconds: float) -> None:
    """Listen on loopback until the time is over."""
    mock = Mock()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(mock), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4 * 3600.0)
    given = parser.parse_args()
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(serve(given.port, given.seconds))


if __name__ == "__main__":
    main()
