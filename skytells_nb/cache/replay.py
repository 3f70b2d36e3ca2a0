"""Replay: responses from a recorded file only, so that a notebook runs again offline, for free, to the same outputs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.checksum import decode_record
from skytells_nb.cache.memory import NoLeases, OffStore
from skytells_nb.cache.sqlite.connection_pool import ConnectionPool, DamagedFile
from skytells_nb.cache.sqlite.database import connect, connect_read_only, describe_error, is_damage, usable_path
from skytells_nb.cache.sqlite.queries import all_keys, insert, select, stored_keys, totals
from skytells_nb.cache.store import CacheStats, CacheStore, Row
from skytells_nb.errors import CacheError, ReplayMissError
from skytells_nb.progress.events import ProgressCallback, StepCallback
from skytells_nb.progress.long_step import long_step

SCHEME = "replay:"
REMEDIES = (
    "Either record it: connect with a normal cache (a path), run the notebook, then %skytells cache export FILE. "
    "Or leave replay mode: connect without cache='replay:…', and without it in SKYTELLS_CACHE."
)
"""What to do about a response that a recording does not have."""

_DAMAGED = "is damaged or not a recording; restore it, or export it again"
_ROWS_AT_ONCE = 1_024
_KEY_BYTES = 32

T = TypeVar("T")


def is_replay(spec: str | None) -> bool:
    """Whether a ``cache`` setting turns replay on.

    >>> is_replay("replay:answers.sqlite"), is_replay("answers.sqlite"), is_replay(None)
    (True, False, False)
    """
    return spec is not None and spec.strip().startswith(SCHEME)


class ReplayStore:
    """The responses recorded in the file at ``path``, which is never changed.

    Any cache file can be replayed; ``export`` writes a small one. Raises CacheError if the file is missing, damaged or
    not a recording.
    """

    leases = NoLeases()
    unsaved = 0

    def __init__(self, path: str | Path) -> None:
        self.path = usable_path(path)
        if self.path.is_dir():
            raise CacheError(f"{self.path} is a folder; name the recording in it.")
        if not self.path.is_file():
            raise CacheError(
                f"There is no recording at {self.path}; run the notebook with a normal cache, then write one with "
                "%skytells cache export FILE."
            )
        self._connections = ConnectionPool(self.path, partial(connect_read_only, self.path), self._reset_after_fork)
        self._hits = self._misses = self._damaged = 0
        self._lock = threading.Lock()
        if not self._read(self._is_complete):
            raise CacheError(f"The recording {self.path} {_DAMAGED}.")
        self.stats()

    @property
    def url(self) -> str:
        return f"{SCHEME}{self.path}"

    @property
    def is_export(self) -> bool:
        """Whether ``export`` wrote the file, and it is not a cache that responses are added to."""
        used = "select exists (select 1 from answers where stored_at <> 0)"
        return not self._read(lambda connection: connection.execute(used).fetchone()[0])

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the responses in the order of ``keys``; raises ReplayMissError if any was not recorded."""
        wanted = list(dict.fromkeys(keys))
        responses = self._find(wanted)
        damaged = sum(response is None for response in responses.values())
        missing = sum(responses.get(key) is None for key in wanted)
        with self._lock:
            self._damaged += damaged
            self._misses += missing
            self._hits += len(wanted) - missing
        if missing:
            raise ReplayMissError(
                f"{missing} of {len(wanted)} responses are not in the recording {self.path}"
                + (f" ({damaged} of them are damaged there)" if damaged else "")
                + ". Model, parameters, texts and address (a URL, or local=True) must be those that were recorded. "
                + REMEDIES
            )
        return [responses[key] for key in keys]

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        stored = self._read(lambda connection: stored_keys(connection, list(dict.fromkeys(keys)), 0))
        return [key in stored for key in keys]

    def keys(self) -> bytes:
        return self._read(all_keys)

    def peek_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the responses in the order of ``keys``, ``None`` for a missing or damaged one. Counts nothing."""
        responses = self._find(list(dict.fromkeys(keys)))
        return [responses.get(key) for key in keys]

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        """Raise CacheError: a recording is read-only."""
        if items:
            raise self._read_only()

    def emit_warnings(self) -> None:
        """Do nothing: there are no warnings."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Raise CacheError: a recording is read-only."""
        raise self._read_only()

    def stats(self) -> CacheStats:
        entries, size = self._read(totals)
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

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        """Raise CacheError: a recording is read-only."""
        raise self._read_only()

    def run(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        self._connections.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ReplayStore, (str(self.path),)

    def __repr__(self) -> str:
        return f"ReplayStore({str(self.path)!r})"

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Return the recorded responses by key; ``None`` for a damaged one."""
        values = self._read(lambda connection: select(connection, keys))
        return {key: decode_record(key, value) for key, value in values.items()}

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._connections.acquire() as connection:
                return work(connection)
        except (sqlite3.Error, OSError, DamagedFile) as problem:
            if isinstance(problem, DamagedFile) or is_damage(problem):
                why = _DAMAGED
            else:
                why = f"cannot be read: {describe_error(problem)}"
            raise CacheError(f"The recording {self.path} {why}.") from problem

    def _is_complete(self, connection: sqlite3.Connection) -> bool:
        # SQLite reads a truncated last page as one that ends in zeros. Pages in a log are not in the file.
        pages, page_bytes = (connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return bool(self.path.stat().st_size >= pages * page_bytes or Path(f"{self.path}-wal").exists())

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()

    def _read_only(self) -> CacheError:
        return CacheError(
            f"The recording {self.path} is read-only; use a normal cache (a path, or the user's own) to write."
        )


def unrecorded_message(recording: Path) -> str:
    """Return the message for a call that is not in the recording."""
    return (
        f"Nothing is sent in replay mode, and this call is not in the recording {recording}: "
        f"only df.skytells calls and cells with --cache are recorded. {REMEDIES}"
    )


@dataclass(frozen=True, slots=True)
class Recording:
    """Summary of an export."""

    path: Path
    answers: int
    bytes: int
    """Size of the file."""
    missing: int
    """Responses that were used and are no longer in any store."""


def export(store: CacheStore, keys: Sequence[bytes], path: str | Path) -> int:
    """Write a recording with these responses, for ``cache="replay:<path>"``, and return how many it holds.

    An earlier recording at ``path`` is replaced. Raises CacheError if a response is not in ``store``, and in the cases
    of ``export_all``.
    """
    wanted = _sorted_keys(keys)
    missing = sum(response is None for rows in _batches(wanted) for response in _load(store, rows))
    if missing:
        raise CacheError(
            f"{missing} of {len(wanted)} responses are not in {store.url}, so there is nothing to record for them; "
            "run those calls once, then export."
        )
    return export_all([(store, wanted.tobytes())], path, replace=True).answers


def export_all(
    sources: Iterable[tuple[CacheStore, Iterable[bytes] | bytes]],
    path: str | Path,
    *,
    replace: bool = False,
    progress: bool | ProgressCallback = True,
) -> Recording:
    """Write a recording with those of these responses that their stores hold; ``bytes`` are keys one after the other.

    The same responses give the same file, byte for byte, in any order. The file is written atomically. Raises
    CacheError if there is nothing to write, the file cannot be written or ``path`` exists; with ``replace``, only if
    the existing file was not written by an export.
    """
    target = usable_path(path)
    _check_target(target, replace=replace)
    wanted = [(store, _sorted_keys(keys)) for store, keys in sources]
    distinct = len(np.unique(np.concatenate([keys for _, keys in wanted]))) if wanted else 0
    if not distinct:
        raise CacheError(_no_keys_message([store for store, _ in wanted]))
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.unlink(missing_ok=True)
        # A single file without a log beside it: it is meant to be copied and committed.
        connection = connect(draft, wal=False)
        count = sum(len(keys) for _, keys in wanted)
        try:
            with long_step("export", progress, total=count, unit="answers") as on_progress:
                done = 0
                for store, keys in wanted:
                    for batch in _batches(keys):
                        # Not the time of recording: the same responses must give the same file.
                        insert(connection, _rows(store, batch), stored_at=0)
                        done += len(batch)
                        on_progress(done)
            answers, _ = totals(connection)
        finally:
            connection.close()
        if not answers:
            raise CacheError(
                f"None of the {distinct:,} responses used is still in {' or '.join(store.url for store, _ in wanted)}, "
                "so there is nothing to record: run the notebook again, then export."
            )
        size = draft.stat().st_size
        os.replace(draft, target)
    except (sqlite3.Error, OSError) as problem:
        raise CacheError(f"The recording {target} cannot be written: {describe_error(problem)}.") from problem
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return Recording(path=target, answers=answers, bytes=size, missing=distinct - answers)


def _check_target(target: Path, *, replace: bool) -> None:
    if target.is_dir():
        raise CacheError(f"{target} is a folder; name a file in it.")
    if not target.exists():
        return
    if not replace:
        raise CacheError(f"{target} exists already; choose another name, or pass --force to replace a recording.")
    with contextlib.suppress(CacheError), contextlib.closing(ReplayStore(target)) as existing:
        if existing.is_export:
            return
    # A cache with paid responses, or an unrelated file.
    raise CacheError(f"{target} was not written by an export and was not changed; choose another name.")


def _no_keys_message(stores: Sequence[CacheStore]) -> str:
    if any(store.url == OffStore.url for store in stores):
        return (
            "The cache is off, so no response was stored and there is nothing to record: connect with a normal cache "
            "(a path), run the notebook, then export."
        )
    return "No response was used yet, so there is nothing to record: run the notebook, then export."


def _sorted_keys(keys: Iterable[bytes] | bytes) -> NDArray[np.void]:
    """Return the distinct keys in order, as one array: a million of them are 32 MB, and 150 MB as objects."""
    joined = keys if isinstance(keys, bytes) else b"".join(keys)
    return np.unique(np.frombuffer(joined, dtype=f"V{_KEY_BYTES}"))


def _batches(keys: NDArray[np.void]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        batch: list[bytes] = keys[start : start + _ROWS_AT_ONCE].tolist()
        yield batch


def _load(store: CacheStore, keys: Sequence[bytes]) -> list[bytes | None]:
    return store.peek_many(keys) if isinstance(store, ReplayStore) else store.get_many(keys)


def _rows(store: CacheStore, keys: Sequence[bytes]) -> list[Row]:
    pairs = zip(keys, _load(store, keys), strict=True)
    return [(key, response) for key, response in pairs if response is not None]
