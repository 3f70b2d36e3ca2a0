"""Responses that could not be written to their store, in memory until they can."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class MemoryOverflow:
    """Responses that could not be written to a store, held in memory for every object of that store in this process.

    One instance for each file or server, see ``overflow_for``. Safe for several threads.
    """

    def __init__(self) -> None:
        self._responses: dict[bytes, bytes] = {}
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

    def add(self, items: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Add responses; the first one of a key stays."""
        with self._lock:
            for key, value in items:
                self._responses.setdefault(key, bytes(value))

    def discard(self, keys: Iterable[bytes]) -> int:
        """Remove the responses of these keys and return how many there were."""
        with self._lock:
            return sum(self._responses.pop(key, None) is not None for key in keys)

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
