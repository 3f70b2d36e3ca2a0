"""Stores without a file: one that lasts as long as the process, and one that stores nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from skytells_nb.cache.store import CacheStats, LeaseState
from skytells_nb.progress.events import StepCallback

DAY_S = 86_400


class NoLeases:
    """The leases of a store that only one caller requests for: every key may be acquired.

    >>> NoLeases().acquire([b"a", b"b"], b"owner", 30.0)
    ['acquired', 'acquired']
    """

    def snapshot(self) -> object:
        return None

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        return ["acquired"] * len(keys)

    def renew(self, owner: bytes, seconds: float) -> bool:
        """Return True: no lease expires."""
        return True

    def release(self, owner: bytes, keys: Sequence[bytes] | None = None) -> None:
        """Do nothing: no lease is held."""


class _MemoryLeases(NoLeases):
    """Within one process the engine itself knows which keys are in flight; only stored responses are looked up."""

    def __init__(self, entries: Mapping[bytes, tuple[float, bytes, int]], last: list[int]) -> None:
        self._entries = entries
        self._last = last

    def snapshot(self) -> object:
        return self._last[0]

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        if not changed:
            return ["acquired"] * len(keys)
        after = snapshot if isinstance(snapshot, int) else 0
        entries = map(self._entries.get, keys)
        return ["acquired" if entry is None or entry[2] <= after else "stored" for entry in entries]


class MemoryStore:
    """Responses in a dictionary, lost when the process ends. A pickled copy is empty."""

    url = "memory://"
    unsaved = 0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[bytes, tuple[float, bytes, int]] = {}
        self._last = [0]  # shared with the leases, which must not keep the responses alive
        self.leases = _MemoryLeases(self._entries, self._last)
        self._hits = self._misses = self._stored = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            entries = [self._entries.get(key) for key in keys]
            missing = sum(entry is None for entry in entries)
            self._misses += missing
            self._hits += len(entries) - missing
        return [None if entry is None else entry[1] for entry in entries]

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        with self._lock:
            return [key in self._entries for key in keys]

    def keys(self) -> bytes:
        with self._lock:
            return b"".join(self._entries)

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        now = time.time()
        with self._lock:
            before = len(self._entries)
            for key, value in items:
                # A view would keep the whole buffer behind it in memory.
                self._last[0] += 1
                entry = (now, bytes(value), self._last[0])
                if replace:
                    self._entries[key] = entry
                else:
                    self._entries.setdefault(key, entry)
            self._stored += len(self._entries) - before

    def emit_warnings(self) -> None:
        """Do nothing: there are no warnings."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def stats(self) -> CacheStats:
        with self._lock:
            size = sum(len(value) for _, value, _ in self._entries.values())
            return CacheStats(
                entries=len(self._entries),
                bytes=size,
                hits=self._hits,
                misses=self._misses,
                stored=self._stored,
                damaged=0,
                path=None,
            )

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        oldest = None if older_than_days is None else time.time() - older_than_days * DAY_S
        with self._lock:
            before = len(self._entries)
            size = sum(len(value) for _, value, _ in self._entries.values())
            for key, (stored_at, value, _) in list(self._entries.items()):
                too_old = oldest is not None and stored_at < oldest
                too_much = max_bytes is not None and size > max_bytes
                if not (too_old or too_much):
                    break
                del self._entries[key]
                size -= len(value)
            return before - len(self._entries)

    def run(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Do nothing: the responses last as long as the store."""

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryStore, ()

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._entries)} responses)"


class OffStore:
    """The cache turned off: it stores nothing, so every call is paid for again."""

    url = "off"
    leases = NoLeases()
    unsaved = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        return [False] * len(keys)

    def keys(self) -> bytes:
        return b""

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        """Store nothing."""

    def emit_warnings(self) -> None:
        """Do nothing: there are no warnings."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        return 0

    def stats(self) -> CacheStats:
        return CacheStats(entries=0, bytes=0, hits=0, misses=0, stored=0, damaged=0, path=None)

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        return 0

    def run(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "OffStore()"
