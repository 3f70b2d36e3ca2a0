"""The protocol of a cache of paid responses: keys of 32 bytes to responses as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The contents of a store, and what this process read and wrote."""

    entries: int
    bytes: int
    """Bytes of the responses alone; the file is slightly larger."""
    hits: int
    misses: int
    stored: int
    """Responses added by this process."""
    damaged: int
    """Damaged responses that this process read; each counts as a miss too."""
    path: str | None
    """The file, or ``None`` for a store without one."""


class CacheStore(Protocol):
    """Responses by key. Safe for several threads; stores with a file are safe for several processes too."""

    @property
    def url(self) -> str:
        """Name of the store, such as ``sqlite:///home/me/answers.sqlite``; safe to print."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the responses in the order of ``keys``; ``None`` for one that is missing or damaged."""
        ...

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        """Store all items or none; existing responses stay. On return they survive a killed process.

        A store that cannot write (disk full, folder read-only) warns once and holds the responses in memory.
        """
        ...

    def emit_warnings(self) -> None:
        """Emit pending warnings, attributed to the caller's line.

        ``put_many`` does not emit them: worker threads call it, whose lines mean nothing to the user.
        """
        ...

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Remove the responses of these keys and return how many there were."""
        ...

    def stats(self) -> CacheStats:
        """Return the contents, and what this process has read and written."""
        ...

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        """Remove the oldest responses until at most ``max_bytes`` are left and none is older; return how many."""
        ...

    def close(self) -> None:
        """Finish pending writes and release the file. Idempotent."""
        ...
