"""A model whose answers a test releases piece by piece, for the chat panel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from local_fakes import EchoGenerator, EchoPiece

PATIENCE_S = 60
"""How long a held answer waits for its test, at most."""
FREE = 3
"""Pieces that are always released: the service holds back the newest until it is checked."""


class Tap(EchoGenerator):
    """Repeats the last message; after ``shut``, each piece after the third needs a ``let``."""

    context = 100_000

    def __init__(self) -> None:
        super().__init__()
        self._open = threading.Event()
        self._open.set()
        self._permits = threading.Semaphore(0)

    def shut(self) -> None:
        """Hold back whatever follows the first pieces of an answer."""
        self._permits = threading.Semaphore(0)
        self._open.clear()

    def let(self, pieces: int) -> None:
        """Let this many more pieces out."""
        self._permits.release(pieces)

    def flow(self) -> None:
        """Hold nothing back any more."""
        self._open.set()
        self._permits.release(10_000)

    def stream(self, messages: list[dict[str, Any]], **options: Any) -> Iterator[EchoPiece]:
        for count, piece in enumerate(super().stream(messages, **options)):
            if count >= FREE and not self._open.is_set():
                self._permits.acquire(timeout=PATIENCE_S)
            yield piece
