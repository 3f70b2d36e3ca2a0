"""Answers that no file took: kept while the process lives, for whoever opens that file next."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path


class MemoryOverflow:
    """Paid answers by their keys; there is one of these for a file, see ``held_for``. Safe for several threads."""

    def __init__(self) -> None:
        self._answers: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        with self._lock:
            return sum(map(len, self._answers.values()))

    def items(self) -> list[tuple[bytes, bytes]]:
        with self._lock:
            return list(self._answers.items())

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of ``keys`` that are here."""
        if not self._answers:
            return {}
        with self._lock:
            return {key: self._answers[key] for key in keys if key in self._answers}

    def add(self, items: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Keep these; the first answer to a key stays."""
        with self._lock:
            for key, value in items:
                self._answers.setdefault(key, bytes(value))

    def discard(self, keys: Iterable[bytes]) -> int:
        """Forget these; how many were here."""
        with self._lock:
            return sum(self._answers.pop(key, None) is not None for key in keys)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()


_every: dict[str, MemoryOverflow] = {}


def overflow_for(path: Path) -> MemoryOverflow:
    """What is held for the file at ``path``.

    >>> held_for(Path("answers.sqlite")) is held_for(Path("answers.sqlite"))
    True
    """
    # One step for the interpreter, as the key is a string: no lock, which a fork could leave locked.
    return _every.setdefault(str(path), MemoryOverflow())
