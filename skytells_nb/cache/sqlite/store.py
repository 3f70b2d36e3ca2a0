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
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from skytells_nb.cache.sqlite import queries as answers
from skytells_nb.cache.sqlite.connection_pool import ConnectionPool, DamagedFile
from skytells_nb.cache.sqlite.database import FileMonitor, connect_as_allowed, describe_error, quarantine
from skytells_nb.cache.sqlite.group_commit import GroupCommit
from skytells_nb.cache.sqlite.overflow import overflow_for
from skytells_nb.cache.sqlite.queries import Row
from skytells_nb.cache.store import CacheStats
from skytells_nb.errors import CacheError, warn

DAY_S = 86_400
RETRY_S = 30.0
CHECK_FILE_EVERY_S = 0.25

T = TypeVar("T")


class SqliteStore:
    """Answers in the file at ``path``, made on first use.

    Nothing here stops a run. A damaged file is renamed and a new one begun, a damaged answer is a miss and is replaced
    when it was paid for again, and what cannot be written is kept in memory, for every store of that file in this
    process: each is said once, as a SkytellsWarning. ``delete_many`` and ``prune`` raise CacheError where the file
    cannot be used, and every method does once the store is closed. A pickled copy opens the same file in its own
    process.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._connections = ConnectionPool(
            self.path, partial(connect_as_allowed, self.path), after_fork=self._forget_threads
        )
        self._writer = GroupCommit(self._save)
        self._watch = FileMonitor(self.path)
        self._closed = False
        self._hits = self._misses = self._stored = self._damaged = 0
        self._held = overflow_for(self.path)
        self._to_replace: set[bytes] = set()
        self._read_again_at = self._write_again_at = self._look_at = 0.0
        self._notices: deque[str] = deque()
        self._told: set[str] = set()
        self._log_checked = False
        self._lock = threading.Lock()
        _open.add(self)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path.as_posix().lstrip('/')}"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_open()
        found, damaged = self._load(list(dict.fromkeys(keys)))
        found.update(self._held.get_many(keys))
        with self._lock:
            missing = sum(key not in found for key in keys)
            self._misses += missing
            self._hits += len(keys) - missing
            self._damaged += len(damaged)
            self._to_replace.update(damaged)
        if damaged:
            self._note(
                "answers",
                f"The cache {self.path} holds damaged answers; they count as missing, and the next ones paid for take "
                "their place. The disk may be failing.",
            )
        self.emit_warnings()
        return [found.get(key) for key in keys]

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        self._check_open()
        # What is no bytes fails here, for its caller alone, and not in the group with the answers of others.
        rows = [(bytes(key), _readable(value)) for key, value in items]
        if rows:
            self._writer.write(rows)

    def delete_many(self, keys: Sequence[bytes]) -> int:
        self._check_open()
        return self._held.discard(keys) + self._manage(lambda connection: answers.delete(connection, keys))

    def stats(self) -> CacheStats:
        self._check_open()
        try:
            entries, size = self._with_file(answers.totals)
        except (sqlite3.Error, OSError, CacheError) as problem:
            self._fall_back(problem)
            entries, size = 0, 0
        self.emit_warnings()
        with self._lock:
            return CacheStats(
                entries=entries + len(self._held),
                bytes=size + self._held.size,
                hits=self._hits,
                misses=self._misses,
                stored=self._stored,
                damaged=self._damaged,
                path=str(self.path),
            )

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        """Remove the oldest answers; the file shrinks once more than half of it is free."""
        oldest = None if older_than_days is None else time.time() - older_than_days * DAY_S
        return self._manage(lambda connection: answers.prune(connection, max_bytes, oldest))

    def close(self) -> None:
        """Finish what is being written and let go of the file; what was only in memory is tried once more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._write_again_at = min(self._write_again_at, time.monotonic())
        self._writer.write(())
        self._connections.close()
        _open.discard(self)
        self.emit_warnings()

    def __reduce__(self) -> tuple[Any, ...]:
        return SqliteStore, (str(self.path),)

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise CacheError(f"The cache {self.path} is closed; open it again to use it.")

    def _forget_threads(self) -> None:
        self._lock = threading.Lock()
        self._held.reset_after_fork()
        self._writer.reset_after_fork()

    def _load(self, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
        if not keys or time.monotonic() < self._read_again_at:
            return {}, []
        try:
            return self._with_file(lambda connection: answers.select_answers(connection, keys))
        except (sqlite3.Error, OSError, CacheError) as problem:
            self._read_again_at = self._fall_back(problem)
            return {}, []

    def _save(self, rows: list[Row]) -> None:
        """What is done with a group: to the file, or else into memory."""
        held = self._held.items()
        waiting = [*held, *rows] if time.monotonic() >= self._write_again_at else []
        if waiting:
            try:
                added = self._with_file(lambda connection: self._insert(connection, waiting))
            except (sqlite3.Error, OSError, CacheError) as problem:
                self._write_again_at = self._fall_back(problem)
            else:
                with self._lock:
                    self._stored += added
                self._held.discard(key for key, _ in held)
                return
        self._held.add(rows)

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        if time.monotonic() > self._look_at:
            which = self._watch.damaged()
            if which is not None:
                raise DamagedFile(which)
            self._look_at = time.monotonic() + CHECK_FILE_EVERY_S
        with self._lock:
            damaged = [key for key, _ in rows if key in self._to_replace]
        added = answers.insert(connection, rows, stored_at=int(time.time()), replacing=damaged)
        self._check_log(connection)
        with self._lock:
            self._to_replace.difference_update(damaged)
        return added

    def _manage(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        try:
            return self._with_file(work)
        except (sqlite3.Error, OSError) as problem:
            raise CacheError(f"The cache {self.path} cannot be used: {describe_error(problem)}.") from problem
        finally:
            self.emit_warnings()

    def _with_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it; where the file turns out to be damaged, set that aside and do it with a new one."""
        for _ in range(3):
            try:
                with self._connections.acquire() as connection:
                    return work(connection)
            except DamagedFile as problem:
                with self._connections.exclusive():
                    moved = quarantine(self.path, problem.identity)
                if moved is not None:
                    self._note(
                        str(moved),
                        f"The cache {self.path} is damaged. It was renamed to {moved}, and a new one begun at "
                        f"{self.path}: answers in the old one are paid for again.",
                    )
        raise CacheError(f"The cache {self.path} was found damaged again and again; choose another place with cache=.")

    def _check_log(self, connection: sqlite3.Connection) -> None:
        if self._log_checked:
            return
        self._log_checked = True
        (mode,) = connection.execute("pragma journal_mode").fetchone()
        if mode != b"wal":
            self._note(
                "log",
                f"The cache {self.path} is on a disk without shared memory (a network disk?): it works, but slowly, "
                "and for one machine at a time. A path on a local disk is better.",
            )

    def _fall_back(self, problem: Exception) -> float:
        """Say that memory has to do, and when to try the file again."""
        # Nobody touches a file that is not ours again: that will not change while this process lives.
        if isinstance(problem, CacheError):
            self._note("memory", f"{problem} Until this process ends, answers are kept in memory.")
            return float("inf")
        self._note(
            "memory",
            f"The cache {self.path} cannot be used: {describe_error(problem)}. Until it can be, answers are "
            "kept in memory only, and are lost when this process ends.",
        )
        return time.monotonic() + RETRY_S

    def _note(self, topic: str, text: str) -> None:
        with self._lock:
            if topic not in self._told:
                self._told.add(topic)
                self._notices.append(text)

    def emit_warnings(self) -> None:
        while True:
            try:
                text = self._notices.popleft()
            except IndexError:
                return
            warn(text)


def _readable(value: bytes | memoryview) -> bytes | memoryview:
    """The value where its bytes can be read as they lie; TypeError where it has none, BufferError where they do not."""
    if not isinstance(value, bytes) and not memoryview(value).c_contiguous:
        raise BufferError("the bytes of a value must lie together; copy it first")
    return value


_open: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for store in list(_open):
        with contextlib.suppress(Exception):
            store.close()
