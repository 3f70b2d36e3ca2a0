"""A streamed answer: an iterator and a context manager; leaving it early closes the connection."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import pydantic_core

from skytells_nb.errors import StreamError, TruncatedStreamError
from skytells_nb.transport.http import EventStream
from skytells_nb.transport.sse import ServerSentEvent

Piece = TypeVar("Piece")
Whole = TypeVar("Whole")
Whole_co = TypeVar("Whole_co", covariant=True)


class Assembler(Protocol[Piece, Whole_co]):
    """Turns the bodies of a stream into pieces, and the pieces into one answer."""

    complete: bool
    """Whether a piece said by itself that the stream is over."""
    ends_with_done: bool
    """Whether ``[DONE]`` ends this kind of stream."""

    def accept(self, body: dict[str, Any], request_id: str | None) -> Piece: ...

    def text(self, piece: Piece) -> str: ...

    def whole(self, finish_reason: str | None, request_id: str | None) -> Whole_co: ...

    def text_so_far(self) -> str: ...


class AnswerStream(Generic[Piece, Whole]):
    """The pieces of one answer as they arrive.

    Iterate it for typed pieces, or ``.text`` for the text alone; ``.final`` reads to the end and gives the whole answer
    with the safety verdicts merged. Raises TruncatedStreamError (with ``.partial``) where the stream stops without its
    terminator, StreamError where it carries an error.
    """

    def __init__(self, source: EventStream, assembler: Assembler[Piece, Whole]) -> None:
        self._source = source
        self._assembler = assembler
        self._pieces = self._read()
        self.request_id = source.request_id

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def __next__(self) -> Piece:
        return next(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def text(self) -> Iterator[str]:
        """The text as it arrives, empty pieces left out."""
        for piece in self._pieces:
            text = self._assembler.text(piece)
            if text:
                yield text

    @property
    def final(self) -> Whole:
        """The whole answer, read to its end."""
        for _ in self._pieces:
            pass
        return self.so_far(finish_reason=None)

    def so_far(self, finish_reason: str | None = "interrupted") -> Whole:
        """What has arrived, as an answer; where the service gave no reason for its end, this one is used."""
        return self._assembler.whole(finish_reason, self.request_id)

    def close(self) -> None:
        """End the exchange; the service sees the connection go."""
        self._source.close()

    def _read(self) -> Iterator[Piece]:
        assembler = self._assembler
        try:
            for event in self._source:
                if event.data.strip() == "[DONE]":
                    if assembler.ends_with_done:
                        return
                    break
                yield assembler.accept(self._body(event), self.request_id)
                if assembler.complete:
                    return
            raise TruncatedStreamError(
                "The stream stopped before its end; the answer may be cut.",
                request_id=self.request_id,
                partial=assembler.text_so_far(),
            )
        finally:
            self.close()

    def _body(self, event: ServerSentEvent) -> dict[str, Any]:
        try:
            body = pydantic_core.from_json(event.data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._error(f"The stream carries something that is not a JSON object: {event.data[:80]!r}", {})
        error = body.get("error")
        if event.event == "error" or body.get("type") == "error" or (error and "id" not in body):
            found = error if isinstance(error, dict) else body
            raise self._error(str(found.get("message") or "The service reported an error within the stream."), found)
        return body

    def _error(self, message: str, found: dict[str, Any]) -> StreamError:
        return StreamError(
            message,
            request_id=found.get("request_id") or self.request_id,
            error_id=found.get("error_id"),
            code=found.get("code"),
            partial=self._assembler.text_so_far(),
        )
