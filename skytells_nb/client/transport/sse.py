"""Server-sent events: bytes in, events out. The result does not depend on how the bytes are split."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its data lines joined by line feeds, and its name if it has one."""

    data: str
    event: str | None = None
    complete: bool = True
    """False for an event that the stream's end cut off before its blank line."""
    escaped: str | None = field(default=None, repr=False)
    """The data with bytes that are not UTF-8 as surrogate escapes, where there are any; ``data`` has U+FFFD there."""


BLANKS = b"\xef\xbb\xbf \t\r\n"
"""What may stand before the first line: a byte-order mark and blanks."""
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_NAMES = frozenset((b"data", b"event", b"id", b"retry", b""))


def is_event_stream(body: bytes) -> bool:
    """Whether a body begins like a stream of events, whatever its content type says.

    >>> is_event_stream(b"data: 1"), is_event_stream(b'{"data": 1}')
    (True, False)
    """
    return body.lstrip(BLANKS).startswith(_FIELDS)


def pieces_as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    r"""Yield a body as it arrives, and as UTF-8 if it is UTF-16 or UTF-32.

    >>> b"".join(pieces_as_utf8(iter([b"\xff\xfed\0a\0t", b"\0a\0:\0"])))
    b'data:'
    """
    begun = b""
    for piece in pieces:
        begun += piece
        if len(begun) >= 8:
            break
    encoding = json.detect_encoding(begun)
    if not encoding.startswith("utf-8") and _is_ascii(begun[:8], encoding):
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        yield decoder.decode(begun).encode("utf-8", "replace")
        for piece in pieces:
            yield decoder.decode(piece).encode("utf-8", "replace")
        return
    yield begun
    yield from pieces


def _is_ascii(begun: bytes, encoding: str) -> bool:
    """Whether a body begins with ASCII in this encoding: zeros may also be padding before UTF-8."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(begun)
    except UnicodeDecodeError:
        return False
    return text.isascii() and "\0" not in text


def beginning(pieces: Iterator[bytes]) -> bytes:
    """Return the first pieces of a body, as many as show what it is, without the blanks before it."""
    begun = b""
    for piece in pieces:
        begun = (begun + piece).lstrip(BLANKS)
        if len(begun) >= len(b"event:") or (begun and begun[:1] in b":{[<"):
            break
    return begun


def json_events(body: bytes) -> list[ServerSentEvent]:
    r"""Return the events of a body that is JSON instead of a stream: one, or one for each line of JSON.

    >>> [event.data for event in json_events(b'{"a": 1}\n{"a": 2}\n')]
    ['{"a": 1}', '{"a": 2}']
    """
    text = body.decode("utf-8-sig", "replace").strip()
    if not text:
        return []
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(line[0] == "{" and line[-1] == "}" for line in lines):
        return [ServerSentEvent(line) for line in lines]
    return [ServerSentEvent(text, complete=text[-1] in "}]")]


MAX_OTHER_BYTES = 4096


def _is_whole(data: list[str]) -> bool:
    """Whether the data ends as a JSON object does: in the midst of one a comma would follow before the next."""
    return data[0].lstrip()[:1] == "{" and data[-1].rstrip()[-1:] == "}"


class EventDecoder:
    """Decodes a byte stream into events.

    Accepts LF, CRLF and CR line ends, a byte-order mark, comments, JSON objects without a blank line between them, and
    ``data:`` with or without the space. Text is decoded line by line, so a character that is split between pieces is
    decoded whole.

    >>> decoder = EventDecoder()
    >>> decoder.feed(b"data: {\\"a\\"") + decoder.feed(b": 1}\\n\\n")
    [ServerSentEvent(data='{"a": 1}', event=None, complete=True)]
    """

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._data: list[str] = []
        self._event: str | None = None
        self._is_utf8 = True
        self._started = False
        self._after_cr = False
        self.other_lines = b""
        """The beginning of what is no line of events, such as the page of a proxy that took over."""

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Return the events that this piece completes."""
        if self._after_cr and piece:
            # The last piece ended with CR: an LF right after it belongs to the same line end.
            self._after_cr = False
            if piece[:1] == b"\n":
                piece = piece[1:]
        if self._started and b"\n" not in piece and b"\r" not in piece:
            # Joined once, at the end of the line: an event of a megabyte arrives in hundreds of pieces.
            self._tail.append(piece)
            return []
        buffer = b"".join((*self._tail, piece))
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._tail = [buffer]
                return []
            self._started = True
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        self._after_cr = buffer.endswith(b"\r")
        *lines, rest = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._tail = [rest]
        events = []
        for line in lines:
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def close(self) -> list[ServerSentEvent]:
        """Return the remaining events of a stream that ended without a last blank line."""
        self._started = True
        events = self.feed(b"\n") if any(self._tail) else []
        last = self._line(b"")
        return [*events, replace(last, complete=False)] if last is not None else events

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            data, event, is_utf8 = self._data, self._event, self._is_utf8
            self._data, self._event, self._is_utf8 = [], None, True
            if not data:
                return None
            text = "\n".join(data)
            if is_utf8:
                return ServerSentEvent(text, event)
            plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return ServerSentEvent(plain, event, escaped=text)
        name, _, value = line.partition(b":")
        if name not in _NAMES:
            # Indented, or after padding: what a service sends so is text of its answer nevertheless.
            name = name.strip(b"\0 \t").lower()
            if name not in _NAMES:
                if len(self.other_lines) < MAX_OTHER_BYTES:
                    self.other_lines += line[:MAX_OTHER_BYTES] + b"\n"
                return None
        try:
            text = value.removeprefix(b" ").decode()
        except UnicodeDecodeError:
            # Perhaps a part of a character, of which the next event has the rest.
            errors = "surrogateescape" if name == b"data" else "replace"
            text = value.removeprefix(b" ").decode("utf-8", errors)
            self._is_utf8 = self._is_utf8 and name != b"data"
        if name == b"data":
            if self._data and _is_whole(self._data) and text.startswith(("{", "[DONE]")):
                # A service that leaves out the blank line between events.
                ended = self._line(b"")
                self._data = [text]
                return ended
            self._data.append(text)
        elif name == b"event":
            self._event = text
        return None
