"""Connections to one database file: one for each thread that is inside it, none across a fork."""

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

_PATIENCE_S = BUSY_TIMEOUT_S + 10  # nobody can be inside for longer, and an exit must not hang on a lost count


class DamagedFile(Exception):
    """The file turned out to be damaged; ``identity`` says which file that was."""

    def __init__(self, identity: Identity | None) -> None:
        super().__init__("the file is damaged")
        self.identity = identity


class ConnectionPool:
    """Lends connections, opened as needed and kept for the next one who asks.

    A file that was removed or replaced since is noticed, and opened anew. SQLite's locks do not survive a fork, so all
    connections are closed before one; ``after_fork`` is called in the child.
    """

    def __init__(
        self, path: Path, opener: Callable[[], sqlite3.Connection], after_fork: Callable[[], None] | None = None
    ) -> None:
        self._path = path
        self._open = opener
        self._after_fork = after_fork
        self._forget()
        with _forks.lock:
            _forks.every.add(self)

    def _forget(self) -> None:
        self._gate = threading.Condition(threading.RLock())
        self._idle: list[tuple[Identity | None, sqlite3.Connection]] = []
        self._lent = 0
        self._barred = False
        self._closed = False

    @contextlib.contextmanager
    def acquire(self) -> Iterator[sqlite3.Connection]:
        """A connection for the block, which must end its transaction; one that saw an error is not used again.

        Raises DamagedFile in the place of SQLite's errors that mean damage.
        """
        with self._gate:
            self._gate.wait_for(lambda: not self._barred)
            if self._closed:
                raise CacheError(f"The cache {self._path} is closed; open it again to use it.")
            self._lent += 1
        which: Identity | None = None
        connection: sqlite3.Connection | None = None
        try:
            which = identity(self._path)
            connection = self._take(which)
            which = which or identity(self._path)
            yield connection
        except BaseException as problem:
            if connection is not None:
                _close(connection)
            self._give_back(which, None)
            if is_damage(problem):
                raise DamagedFile(which) from problem
            raise
        else:
            self._give_back(which, connection)

    def _take(self, which: Identity | None) -> sqlite3.Connection:
        while True:
            with self._gate:
                if not self._idle:
                    break
                was, connection = self._idle.pop()
            if was == which:
                return connection
            _close(connection)
        return self._open()

    def _give_back(self, which: Identity | None, connection: sqlite3.Connection | None) -> None:
        with self._gate:
            self._lent -= 1
            if connection is not None:
                self._idle.append((which, connection))
            self._gate.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until nobody is inside, close every connection, and let nobody in during the block."""
        self._bar()
        try:
            yield
        finally:
            self._unbar()

    def _bar(self) -> None:
        with self._gate:
            self._gate.wait_for(lambda: not self._barred)
            self._barred = True
            try:
                self._gate.wait_for(lambda: self._lent == 0, timeout=_PATIENCE_S)
            except BaseException:
                self._unbar()
                raise
            idle, self._idle = self._idle, []
        for _, connection in idle:
            _close(connection)

    def _unbar(self) -> None:
        with self._gate:
            self._barred = False
            self._gate.notify_all()

    def close(self) -> None:
        """Close every connection for good; the last one to a file leaves no log beside it."""
        with self.exclusive():
            self._closed = True

    def __del__(self) -> None:
        for _, connection in getattr(self, "_idle", ()):
            _close(connection)

    def _in_child(self) -> None:
        closed = self._closed
        self._forget()
        self._closed = closed
        if self._after_fork is not None:
            self._after_fork()


class _Forks:
    """All connections of this process, closed around every fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.every: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
        self._barred: list[ConnectionPool] = []

    def before(self) -> None:
        self.lock.acquire()
        for connections in list(self.every):
            connections._bar()
            self._barred.append(connections)

    def in_parent(self) -> None:
        while self._barred:
            self._barred.pop()._unbar()
        self.lock.release()

    def in_child(self) -> None:
        # Only the forking thread is here, so a lock that another one held would stay held: all are made anew.
        self.lock = threading.Lock()
        self._barred.clear()
        for connections in list(self.every):
            connections._in_child()


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent, after_in_child=_forks.in_child)
