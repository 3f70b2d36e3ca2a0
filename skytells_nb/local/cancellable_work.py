"""Work in threads that stops once the client that it is for has left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import anyio.to_thread

T = TypeVar("T")

Cancelled: TypeAlias = Callable[[], bool]
"""Whether no client waits for the work anymore."""


class WorkCancelled(Exception):
    """Raised by work in a thread whose client left."""


async def run_in_thread(work: Callable[[Cancelled], T]) -> T:
    """Run ``work`` in a thread and return its result.

    If this is cancelled, it ends at once, and what ``work`` was given returns true: between two steps it looks there,
    and raises WorkCancelled, because a thread cannot be ended from outside.
    """
    is_cancelled = threading.Event()
    try:
        return await anyio.to_thread.run_sync(work, is_cancelled.is_set, abandon_on_cancel=True)
    finally:
        is_cancelled.set()
