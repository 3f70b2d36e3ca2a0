"""The default store: one SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import atexit
import contextlib
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from skytells_nb import user_dirs
from skytells_nb.cache.group_commit import GroupCommit
from skytells_nb.cache.overflow import overflow_for
from skytells_nb.cache.sqlite import queries
from skytells_nb.cache.sqlite.connection_pool import ConnectionPool, DamagedFile
from skytells_nb.cache.sqlite.database import (
    FileMonitor,
    Identity,
    connect_as_allowed,
    connect_in_place,
    describe_error,
    foreign_access,
    identity,
    is_cache_file,
    is_full,
    quarantine,
    usable_path,
)
from skytells_nb.cache.sqlite.leases import SqliteLeases, StoreSnapshot
from skytells_nb.cache.sqlite.limits import DAY_S, LimitKeeper
from skytells_nb.cache.sqlite.queries import FileSize, file_size
from skytells_nb.cache.store import CacheLimits, CacheStats, Row, prune_progress
from skytells_nb.errors import CacheError, warn
from skytells_nb.progress.events import StepCallback

NO_LIMITS = CacheLimits()
RETRY_S = 30.0
CHECK_FILE_EVERY_S = 0.25

T = TypeVar("T")


class SqliteStore:
    """Responses in the file at ``path``, which is created on first use.

    A failing file does not stop a run. A damaged file is renamed and a new one created, a damaged response is a miss
    and is replaced once it was paid for again, and responses that cannot be written are held in memory, for every store
    of that file in this process: each problem is reported once, as a SkytellsWarning. ``delete_many`` and ``prune``
    raise CacheError if the file cannot be used, and every method does once the store is closed. A pickled copy opens
    the same file in its own process.
    """

    def __init__(self, path: str | Path, limits: CacheLimits = NO_LIMITS) -> None:
        self.path = usable_path(path)
        self._connections = ConnectionPool(self.path, self._open, after_fork=self._reset_after_fork)
        self._known: set[Identity | None] = set()
        """Files that were opened, so they are caches, whatever happens to them later."""
        self._writer = GroupCommit(self._save)
        self._writing = threading.Lock()
        self._added = 0
        self.leases = SqliteLeases(self._write_lease, self._snapshot, self._look_up)
        self._limits = LimitKeeper(limits, self._write_lease, self.leases.held_elsewhere)
        self._monitor = FileMonitor(self.path)
        self._closed = False
        self._hits = self._misses = self._stored = self._damaged = 0
        self._overflow = overflow_for(str(self.path))
        self._to_replace: set[bytes] = set()
        self._read_again_at = self._write_again_at = self._lease_again_at = self._check_file_at = 0.0
        self._warnings: deque[str] = deque()
        self._reported: set[str] = set()
        self._log_checked = False
        self._lock = threading.Lock()
        _open.add(self)

    @property
    def limits(self) -> CacheLimits:
        """What is kept at most, by the processes that write."""
        return self._limits.limits

    @property
    def unsaved(self) -> int:
        return len(self._overflow)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path.as_posix().lstrip('/')}"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_open()
        responses, damaged = self._load(list(dict.fromkeys(keys)))
        responses.update(self._overflow.get_many(keys))
        with self._lock:
            missing = sum(key not in responses for key in keys)
            self._misses += missing
            self._hits += len(keys) - missing
            self._damaged += len(damaged)
            self._to_replace.update(damaged)
        if damaged:
            self._queue_warning(
                "answers",
                f"The cache {self.path} contains damaged responses; they count as missing and are replaced when they "
                "are paid for again. The disk may be failing.",
            )
        self.emit_warnings()
        return [responses.get(key) for key in keys]

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        self._check_open()
        stored: set[bytes] = set()
        if keys and time.monotonic() >= self._read_again_at:
            try:
                stored = self._run(lambda connection: queries.stored_keys(connection, list(dict.fromkeys(keys)), 0))
            except (sqlite3.Error, OSError, CacheError) as problem:
                self._read_again_at = self._fall_back(problem)
        stored.update(self._overflow.get_many(keys))
        self.emit_warnings()
        return [key in stored for key in keys]

    def keys(self) -> bytes:
        self._check_open()
        return self._manage(queries.all_keys) + b"".join(key for key, _ in self._overflow.items())

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        self._check_open()
        # Non-bytes fail here, for this caller only, and not in a group with the rows of others.
        rows = [(bytes(key), _contiguous(value)) for key, value in items]
        if rows and replace:
            keys = [key for key, _ in rows]
            self._overflow.discard(keys)
            with self._lock:
                self._to_replace.update(keys)
        if rows:
            self._writer.write(rows)

    def delete_many(self, keys: Sequence[bytes]) -> int:
        self._check_open()
        return self._overflow.discard(keys) + self._manage(lambda connection: queries.delete(connection, keys))

    def stats(self) -> CacheStats:
        self._check_open()
        try:
            (entries, size), file = self._run(lambda connection: (queries.totals(connection), file_size(connection)))
        except (sqlite3.Error, OSError, CacheError) as problem:
            self._fall_back(problem)
            entries, size, file = 0, 0, FileSize(0, 0)
        self.emit_warnings()
        with self._lock:
            return CacheStats(
                entries=entries + len(self._overflow),
                bytes=size + self._overflow.size,
                hits=self._hits,
                misses=self._misses,
                stored=self._stored,
                damaged=self._damaged,
                path=str(self.path),
                file_bytes=file.total,
                free_bytes=file.free,
            )

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        """Remove the oldest responses; the file gives back what that frees, where it can do so in steps.

        With ``compact`` it does so in any case, which may mean that it is rewritten. Raises CacheError if the file
        cannot be used, or if the disk has no space for that.
        """
        oldest = None if older_than_days is None else time.time() - older_than_days * DAY_S

        def work(connection: sqlite3.Connection) -> int:
            removed = queries.prune(connection, max_bytes, oldest, on_progress=report)

            def on_compacted(done: int, total: int | None = None) -> None:
                report(removed.bytes + done, removed.bytes + (total or 0))

            if removed.entries or compact:
                queries.compact(connection, whole=compact, on_progress=on_compacted)
            return removed.entries

        with prune_progress(on_progress) as report:
            return self._manage(work, when_full=lambda: self._run_in_place(work))

    def run(self) -> AbstractContextManager[None]:
        return self._limits.run(lambda: self._write_lease(queries.last_id))

    def close(self) -> None:
        """Finish pending writes and release the file; responses held in memory are written if possible."""
        if self._closed:
            return
        self.leases.release_all()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._limits.close()
        self._write_again_at = min(self._write_again_at, time.monotonic())
        self._writer.write(())
        self._connections.close()
        _open.discard(self)
        self.emit_warnings()

    def __reduce__(self) -> tuple[Any, ...]:
        return SqliteStore, (str(self.path), self.limits)

    def __repr__(self) -> str:
        return f"SqliteStore({user_dirs.without_home(str(self.path))!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise CacheError(f"The cache {self.path} is closed; open it again to use it.")

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self.leases.reset_after_fork()
        self._limits.reset_after_fork()
        self._overflow.reset_after_fork()
        self._writer.reset_after_fork()

    def _load(self, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
        if not keys or time.monotonic() < self._read_again_at:
            return {}, []
        try:
            return self._run(lambda connection: queries.select_answers(connection, keys))
        except (sqlite3.Error, OSError, CacheError) as problem:
            self._read_again_at = self._fall_back(problem)
            return {}, []

    def _save(self, rows: list[Row]) -> None:
        """Write a group to the file, or hold it in memory if that fails."""
        in_memory = self._overflow.items()
        pending = [*in_memory, *rows] if time.monotonic() >= self._write_again_at else []
        if pending:
            try:
                with self._writing:
                    added = self._run(lambda connection: self._insert(connection, pending))
                    self._added += added
                    self.leases.end([key for key, _ in pending])
            except (sqlite3.Error, OSError, CacheError) as problem:
                self._write_again_at = self._fall_back(problem)
            else:
                with self._lock:
                    self._stored += added
                if in_memory:
                    self._overflow.move(key for key, _ in in_memory)
                self._limits.check()
                return
        self._overflow.add(rows)

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        if time.monotonic() > self._check_file_at:
            damaged_file = self._monitor.damaged()
            if damaged_file is not None:
                raise DamagedFile(damaged_file)
            self._check_file_at = time.monotonic() + CHECK_FILE_EVERY_S
        with self._lock:
            damaged = [key for key, _ in rows if key in self._to_replace]
        added = queries.insert(connection, rows, stored_at=int(time.time()), replacing=damaged)
        self._check_log(connection)
        with self._lock:
            self._to_replace.difference_update(damaged)
        return added

    def _write_lease(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return the result of ``work``, or ``None`` if the file cannot be written, which ``put_many`` reports."""
        if self._closed or time.monotonic() < max(self._write_again_at, self._lease_again_at):
            return None
        try:
            # SQLite waits for a lock of the file in steps of up to 0.1 s, which is long beside another thread's write.
            with self._writing:
                return self._run(work)
        except (sqlite3.Error, OSError, CacheError) as problem:
            permanent = isinstance(problem, CacheError)
            self._lease_again_at = float("inf") if permanent else time.monotonic() + RETRY_S
            return None

    def _snapshot(self, connection: sqlite3.Connection | None) -> StoreSnapshot:
        """Return where the file and the memory stand; with no connection, the memory alone."""
        position = self._overflow.position
        if connection is None:
            return StoreSnapshot(0, -1, position)
        last = queries.last_id(connection)
        return StoreSnapshot(last, last - self._added, position)

    def _look_up(
        self, connection: sqlite3.Connection | None, keys: Sequence[bytes], snapshot: StoreSnapshot
    ) -> set[bytes]:
        """Return which keys have a response from after this snapshot; with no connection, which are held in memory."""
        in_memory = self._overflow.added_after(keys, snapshot.memory_position)
        if connection is None:
            return in_memory
        found = queries.stored_keys(connection, keys, snapshot.last_id)
        found -= self._overflow.moved_after(snapshot.memory_position)
        with self._lock:
            return (found - self._to_replace) | in_memory

    def _open(self) -> sqlite3.Connection:
        connection = connect_as_allowed(self.path)
        opened = identity(self.path)
        if opened not in self._known:
            self._known.add(opened)
            if (access := foreign_access(self.path)) is not None:
                self._queue_warning(
                    "owner",
                    f"The cache {self.path} {access}. Other users may be able to read or change your responses. Use a "
                    "cache of your own (cache=), or take this one over (chown, chmod 600).",
                )
        return connection

    def _run_in_place(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._connections.exclusive(), contextlib.closing(connect_in_place(self.path)) as connection:
            return work(connection)

    def _manage(self, work: Callable[[sqlite3.Connection], T], *, when_full: Callable[[], T] | None = None) -> T:
        self._check_open()
        try:
            try:
                return self._run(work)
            except sqlite3.Error as problem:
                if when_full is None or not is_full(problem):
                    raise
            return when_full()
        except (sqlite3.Error, OSError) as problem:
            raise CacheError(
                f"The cache {self.path} cannot be used: {describe_error(problem, self.path)}."
            ) from problem
        finally:
            self.emit_warnings()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a connection; a damaged file is renamed, and ``work`` run again with a new file."""
        for _ in range(3):
            try:
                with self._connections.acquire() as connection:
                    return work(connection)
            except DamagedFile as problem:
                if problem.identity not in self._known and not is_cache_file(self.path):
                    raise CacheError(
                        f"{self.path} is not a cache and was not changed; choose another path for cache=."
                    ) from None
                with self._connections.exclusive():
                    moved = quarantine(self.path, problem.identity)
                if moved is not None:
                    self._queue_warning(
                        str(moved),
                        f"The cache {self.path} is damaged. It was renamed to {moved}, and a new one was created at "
                        f"{self.path}: responses in the old one must be paid for again.",
                    )
        raise CacheError(f"The cache {self.path} was damaged three times in a row; choose another path for cache=.")

    def _check_log(self, connection: sqlite3.Connection) -> None:
        if self._log_checked:
            return
        self._log_checked = True
        (mode,) = connection.execute("pragma journal_mode").fetchone()
        if mode != b"wal":
            self._queue_warning(
                "log",
                f"The cache {self.path} is on a disk without shared memory (a network disk?): it works, but slowly, "
                "and for one machine at a time. A path on a local disk is better.",
            )

    def _fall_back(self, problem: Exception) -> float:
        """Warn that responses are held in memory, and return when to try the file again."""
        # A file that is not a cache is not opened again: that will not change while this process lives.
        if isinstance(problem, CacheError):
            self._queue_warning("memory", f"{problem} Until this process ends, responses are held in memory.")
            return float("inf")
        self._queue_warning(
            "memory",
            f"The cache {self.path} cannot be used: {describe_error(problem, self.path)}. Until it can, responses are "
            "held in memory only, and are lost when this process ends.",
        )
        return time.monotonic() + RETRY_S

    def _queue_warning(self, topic: str, text: str) -> None:
        with self._lock:
            if topic not in self._reported:
                self._reported.add(topic)
                self._warnings.append(text)

    def emit_warnings(self) -> None:
        while True:
            try:
                text = self._warnings.popleft()
            except IndexError:
                return
            warn(text)


def _contiguous(value: bytes | memoryview) -> bytes | memoryview:
    """Return the value; raises TypeError if it is not bytes, BufferError if its bytes are not contiguous."""
    if not isinstance(value, bytes) and not memoryview(value).c_contiguous:
        raise BufferError("the bytes of a value must be contiguous; copy it first")
    return value


_open: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for store in list(_open):
        with contextlib.suppress(Exception):
            store.close()
