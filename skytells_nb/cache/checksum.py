"""The record of a response in a file: a byte of version, a byte of kind, a CRC-32, then the response."""

from __future__ import annotations

import struct
import zlib

_HEADER = struct.Struct(">BBI")
HEADER_BYTES = _HEADER.size
_VERSION = 1
_KIND_PLAIN = 0


def encode_record(key: bytes, response: bytes | memoryview) -> bytes:
    """Return the response with its header, in one copy; the checksum covers the key too, so it is valid under no other.

    Raises TypeError for a value that is not bytes, BufferError for a view that is not contiguous.
    """
    return b"".join((_HEADER.pack(_VERSION, _KIND_PLAIN, _checksum(key, response)), response))


def decode_record(key: bytes, value: object) -> bytes | None:
    """Return the response in a record, or ``None`` if it is damaged or of an unknown version."""
    if not isinstance(value, bytes) or len(value) < HEADER_BYTES:
        return None
    version, kind, checksum = _HEADER.unpack_from(value)
    response = value[HEADER_BYTES:]
    if version != _VERSION or kind != _KIND_PLAIN or checksum != _checksum(key, response):
        return None
    return response


def _checksum(key: bytes, response: bytes | memoryview) -> int:
    return zlib.crc32(response, zlib.crc32(key))
