"""What every cache of paid answers offers: keys of 32 bytes to answers as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a store holds, and what this process did with it."""

    entries: int
    bytes: int
    """Bytes of the answers alone; the file around them is a little larger."""
    hits: int
    misses: int
    stored: int
    """Answers added by this process."""
    damaged: int
    """Answers this process found damaged; each counts as a miss too."""
    path: str | None
    """The file, where there is one."""


class CacheStore(Protocol):
    """Answers by key. Safe to use from several threads; stores with a file are safe between processes as well."""

    @property
    def url(self) -> str:
        """Which store this is, such as ``sqlite:///home/me/answers.sqlite``; safe to print."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The answers in the order of ``keys``; ``None`` where there is none. A damaged answer is one there is not."""
        ...

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        """Store all of them or none; what is there already stays. On return they survive a killed process.

        A store that cannot write (disk full, folder read-only) warns once and keeps the answers in memory.
        """
        ...

    def emit_warnings(self) -> None:
        """Warn of what went wrong since, at the line of the caller.

        ``put_many`` leaves that to others: workers call it, whose warnings nobody could place.
        """
        ...

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Remove these; how many were there."""
        ...

    def stats(self) -> CacheStats:
        """What is held now, and what this process has read and written."""
        ...

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        """Remove the oldest answers until at most ``max_bytes`` are left and none is older; how many went."""
        ...

    def close(self) -> None:
        """Finish what is being written and let go of the file. A second call does nothing."""
        ...
