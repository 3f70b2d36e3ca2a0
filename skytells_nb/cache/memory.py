"""Stores without a file: one that lasts as long as the process, and one that holds nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from skytells_nb.cache.store import CacheStats

DAY_S = 86_400


class MemoryStore:
    """Answers in a dictionary, gone when the process ends. A pickled copy arrives empty."""

    url = "memory://"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[bytes, tuple[float, bytes]] = {}
        self._hits = self._misses = self._stored = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            found = [self._answers.get(key) for key in keys]
            missing = sum(entry is None for entry in found)
            self._misses += missing
            self._hits += len(found) - missing
        return [None if entry is None else entry[1] for entry in found]

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        now = time.time()
        with self._lock:
            before = len(self._answers)
            for key, value in items:
                # A view would keep all that it is a part of.
                self._answers.setdefault(key, (now, bytes(value)))
            self._stored += len(self._answers) - before

    def emit_warnings(self) -> None:
        """There is nothing to warn of."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        with self._lock:
            return sum(self._answers.pop(key, None) is not None for key in keys)

    def stats(self) -> CacheStats:
        with self._lock:
            size = sum(len(value) for _, value in self._answers.values())
            return CacheStats(
                entries=len(self._answers),
                bytes=size,
                hits=self._hits,
                misses=self._misses,
                stored=self._stored,
                damaged=0,
                path=None,
            )

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        oldest = None if older_than_days is None else time.time() - older_than_days * DAY_S
        with self._lock:
            before = len(self._answers)
            size = sum(len(value) for _, value in self._answers.values())
            for key, (stored_at, value) in list(self._answers.items()):
                too_old = oldest is not None and stored_at < oldest
                too_much = max_bytes is not None and size > max_bytes
                if not (too_old or too_much):
                    break
                del self._answers[key]
                size -= len(value)
            return before - len(self._answers)

    def close(self) -> None:
        """Nothing to let go of: the answers last as long as the store."""

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryStore, ()

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._answers)} answers)"


class OffStore:
    """The cache turned off: holds nothing, so every call is paid for again."""

    url = "off"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        """Nothing is kept."""

    def emit_warnings(self) -> None:
        """There is nothing to warn of."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        return 0

    def stats(self) -> CacheStats:
        return CacheStats(entries=0, bytes=0, hits=0, misses=0, stored=0, damaged=0, path=None)

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        return 0

    def close(self) -> None:
        """Nothing to let go of."""

    def __repr__(self) -> str:
        return "OffStore()"
