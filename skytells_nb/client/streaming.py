"""A streamed response: an iterator and a context manager; leaving it early closes the connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import pydantic_core

from skytells_nb.client.transport.sse import EventDecoder, ServerSentEvent, is_event_stream, pieces_as_utf8
from skytells_nb.client.transport.status_errors import error_in_event
from skytells_nb.client.transport.transport import EventStream, ResponseBody
from skytells_nb.error_bodies import is_error, says_error
from skytells_nb.errors import (
    APIError,
    ConnectionLostError,
    InvalidResponseError,
    SkytellsError,
    StreamError,
    TransportError,
    TruncatedStreamError,
)
from skytells_nb.sanitize import page_text, quoted

if TYPE_CHECKING:
    from skytells_nb.client.lenient_parsing import SurrogateJoiner

Piece = TypeVar("Piece")
Whole = TypeVar("Whole")
Whole_co = TypeVar("Whole_co", covariant=True)


class Accumulator(Protocol[Piece, Whole_co]):
    """Turns the bodies of a stream into pieces, and the pieces into one response."""

    complete: bool
    """Whether a piece was the last one of the stream."""
    ends_with_done: bool
    """Whether ``[DONE]`` ends this kind of stream."""

    @property
    def payload(self) -> Sequence[str]:
        """Members that a body with a part of the answer has."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the service has said why the answer ended."""
        ...

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        """Whether a body without ``error`` obviously is a part of the answer."""
        ...

    def passes_over(self, body: Mapping[str, Any], event: ServerSentEvent) -> bool:
        """Whether a body only keeps the connection alive."""
        ...

    def add(self, body: dict[str, Any]) -> Piece: ...

    def text(self, piece: Piece) -> str: ...

    def build(self, finish_reason: str | None, request_id: str | None) -> Whole_co: ...

    def partial_text(self) -> str: ...


