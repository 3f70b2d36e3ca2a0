"""The parts of an HTTP/1.1 response: its head, and its body within limits."""

from __future__ import annotations

import http.client
import io
import re
import zlib
from collections.abc import Mapping
from typing import Any

from skytells_nb.errors import InvalidResponseError, ResponseTooLargeError
from skytells_nb.sanitize import quoted_name

_LINE_BYTES = 65_536
_CHUNK_LINE_BYTES = 4_096
_CHUNK_SIZE = re.compile(r"0*[0-9A-Fa-f]{1,15}").fullmatch
_MAX_FIELDS = 100
_MAX_INFORMATIONAL = 100
_MAX_DIGITS = 18
"""Digits of a length that is read as a number; Python refuses to convert thousands of them."""
_ONE_READ_BYTES = 32 << 20
"""Bytes that are reserved at once because a length announces them: the largest usual response, 2,048 vectors."""
_PIECE_BYTES = 1 << 20
ERROR_BODY_BYTES = 1 << 20
"""Bytes of the body of an error that are read; the rest says no more."""
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FRAMING = frozenset(("content-length", "transfer-encoding"))
"""Header fields that define where a body ends: two different values would be ambiguous."""


class ResponseHead:
    """The status line and header fields, by lower-case names; repeated fields are joined by commas.

    What follows from them is worked out once: it is asked for several times in each response.
    """

    __slots__ = ("chunked", "connection_close", "fields", "is_informational", "length", "status")

    def __init__(self, minor: int, status: int, fields: dict[str, str]) -> None:
        self.status = status
        self.fields = fields
        self.is_informational = 100 <= status < 200
        coding = fields.get("transfer-encoding", "").lower()
        self.chunked = coding == "chunked" or (bool(coding) and self._has_chunks(coding))
        self.length: int | None
        """Bytes of the body, ``None`` if the last chunk or the connection's end delimits it."""
        if self.is_informational or status in (204, 304):
            self.length = 0
        else:
            self.length = None if self.chunked else announced_length(fields)
        options = fields.get("connection", "").lower()
        self.connection_close = (
            "close" in options
            or (minor == 0 and "keep-alive" not in options)
            or (not self.chunked and self.length is None)
        )
        """Whether the server closes the connection after this response."""

    def _has_chunks(self, coding: str) -> bool:
        """Whether the last transfer coding is of chunks; others before it are read like encodings of the content."""
        *others, last = [part.strip() for part in coding.split(",")]
        if others := [name for name in others if name != "chunked"]:
            self.fields["content-encoding"] = ", ".join((self.fields.get("content-encoding", "identity"), *others))
        return last == "chunked"


def is_unencoded(headers: Mapping[str, str]) -> bool:
    """Whether a body is sent as it is, so that it can be read as it arrives."""
    return headers.get("content-encoding", "identity").strip().lower() in ("", "identity")


def announced_length(fields: Mapping[str, str]) -> int | None:
    """Return the bytes that a ``content-length`` announces, ``None`` if it is missing or none; at most 10^18."""
    length = fields.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return None
    digits = length.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


def read_final_head(stream: io.BufferedIOBase) -> ResponseHead:
    """Read the head of the response itself, after those of informational ones; raises like ``read_head``."""
    for _ in range(_MAX_INFORMATIONAL):
        head = read_head(stream)
        if not head.is_informational:
            return head
    raise http.client.HTTPException(f"more than {_MAX_INFORMATIONAL} informational responses came before the response")


def read_head(stream: io.BufferedIOBase) -> ResponseHead:
    """Read the next head; raises HTTPException if it is invalid, RemoteDisconnected if it is incomplete."""
    line = _line(stream)
    if line in ("\r\n", "\n"):
        # One too many after the response before, as some servers send it.
        line = _line(stream)
    minor, status = _status(line)
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


def _line(stream: io.BufferedIOBase, max_bytes: int = _LINE_BYTES, what: str = "header line") -> str:
    line = stream.readline(max_bytes + 1)
    if len(line) > max_bytes:
        raise http.client.LineTooLong(what)
    if not line.endswith(b"\n"):
        where = "the head of its response" if what == "header line" else what
        raise http.client.RemoteDisconnected(f"the server closed the connection within {where}")
    return line.decode("latin-1")


