"""The limits of a cache file, kept by the processes that write to it, while nothing waits for it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from skytells_nb.cache.sqlite import queries
from skytells_nb.cache.store import CacheLimits

DAY_S = 86_400
CHECK_EVERY_S = 10.0
ROWS_PER_STEP = 500
"""Responses that are removed at once: a writer waits for some hundredths of a second at most."""
REST = 2.0
"""Times as long as a step took until the next one."""

T = TypeVar("T")


class LimitKeeper:
    """Removes the oldest responses beyond the limits, in a thread of its own and in small steps.

    What a run stores stays until a later run of this process has stored something, however much it is: nothing that was
    just paid for is lost. ``write`` does some work on a connection, or returns ``None`` if the file cannot be written;
    ``is_busy`` is whether another process is requesting something, whose responses are as young as ours.
    """

    def __init__(
        self,
        limits: CacheLimits,
        write: Callable[[Callable[[sqlite3.Connection], int]], int | None],
        is_busy: Callable[[sqlite3.Connection], bool],
    ) -> None:
        self.limits = limits
        self._write = write
        self._is_busy = is_busy
        self._latest: int | None = None
        """The first id that the latest run with new responses can have stored; ``None`` before the first run."""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the thread and the runs of the parent."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._check_again = False
        self._closed = threading.Event()
        self._runs: list[int] = []
        self._next_check = 0.0

    @contextlib.contextmanager
    def run(self, last_id: Callable[[], int | None]) -> Iterator[None]:
        """Protect what is stored meanwhile; then check the limits."""
        if not self.limits:
            yield
            return
        first = (last_id() or 0) + 1
        with self._lock:
            self._runs.append(first)
        try:
            yield
        finally:
            stored = (last_id() or 0) >= first
            with self._lock:
                self._runs.remove(first)
                # A run that finds everything in the cache leaves it as it is.
                if stored:
                    self._latest = first
            self.check(now=True)

    def _protected_from(self) -> int | None:
        """Return the first id that a run of now, or the latest one that stored something, can have stored."""
        with self._lock:
            first = self._runs if self._latest is None else [*self._runs, self._latest]
            return min(first, default=None)

    def check(self, *, now: bool = False) -> None:
        """Start to remove what is too much, every ten seconds or ``now``; return at once."""
        if not self.limits or (not now and time.monotonic() < self._next_check):
            return
        with self._lock:
            self._next_check = time.monotonic() + CHECK_EVERY_S
            if self._closed.is_set():
                return
            if self._thread is not None and self._thread.is_alive():
                # It may have looked already, before there was too much.
                self._check_again = True
                return
            self._check_again = False
            self._thread = threading.Thread(target=self._keep, name="skytells-cache-limits", daemon=True)
            # No thread can start while the interpreter shuts down.
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def close(self) -> None:
        """End the thread after its step."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _keep(self) -> None:
        while not self._closed.is_set():
            started = time.monotonic()
            if not self._write(self._step):
                with self._lock:
                    if not self._check_again:
                        self._thread = None
                        return
                    self._check_again = False
            self._closed.wait(REST * (time.monotonic() - started))

    def _step(self, connection: sqlite3.Connection) -> int:
        if self._is_busy(connection):
            return 0
        limits = self.limits
        oldest = None if limits.max_age_days is None else time.time() - limits.max_age_days * DAY_S
        return queries.in_transaction(
            connection,
            lambda: queries.remove_oldest(
                connection, limits.max_bytes, oldest, most=ROWS_PER_STEP, before=self._protected_from()
            ),
        ).entries
