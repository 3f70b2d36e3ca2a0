"""Responses that could not be written to their store, in memory until they can."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class MemoryOverflow:
    """Responses that could not be written to a store, held in memory for every object of that store in this process.

    One instance for each file or server, see ``overflow_for``. ``position`` grows with each change, so that a caller
    can tell responses from before and after a moment apart, also once they are in the store. Safe for several threads.
    """

    def __init__(self) -> None:
        self._responses: dict[bytes, bytes] = {}
        self._added: dict[bytes, int] = {}
        """The position at which each response was added."""
        self._moved: dict[bytes, tuple[int, int]] = {}
        """The positions at which each one that is now in the store was added, and moved there."""
        self.position = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._responses)

    @property
    def size(self) -> int:
        """Bytes of all responses."""
        with self._lock:
            return sum(map(len, self._responses.values()))

    def items(self) -> list[tuple[bytes, bytes]]:
        with self._lock:
            return list(self._responses.items())

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the responses of those of ``keys`` that are held."""
        if not self._responses:
            return {}
        with self._lock:
            return {key: self._responses[key] for key in keys if key in self._responses}

    def added_after(self, keys: Iterable[bytes], position: int) -> set[bytes]:
        """Return those of ``keys`` that are held, and were not yet at this position."""
        if not self._responses:
            return set()
        with self._lock:
            return {key for key in keys if self._added.get(key, 0) > position}

    def moved_after(self, position: int) -> set[bytes]:
        """Return the keys that were held at this position and were moved to the store since."""
        if not self._moved:
            return set()
        with self._lock:
            return {key for key, (added, moved) in self._moved.items() if added <= position < moved}

    def add(self, items: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Add responses; the first one of a key stays."""
        with self._lock:
            self.position += 1
            for key, value in items:
                if key not in self._responses:
                    self._responses[key] = bytes(value)
                    self._added[key] = self.position

    def discard(self, keys: Iterable[bytes]) -> int:
        """Remove the responses of these keys and return how many there were."""
        with self._lock:
            count = 0
            for key in keys:
                self._added.pop(key, None)
                self._moved.pop(key, None)
                count += self._responses.pop(key, None) is not None
            return count

    def move(self, keys: Iterable[bytes]) -> None:
        """Remove the responses of these keys, which are now in the store."""
        with self._lock:
            self.position += 1
            for key in keys:
                if self._responses.pop(key, None) is not None:
                    self._moved[key] = self._added.pop(key), self.position

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()


_overflows: dict[str, MemoryOverflow] = {}


def overflow_for(name: str) -> MemoryOverflow:
    """Return the overflow of the store of this name: a path, or the address of a server.

    >>> overflow_for("answers.sqlite") is overflow_for("answers.sqlite")
    True
    """
    # Atomic in CPython, as the key is a string: a lock could be left locked by a fork.
    return _overflows.setdefault(name, MemoryOverflow())