class BodyReader:
    """Reads the body that follows a head, at most ``max_bytes`` of it.

    A longer one raises ResponseTooLargeError, before its bytes are reserved if its length is announced; of an error's
    body the rest is left unread. ``closes`` is whether the connection cannot be used again.
    """

    def __init__(self, stream: io.BufferedReader[Any], head: ResponseHead, max_bytes: int) -> None:
        self._stream = stream
        self._head = head
        self._max_bytes = max_bytes if 200 <= head.status < 300 else min(max_bytes, ERROR_BODY_BYTES)
        self._chunked = head.chunked and head.length is None
        self._left: int | None = 0 if self._chunked else head.length
        """Bytes left in this chunk or body; ``None`` if the connection's end ends it."""
        self._received = 0
        self._over = False
        self.closes = head.connection_close
        if head.length is not None and head.length > self._max_bytes:
            self._exceed(head.length)

    @property
    def length(self) -> int | None:
        """Bytes of the body, ``None`` if they are not known."""
        return self._head.length

    def wait(self) -> None:
        """Wait for the first byte of the body."""
        if self._left:
            self._stream.peek(1)

    def read_some(self, size: int = -1) -> bytes:
        """Return bytes as they arrive, at most ``size`` if that is positive; none at the end.

        Raises HTTPException if the connection ends before the body.
        """
        if self._over:
            return b""
        if self._chunked and not self._left and not self._next_chunk():
            return b""
        left = self._left
        if left == 0:
            self._over = True
            return b""
        if left is not None:
            size = left if size < 0 else min(size, left)
        piece = self._stream.read1(size)
        if not piece:
            self._over = True
            if left is None:
                return b""
            raise http.client.IncompleteRead(b"", left)
        return self._take(piece)

    def read(self, size: int | None = None) -> bytes:
        """Return the rest of the body, or about ``size`` bytes of it; raises like ``read_some``."""
        left = self._left
        if size is None and not self._chunked and left is not None and left <= _ONE_READ_BYTES and not self._over:
            self._over = True
            whole = self._stream.read(left)
            if len(whole) < left:
                raise http.client.IncompleteRead(whole, left - len(whole))
            return whole
        buffer = io.BytesIO()
        while size is None or buffer.tell() < size:
            piece = self.read_some(_PIECE_BYTES)
            if not piece:
                break
            buffer.write(piece)
        return buffer.getvalue()

    def _take(self, piece: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(piece)
            if self._chunked and not self._left:
                self._end_line()
        self._received += len(piece)
        if self._received > self._max_bytes:
            self._exceed(None)
            return piece[: self._max_bytes - self._received]
        return piece

    def _exceed(self, length: int | None) -> None:
        """Stop at the limit: raise for a response, end the body of an error."""
        if 200 <= self._head.status < 300:
            raise too_large(self._max_bytes, length, self._head.fields)
        self._chunked, self.closes = False, True
        if length is None:
            self._over = True
        else:
            self._left = self._max_bytes

    def _next_chunk(self) -> bool:
        """Read the size of the next chunk; at the last one read what follows it, and return ``False``."""
        line = _line(self._stream, _CHUNK_LINE_BYTES, "the size of a chunk")
        digits = line.partition(";")[0].strip()
        if not _CHUNK_SIZE(digits):
            raise http.client.HTTPException("the size of a chunk is not valid HTTP")
        self._received += len(line)
        self._left = int(digits, 16)
        if self._left:
            if self._received + self._left > self._max_bytes:
                # Not awaited: it may never come.
                self._exceed(None)
                return not self._over
            return True
        self._over = True
        for _ in range(_MAX_FIELDS + 1):
            if _line(self._stream) in ("\r\n", "\n"):
                return False
        raise http.client.HTTPException(f"the response has more than {_MAX_FIELDS} fields after its body")

    def _end_line(self) -> None:
        if self._stream.read(1) == b"\r" and self._stream.read(1) == b"\n":
            return
        raise http.client.HTTPException("a chunk is longer than its size")


def too_large(max_bytes: int, length: int | None, fields: Mapping[str, str]) -> ResponseTooLargeError:
    """Return the error for a response of more than ``max_bytes``."""
    size = "more" if length is None or length >= 10**_MAX_DIGITS else f"{length / 1e6:,.0f} MB"
    return ResponseTooLargeError(
        f"The response must be at most {max_bytes / 1e6:,.6g} MB, got {size}. Raise max_answer_mb=, or send fewer "
        "inputs per request.",
        request_id=fields.get("x-request-id"),
    )


def decode_body(content: bytes, encoding: str, max_bytes: int, fields: Mapping[str, str]) -> bytes:
    """Return the body without its content encoding, which no request asked for.

    Raises ResponseTooLargeError if it becomes too large, InvalidResponseError for an encoding that cannot be read.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise InvalidResponseError(
                f"The response must be uncompressed, gzip or deflate, got content-encoding {quoted_name(name)!r}.",
                request_id=fields.get("x-request-id"),
            )
        content = _inflate(content, name, max_bytes, fields)
    return content


_GZIP = b"\x1f\x8b"


def _inflate(content: bytes, name: str, max_bytes: int, fields: Mapping[str, str]) -> bytes:
    # "deflate" is zlib's format by the standard, and the raw one from some servers.
    kinds = (31,) if "gzip" in name else (15, -15)
    failure: zlib.error | None = None
    for kind in kinds:
        decoder = zlib.decompressobj(kind)
        try:
            plain = decoder.decompress(content, max_bytes + 1)
            while kind == 31 and decoder.eof and decoder.unused_data.startswith(_GZIP) and len(plain) <= max_bytes:
                # Several members, one after another, are one body.
                rest, decoder = decoder.unused_data, zlib.decompressobj(kind)
                plain += decoder.decompress(rest, max_bytes + 1 - len(plain))
        except zlib.error as problem:
            if kind == 31 and not content.startswith(_GZIP) and content.lstrip()[:1] in (b"{", b"["):
                # A proxy that decompressed the body and kept the header.
                return content
            failure = failure or problem
            continue
        if len(plain) > max_bytes:
            raise too_large(max_bytes, None, fields)
        if decoder.eof or not content:
            return plain
        failure = failure or zlib.error("it ends too early")
    raise InvalidResponseError(
        f"The response cannot be decompressed ({name}): {failure}.", request_id=fields.get("x-request-id")
    )
