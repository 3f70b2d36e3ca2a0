"""Replay: answers from a recorded file only, so that a notebook runs again offline, for free, to the same outputs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from skytells_nb.cache.answers import insert, select, totals
from skytells_nb.cache.connections import Connections, DamagedFile
from skytells_nb.cache.database import connect, connect_read_only, explain, is_damage
from skytells_nb.cache.envelope import unwrap
from skytells_nb.cache.store import CacheStats, CacheStore
from skytells_nb.errors import CacheError, ReplayMissError


class ReplayStore:
    """The answers recorded in the file at ``path``, which is never changed.

    Any cache file can be replayed; ``export`` writes a small one. Raises CacheError where the file is missing, damaged
    or not a recording.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        if not self.path.is_file():
            raise CacheError(f"There is no recording at {self.path}; record one with a normal cache and export it.")
        self._connections = Connections(self.path, partial(connect_read_only, self.path), self._forget_threads)
        self._hits = self._misses = self._damaged = 0
        self._lock = threading.Lock()
        self.stats()

    @property
    def url(self) -> str:
        return f"replay:{self.path}"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The answers in the order of ``keys``. Raises ReplayMissError where any of them was not recorded."""
        wanted = list(dict.fromkeys(keys))
        try:
            with self._connections.lend() as connection:
                values = select(connection, wanted)
        except (sqlite3.Error, OSError, DamagedFile) as problem:
            raise self._unusable(problem) from problem
        answers = {key: unwrap(key, value) for key, value in values.items()}
        damaged = sum(answer is None for answer in answers.values())
        missing = sum(answers.get(key) is None for key in wanted)
        with self._lock:
            self._damaged += damaged
            self._misses += missing
            self._hits += len(wanted) - missing
        if missing:
            raise ReplayMissError(
                f"{missing} of {len(wanted)} answers are not in the recording {self.path}"
                + (f" ({damaged} of them are damaged there)" if damaged else "")
                + ". Model, parameters and texts must be those that were recorded; to record these too, run once with "
                "a normal cache (cache=None or a path) and export it again."
            )
        return [answers[key] for key in keys]

    def put_many(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises CacheError: a recording is not written to."""
        if items:
            raise self._read_only()

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Raises CacheError: a recording is not written to."""
        raise self._read_only()

    def stats(self) -> CacheStats:
        try:
            with self._connections.lend() as connection:
                entries, size = totals(connection)
        except (sqlite3.Error, OSError, DamagedFile) as problem:
            raise self._unusable(problem) from problem
        with self._lock:
            return CacheStats(
                entries=entries,
                bytes=size,
                hits=self._hits,
                misses=self._misses,
                stored=0,
                damaged=self._damaged,
                path=str(self.path),
            )

    def prune(self, *, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        """Raises CacheError: a recording is not written to."""
        raise self._read_only()

    def close(self) -> None:
        self._connections.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ReplayStore, (str(self.path),)

    def __repr__(self) -> str:
        return f"ReplayStore({str(self.path)!r})"

    def _forget_threads(self) -> None:
        self._lock = threading.Lock()

    def _read_only(self) -> CacheError:
        return CacheError(
            f"The recording {self.path} is only read; use a normal cache (cache=None or a path) to write."
        )

    def _unusable(self, problem: Exception) -> CacheError:
        if isinstance(problem, DamagedFile) or is_damage(problem):
            return CacheError(f"The recording {self.path} is damaged, or is none; restore it, or export it again.")
        return CacheError(f"The recording {self.path} cannot be read: {explain(problem)}.")


def export(store: CacheStore, keys: Sequence[bytes], path: str | Path) -> int:
    """Write a recording with these answers, for ``cache="replay:<path>"``; how many it holds.

    The same answers give the same file, byte for byte. An earlier recording at ``path`` is replaced, whole or not at
    all. Raises CacheError where an answer is not in ``store``, or ``path`` holds anything else than a recording.
    """
    target = Path(path).expanduser().absolute()
    wanted = list(dict.fromkeys(keys))
    answers = zip(wanted, store.get_many(wanted), strict=True)
    rows = [(key, answer) for key, answer in answers if answer is not None]
    if len(rows) < len(wanted):
        raise CacheError(
            f"{len(wanted) - len(rows)} of {len(wanted)} answers are not in {store.url}, so there is nothing to "
            "record for them; run those calls once, then export."
        )
    if target.exists():
        ReplayStore(target).close()
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.unlink(missing_ok=True)
        # One plain file, without a log beside it: it is meant to be copied and committed.
        connection = connect(draft, wal=False)
        try:
            # Not the time of recording: the same answers are to give the same file.
            insert(connection, rows, stored_at=0)
        finally:
            connection.close()
        os.replace(draft, target)
    except (sqlite3.Error, OSError) as problem:
        raise CacheError(f"The recording {target} cannot be written: {explain(problem)}.") from problem
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return len(rows)
