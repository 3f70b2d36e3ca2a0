"""A streamed response: an iterator and a context manager; leaving it early closes the connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import pydantic_core

from skytells_nb.client.transport.sse import ServerSentEvent
from skytells_nb.client.transport.transport import EventStream
from skytells_nb.errors import (
    ConnectionLostError,
    InvalidResponseError,
    SkytellsError,
    StreamError,
    TransportError,
    TruncatedStreamError,
)

Piece = TypeVar("Piece")
Whole = TypeVar("Whole")
Whole_co = TypeVar("Whole_co", covariant=True)


class Accumulator(Protocol[Piece, Whole_co]):
    """Turns the bodies of a stream into pieces, and the pieces into one response."""

    complete: bool
    """Whether a piece was the last one of the stream."""
    ends_with_done: bool
    """Whether ``[DONE]`` ends this kind of stream."""

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

    def __init__(self, source: EventStream, accumulator: Accumulator[Piece, Whole]) -> None:
        self._source = source
        self._events = iter(source)
        self._accumulator = accumulator
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
        if self._closed:
            raise self._truncated("The stream was closed before its end; partial() returns what had arrived.")
        try:
            for event in self._events:
                data = event.data.strip()
                if data == "[DONE]":
                    if not accumulator.ends_with_done:
                        break
                    self._complete = True
                    return None
                if data:
                    piece = self._accept(self._body(event))
                    self._complete = accumulator.complete
                    return piece
        except ConnectionLostError as lost:
            reason = f" {lost}"
        except TransportError as problem:
            problem.partial = accumulator.partial_text()
            raise
        else:
            reason = ""
        raise self._truncated(f"The stream stopped before its end; the response may be incomplete.{reason}")

    def _accept(self, body: dict[str, Any]) -> Piece:
        try:
            return self._accumulator.add(body)
        except InvalidResponseError as problem:
            message = str(problem)
        raise self._error(message)

    def _body(self, event: ServerSentEvent) -> dict[str, Any]:
        try:
            body = pydantic_core.from_json(event.data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            if not event.complete:
                raise self._truncated("The stream stopped within an event; the response may be incomplete.")
            raise self._error(f"The stream carries something that is not a JSON object: {event.data[:80]!r}")
        error = body.get("error")
        if event.event == "error" or body.get("type") == "error" or error:
            fields = error if isinstance(error, dict) else body
            message = fields.get("message") or (error if isinstance(error, str) else None)
            raise self._error(str(message or "The service reported an error within the stream."), fields)
        if event.event and "type" not in body:
            body["type"] = event.event
        return body

    def _error(self, message: str, fields: Mapping[str, Any] = MappingProxyType({})) -> StreamError:
        values = {name: fields.get(name) for name in ("request_id", "error_id", "code")}
        known = {name: value if isinstance(value, str) and value else None for name, value in values.items()}
        return StreamError(
            message,
            request_id=known["request_id"] or self.request_id,
            error_id=known["error_id"],
            code=known["code"],
            partial=self._accumulator.partial_text(),
        )

    def _truncated(self, message: str) -> TruncatedStreamError:
        return TruncatedStreamError(message, request_id=self.request_id, partial=self._accumulator.partial_text())
