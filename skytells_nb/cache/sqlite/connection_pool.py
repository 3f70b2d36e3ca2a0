"""A pool of connections to one database file, one for each thread that uses it; none survives a fork."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from skytells_nb.cache.sqlite.database import BUSY_TIMEOUT_S, Identity, identity, is_damage
from skytells_nb.errors import CacheError

_EXCLUSIVE_TIMEOUT_S = BUSY_TIMEOUT_S + 10  # no use takes longer, and an exit must not hang on a lost count


class DamagedFile(Exception):
    """The file is damaged; ``identity`` says which file it was."""

    def __init__(self, identity: Identity | None) -> None:
        super().__init__("the file is damaged")
        self.identity = identity


class ConnectionPool:
    """Connections that are opened as needed and reused.

    A file that was removed or replaced is noticed and opened again. SQLite's locks do not survive a fork, so all
    connections are closed before one; ``after_fork`` is called in the child.
    """

    def __init__(
        self, path: Path, opener: Callable[[], sqlite3.Connection], after_fork: Callable[[], None] | None = None
    ) -> None:
        self._path = path
        self._open = opener
        self._after_fork = after_fork
        self._reset()
        with _forks.lock:
            _forks.pools.add(self)

    def _reset(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._idle: list[tuple[Identity | None, sqlite3.Connection]] = []
        self._in_use = 0
        self._blocked = False
        self._closed = False

    @contextlib.contextmanager
    def acquire(self) -> Iterator[sqlite3.Connection]:
        """Return a connection for the block, which must end its transaction; after an error it is not reused.

        Raises DamagedFile in place of those errors of SQLite that mean damage.
        """
        with self._condition:
            self._condition.wait_for(lambda: not self._blocked)
            if self._closed:
                raise CacheError(f"The cache {self._path} is closed; open it again to use it.")
            self._in_use += 1
        current: Identity | None = None
        connection: sqlite3.Connection | None = None
        try:
            current = identity(self._path)
            connection = self._take(current)
            current = current or identity(self._path)
            yield connection
        except BaseException as problem:
            if connection is not None:
                _close(connection)
            self._release(current, None)
            if is_damage(problem):
                raise DamagedFile(current) from problem
            raise
        else:
            self._release(current, connection)

    def _take(self, current: Identity | None) -> sqlite3.Connection:
        while True:
            with self._condition:
                if not self._idle:
                    break
                opened_for, connection = self._idle.pop()
            if opened_for == current:
                return connection
            _close(connection)
        return self._open()

    def _release(self, current: Identity | None, connection: sqlite3.Connection | None) -> None:
        with self._condition:
            self._in_use -= 1
            if connection is not None:
                self._idle.append((current, connection))
            self._condition.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no connection is in use, close all of them, and block new ones during the block."""
        self._block()
        try:
            yield
        finally:
            self._unblock()

    def _block(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: not self._blocked)
            self._blocked = True
            try:
                self._condition.wait_for(lambda: self._in_use == 0, timeout=_EXCLUSIVE_TIMEOUT_S)
            except BaseException:
                self._unblock()
                raise
            idle, self._idle = self._idle, []
        for _, connection in idle:
            _close(connection)

    def _unblock(self) -> None:
        with self._condition:
            self._blocked = False
            self._condition.notify_all()

    def close(self) -> None:
        """Close every connection for good; the last one to a file removes the log beside it."""
        with self.exclusive():
            self._closed = True

    def __del__(self) -> None:
        for _, connection in getattr(self, "_idle", ()):
            _close(connection)

    def _reset_after_fork(self) -> None:
        closed = self._closed
        self._reset()
        self._closed = closed
        if self._after_fork is not None:
            self._after_fork()


class _Forks:
    """All pools of this process, whose connections are closed before every fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
        self._blocked: list[ConnectionPool] = []

    def before(self) -> None:
        self.lock.acquire()
        for pool in list(self.pools):
            pool._block()
            self._blocked.append(pool)

    def in_parent(self) -> None:
        while self._blocked:
            self._blocked.pop()._unblock()
        self.lock.release()

    def in_child(self) -> None:
        # Only the forking thread exists here, so a lock that another one held would stay locked: all are replaced.
        self.lock = threading.Lock()
        self._blocked.clear()
        for pool in list(self.pools):
            pool._reset_after_fork()


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent, after_in_child=_forks.in_child)
