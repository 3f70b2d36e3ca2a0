"""Server-sent events as a response, with the faults of streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skytells_nb.local.faults import Faults

_DONE = b"[DONE]"
_PAUSE_S = 0.02
"""Pause between the two writes of a split character: long enough for the first to be sent separately."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its JSON data, and its name in a stream of named events."""

    data: dict[str, Any]
    name: str | None = None


class EventStreamResponse(Response):
    """A ``text/event-stream`` response. With ``done`` the stream ends with ``[DONE]``.

    ``None`` among the events is sent as a comment, so that a client that waits sees that the stream is alive.
    ``error_event`` makes the event for an error in mid-stream, ``None`` being a fault. ``close_connection`` closes the
    connection. ``is_terminator`` identifies the last event of a stream without ``[DONE]``.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Event | None, None],
        *,
        done: bool,
        error_event: Callable[[Exception | None], Event],
        faults: Faults,
        close_connection: Callable[[], Awaitable[None]],
        is_terminator: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._done = done
        self._error_event = error_event
        self._faults = faults
        self._close_connection = close_connection
        self._is_terminator = is_terminator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                for part in self._parts(frame):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    if part is not frame:
                        await asyncio.sleep(_PAUSE_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        faults = self._faults
        count = 0
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if event is None:
                        yield b": keep-alive\n\n"
                        continue
                    if count == faults.stream_cut_after:
                        await self._close_connection()
                    if count == faults.stream_stall_after:
                        await asyncio.sleep(faults.stall)
                    if count == faults.malformed_chunk:
                        yield self._frame(b'{"id":"chatcmpl-', None)
                    if count == faults.stream_error:
                        error = self._error_event(None)
                        yield self._frame(to_json(error.data), error.name)
                        return
                    if faults.no_done and self._is_terminator(event):
                        continue
                    yield self._frame(to_json(event.data, inf_nan_mode="constants"), event.name)
                    count += 1
        except Exception as exception:
            error = self._error_event(exception)
            yield self._frame(to_json(error.data), error.name)
            return
        if faults.stream_cut_after is not None and count <= faults.stream_cut_after:
            await self._close_connection()
        if self._done and not faults.no_done:
            yield self._frame(_DONE, None)

    def _frame(self, data: bytes, name: str | None) -> bytes:
        newline = b"\r\n" if self._faults.crlf else b"\n"
        space = b"" if self._faults.no_space else b" "
        lines = [b"data:" + space + data, b"", b""]
        if name is not None:
            lines.insert(0, b"event:" + space + name.encode())
        if self._faults.keepalive:
            lines[:0] = [b": keepalive", b""]
        return newline.join(lines)

    def _parts(self, frame: bytes) -> list[bytes]:
        """Return the frame, or two halves of it, split within its first multi-byte character."""
        if self._faults.split_utf8:
            for index, byte in enumerate(frame):
                if byte >= 0xC0:
                    return [frame[: index + 1], frame[index + 1 :]]
        return [frame]