class Stream(Generic[Piece, Whole]):
    """A streamed completion or response: iterate over it, and leave it early to close its connection.

    It is a context manager. Iteration yields typed chunks or events, ``.text`` the text alone; ``.final`` reads to the
    end and returns the whole response with the safety results merged.

    Parameters
    ----------
    source : EventStream
        The server-sent events.
    accumulator : Accumulator
        Turns events into pieces, and the pieces into one response.

    Raises
    ------
    TruncatedStreamError
        If the stream stops without its terminator; ``.partial`` holds the text so far.
    StreamError
        If the stream carries an error; ``.partial`` holds the text before it.

    Examples
    --------
    >>> with client.chat.completions.create(model="deepbrain-router", messages="Count.", stream=True) as stream:
    ...     chunk = next(stream)
    >>> stream.partial().finish_reason
    'interrupted'
    """

    def __init__(self, source: EventStream | BufferedEvents, accumulator: Accumulator[Piece, Whole]) -> None:
        self._source = source
        self._events = iter(source)
        self._accumulator = accumulator
        self._joiner: SurrogateJoiner | None = None
        self._over = False
        self._closed = False
        self._complete = False
        self._failure: SkytellsError | None = None
        self.request_id = source.request_id

    # An iterator, not a generator, which would form a cycle: unreferenced, it closes its connection at once.
    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        if self._over:
            raise StopIteration
        try:
            piece = self._read()
        except BaseException as problem:
            self._over = True
            self._failure = problem if isinstance(problem, SkytellsError) else None
            self.close()
            raise
        if self._complete:
            self._over = True
            self.close()
        if piece is None:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def text(self) -> Iterator[str]:
        """The text as it arrives; empty pieces are left out."""
        for piece in self:
            text = self._accumulator.text(piece)
            if text:
                yield text

    @property
    def final(self) -> Whole:
        """The whole response, read to its end; raises if the stream does not reach it, or did not before."""
        for _ in self:
            pass
        if self._failure is not None:
            raise self._failure
        if not self._complete:
            raise self._truncated("The stream was interrupted before its end; partial() returns what had arrived.")
        return self.partial(finish_reason=None)

    def partial(self, finish_reason: str | None = "interrupted") -> Whole:
        """Return what has arrived so far.

        Parameters
        ----------
        finish_reason : str or None, default "interrupted"
            The reason to report if the service has sent none.

        Returns
        -------
        ChatCompletion or Response
            The response so far.
        """
        return self._accumulator.build(finish_reason, self.request_id)

    def close(self) -> None:
        """Close the connection; reading on raises TruncatedStreamError."""
        self._closed = True
        self._source.close()

    def _read(self) -> Piece | None:
        """Return the next piece, ``None`` at the stream's terminator."""
        accumulator = self._accumulator
        reason: str | None = ""
        if self._closed:
            raise self._truncated("The stream was closed before its end; partial() returns what had arrived.")
        problem: SkytellsError | None = None
        self._source.waiting_since = None
        try:
            for event in self._events:
                data = event.data.strip()
                if data in _DONE:
                    reason = self._at_done()
                    if reason is not None:
                        break
                    self._complete = True
                    return None
                if data:
                    found = self._piece(event, data)
                    if isinstance(found, SkytellsError):
                        problem = found
                        break
                    if found is not None:
                        self._complete = accumulator.complete
                        return found
        except ConnectionLostError as lost:
            reason, problem = f" {lost}", self._error_beside()
        except TransportError as failure:
            failure.partial = accumulator.partial_text()
            raise
        else:
            if problem is None and accumulator.ended and self._source.is_json:
                # Lines of JSON have no terminator.
                self._complete = True
                return None
            problem = problem or (self._error_beside() if not reason else None)
        if problem is not None:
            # Without the event, which a traceback would show and which may quote the key.
            event = data = None  # type: ignore[assignment]
            raise problem
        raise self._truncated(f"{_STOPPED}{reason or ''}")

    def _at_done(self) -> str | None:
        """Return why ``[DONE]`` does not end the stream as it should, ``None`` if it does."""
        if not self._accumulator.ends_with_done:
            return ""
        return None if self._accumulator.ended else " [DONE] came without a finish reason."

    def _error_beside(self) -> SkytellsError | None:
        """Return the error of a stream that ended early in what came between its events: JSON, or a proxy's page."""
        text = self._source.other_text
        start = text.find("{")
        is_json = start >= 0 and text[:start].strip(" \n:").lower() in ("", "error")
        body = self._odd_json(text[start:]) if is_json else None
        if isinstance(body, dict) and (error := error_in_event(body, self._accumulator.payload, self.request_id)):
            return self._stream_error(error)
        if not text:
            return None
        return self._truncated(f"{_STOPPED} It ended with: {quoted(page_text(text), 200)}")

    def _piece(self, event: ServerSentEvent, data: str) -> Piece | SkytellsError | None:
        """Return the piece of an event, its error, or ``None`` for one that only keeps the connection alive."""
        accumulator = self._accumulator
        body: Any
        if event.escaped is not None:
            body = self._odd_json(event.escaped)
        else:
            try:
                body = pydantic_core.from_json(data)
            except ValueError:
                body = self._odd_json(data)
        if self._joiner is not None:
            body = self._joiner.join(
                body, (body.get("item_id"), body.get("content_index")) if type(body) is dict else ()
            )
        is_plain = type(body) is dict and accumulator.is_plain(body)
        if not is_plain:
            from skytells_nb.client.transport.body_forms import unwrapped

            body = unwrapped(body, accumulator.payload)
        if type(body) is not dict:
            if _is_keep_alive(event, body if body is not _NOT_JSON else data):
                return None
            if (event.event or "").lower() in ("error", "exception"):
                body = {"error": body if body is not _NOT_JSON else data}
            elif type(body) is list and len(body) == 1 and type(body[0]) is dict:
                body = body[0]
            elif type(body) is list and is_error(body, accumulator.payload):
                body = {"errors": body}
            elif not event.complete:
                return self._truncated("The stream stopped within an event; the response may be incomplete.")
            else:
                return self._error(f"The stream carries something that is not a JSON object: {quoted(data, 80)!r}")
        if event.event and "type" not in body:
            body["type"] = event.event
        if not is_plain or "error" in body:
            if accumulator.passes_over(body, event) and not says_error(body.get("error")):
                return None
            error = error_in_event(body, accumulator.payload, self.request_id)
            if error is not None:
                return self._stream_error(error)
        try:
            return accumulator.add(body)
        except InvalidResponseError as invalid:
            return self._error(str(invalid))

    def _odd_json(self, data: str) -> Any:
        """Return JSON that strict parsers reject, such as half of an emoji."""
        from skytells_nb.client.lenient_parsing import SurrogateJoiner, load_raw_json

        try:
            body = load_raw_json(data)
        except ValueError:
            return _NOT_JSON
        self._joiner = self._joiner or SurrogateJoiner()
        return body

    def _error(self, message: str) -> StreamError:
        return StreamError(message, request_id=self.request_id, partial=self._accumulator.partial_text())

    def _stream_error(self, error: APIError) -> StreamError:
        return StreamError(
            error.message,
            request_id=error.request_id or self.request_id,
            error_id=error.error_id,
            code=error.code,
            status=error.status,
            partial=self._accumulator.partial_text(),
        )

    def _truncated(self, message: str) -> TruncatedStreamError:
        return TruncatedStreamError(message, request_id=self.request_id, partial=self._accumulator.partial_text())


class BufferedEvents:
    """The events of a whole response, for a gateway that streams although it was not asked to."""

    is_json = False

    def __init__(self, content: bytes, reply: ResponseBody) -> None:
        decoder = EventDecoder()
        self._events = [*decoder.feed(content), *decoder.close()]
        self.other_text = decoder.other_lines.decode("utf-8", "replace").strip()
        self.request_id = reply.request_id
        self.origin = reply.origin
        self.waiting_since: float | None = None

    def __iter__(self) -> Iterator[ServerSentEvent]:
        return iter(self._events)

    def close(self) -> None:
        """Nothing is open."""


def buffered_events(reply: ResponseBody) -> BufferedEvents | None:
    """Return the events of a whole response, ``None`` for one that is not a stream."""
    content = b"".join(pieces_as_utf8(iter((reply.content,))))
    return BufferedEvents(content, reply) if is_event_stream(content) else None


_STOPPED = "The stream stopped before its end; the response may be incomplete."
_DONE = ("[DONE]", '"[DONE]"', "[done]", "DONE")
_NOT_JSON = object()
KEEP_ALIVE = frozenset(("ping", "pong", "keepalive", "keep-alive", "keep_alive", "heartbeat", "noop"))
"""Names of events, and texts, that only keep a connection alive."""


def _is_keep_alive(event: ServerSentEvent, value: Any) -> bool:
    """Whether data that is not an object only keeps the connection alive: nothing, or a ping."""
    if (event.event or "").lower() in KEEP_ALIVE:
        return True
    if isinstance(value, str):
        text = value.strip().lower()
        return not text or text.startswith(":") or text.strip(":.[]<>-") in KEEP_ALIVE
    return value is None or value == [] or value is False
