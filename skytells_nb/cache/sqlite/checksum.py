"""How an answer lies in a file: one byte of version, one of kind, a CRC-32, then the answer."""

from __future__ import annotations

import struct
import zlib

_HEADER = struct.Struct(">BBI")
HEADER_BYTES = _HEADER.size
_VERSION = 1
_KIND_PLAIN = 0


def encode_record(key: bytes, answer: bytes | memoryview) -> bytes:
    """The answer with its header, in one copy; the checksum covers the key too, so that it fits under no other.

    Raises TypeError for what is no bytes, BufferError for a view whose bytes do not lie together.
    """
    return b"".join((_HEADER.pack(_VERSION, _KIND_PLAIN, _checksum(key, answer)), answer))


def decode_record(key: bytes, value: object) -> bytes | None:
    """The answer inside, or ``None`` where the value is damaged or of a version unknown here."""
    if not isinstance(value, bytes) or len(value) < HEADER_BYTES:
        return None
    version, kind, checksum = _HEADER.unpack_from(value)
    answer = value[HEADER_BYTES:]
    if version != _VERSION or kind != _KIND_PLAIN or checksum != _checksum(key, answer):
        return None
    return answer


def _checksum(key: bytes, answer: bytes | memoryview) -> int:
    return zlib.crc32(answer, zlib.crc32(key))
