"""The table of responses: reading, adding and removing rows, as SQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from skytells_nb.cache.checksum import HEADER_BYTES, decode_record, encode_record
from skytells_nb.cache.sqlite import index
from skytells_nb.cache.sqlite.index import KEYS_PER_STATEMENT
from skytells_nb.cache.store import Row
from skytells_nb.progress.events import StepCallback, no_step

_ROWS_PER_DELETE = 2_000
_VACUUM_BYTES = 1 << 30  # about 25 s of work; more would block other processes past their time limit
_PAGES_PER_STEP = 128  # 4 MB: a tenth of a second for which others wait
_STEPS_PER_TICK = 1_000
_CHECKPOINT_WAIT_MS = 1_000
_INCREMENTAL = 2  # the value of auto_vacuum

T = TypeVar("T")


class Removed(NamedTuple):
    """How many responses were removed, and how many bytes they had."""

    entries: int
    bytes: int


def select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the stored records by key."""
    return dict(_selected(connection, keys))


def select_answers(connection: sqlite3.Connection, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Return the stored responses by key, and the keys of damaged ones; never all in memory twice."""
    responses: dict[bytes, bytes] = {}
    damaged = []
    for key, value in _selected(connection, keys):
        response = decode_record(key, value)
        if response is None:
            damaged.append(key)
        else:
            responses[key] = response
    return responses, damaged


def all_keys(connection: sqlite3.Connection) -> bytes:
    """Return the keys of all responses, one after the other."""
    return b"".join(key for (key,) in connection.execute("select key from answers"))


def stored_keys(connection: sqlite3.Connection, keys: Sequence[bytes], after: int) -> set[Any]:
    """Return those of the keys that have a response with an id after this one."""
    return {key for key, number in _selected(connection, keys, "id") if number > after}


def insert(
    connection: sqlite3.Connection, rows: Sequence[Row], *, stored_at: int, replacing: Sequence[bytes] = ()
) -> int:
    """Add the responses whose keys are new, after removing those of ``replacing``; return how many were added.

    Each response is copied once, when it is written. Raises sqlite3.DatabaseError if the file is damaged.
    """

    def work() -> int:
        # Before that, so that what replaces the newest response has a later id than it, which ``stored_keys`` goes by.
        last = last_id(connection)
        _delete(connection, replacing)
        new = rows
        if index.merged_to(connection):
            settled = {row[0] for row in index.rows_in_part(connection, "settled", [key for key, _ in rows], "id")}
            new = [row for row in rows if row[0] not in settled]
        if not index.add(connection, [key for key, _ in new], last):
            # Some are stored already, or a key occurs twice: the first one counts.
            known = {row[0] for row in index.rows(connection, [key for key, _ in new], "id")}
            firsts: dict[bytes, Row] = {}
            for row in new:
                if row[0] not in known:
                    firsts.setdefault(row[0], row)
            new = list(firsts.values())
            if not index.add(connection, [key for key, _ in new], last):
                index.add_colliding(connection, [key for key, _ in new], last)
        size = 0

        def values() -> Iterator[tuple[int, bytes, int, bytes]]:
            nonlocal size
            for number, (key, response) in enumerate(new, last + 1):
                value = encode_record(key, response)
                size += len(value)
                yield number, key, stored_at, value

        connection.executemany("insert into answers (id, key, stored_at, value) values (?, ?, ?, ?)", values())
        if replacing:
            # If responses are damaged the index may be too: each of these must be found again.
            index.check_contains(connection, [key for key, _ in rows])
        return _add_to_totals(connection, len(new), size, sign=1)

    return in_transaction(connection, work)


def delete(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Remove the responses of these keys and return how many there were."""
    return in_transaction(connection, partial(_delete, connection, keys))


def prune(
    connection: sqlite3.Connection,
    max_bytes: int | None,
    oldest: float | None,
    *,
    on_progress: StepCallback = no_step,
) -> Removed:
    """Remove the oldest responses, in transactions that other processes hardly notice.

    ``on_progress`` is called with the bytes that are removed, and those that will be as far as that is known.
    """
    _, size = totals(connection)
    surplus = 0 if max_bytes is None else max(size - max_bytes, 0)
    removed = Removed(0, 0)
    while True:
        batch = in_transaction(connection, partial(remove_oldest, connection, max_bytes, oldest))
        removed = Removed(removed.entries + batch.entries, removed.bytes + batch.bytes)
        if not batch.entries:
            return removed
        on_progress(removed.bytes, max(surplus, removed.bytes))


def remove_oldest(
    connection: sqlite3.Connection,
    max_bytes: int | None,
    oldest: float | None,
    *,
    most: int = _ROWS_PER_DELETE,
    before: int | None = None,
) -> Removed:
    """Remove the first responses that are too old or too much, at most so many.

    Ids grow with time, so the oldest responses are the first rows. Those from the id ``before`` on stay.
    """
    _, size = totals(connection)
    surplus = 0 if max_bytes is None else size - max_bytes
    rows: list[tuple[Any, ...]] = []
    first = "select key, id, coalesce(length(value), 0), stored_at from answers order by id limit ?"
    for key, number, length, stored_at in connection.execute(first, (most,)):
        is_old = oldest is not None and (not isinstance(stored_at, int) or stored_at < oldest)
        if (before is not None and number >= before) or not (is_old or surplus > 0):
            break
        rows.append((key, number, length))
        surplus -= length - HEADER_BYTES
    _remove_rows(connection, rows)
    return Removed(len(rows), sum(length - HEADER_BYTES for *_, length in rows))


def last_id(connection: sqlite3.Connection) -> int:
    """Return the highest id of a response, 0 if there is none."""
    (last,) = connection.execute("select coalesce(max(id), 0) from answers").fetchone()
    return int(last)


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of responses and their bytes."""
    # Sums and casts, because damage may have left no row, or text in place of a number.
    entries, size = connection.execute(
        "select cast(total(entries) as int), cast(total(bytes) as int) from totals"
    ).fetchone()
    return entries, size


def in_transaction(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """Return what ``work`` returns, done as one transaction."""
    # Closing the connection rolls a failure back: after an error it is not reused.
    connection.execute("begin immediate")
    result = work()
    connection.execute("commit")
    return result


def _add_to_totals(connection: sqlite3.Connection, count: int, size: int, *, sign: int) -> int:
    """Add to the totals, or subtract from them, so many responses and their bytes with headers; return the number."""
    if count:
        connection.execute(
            "update totals set entries = entries + ?, bytes = bytes + ?",
            (sign * count, sign * (size - HEADER_BYTES * count)),
        )
    return count


def _delete(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    if not keys:
        return 0
    return _remove_rows(
        connection, list(index.rows(connection, list(dict.fromkeys(keys)), "id, coalesce(length(value), 0)"))
    )


def _remove_rows(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Remove rows, each as (key, id, length), and return how many there were."""
    connection.executemany("delete from answers where id = ?", [(number,) for _, number, _ in rows])
    index.remove(connection, [(index.fingerprint(key), number) for key, number, _ in rows])
    return _add_to_totals(connection, len(rows), sum(length for *_, length in rows), sign=-1)


def _selected(
    connection: sqlite3.Connection, keys: Sequence[bytes], column: str = "value"
) -> Iterator[tuple[Any, ...]]:
    if connection.execute("pragma user_version").fetchone()[0] > 1:
        yield from index.rows(connection, keys, column)
        return
    # A recording of format 1, which has no separate index.
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        batch = keys[start : start + KEYS_PER_STATEMENT]
        yield from connection.execute(
            f"select key, {column} from answers where key in ({','.join('?' * len(batch))})", batch
        )


@dataclass(frozen=True, slots=True)
class FileSize:
    """Bytes of the file, and how many of them are free for new responses."""

    total: int
    free: int


def file_size(connection: sqlite3.Connection) -> FileSize:
    """Return the size of the file, once what is in the log is in it."""
    pages, free, page_bytes = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return FileSize(pages * page_bytes, free * page_bytes)


def compact(connection: sqlite3.Connection, *, whole: bool | None = None, on_progress: StepCallback = no_step) -> None:
    """Give free pages back to the disk.

    A file that keeps account of what points to its pages gives them back in steps, between which other processes write.
    An older one is rewritten, which takes as much space on the disk as its responses and makes others wait: by
    default only if more than half of it is free and the rest is small; with ``whole=True`` in any case. ``on_progress``
    is called with the bytes that are given back, and those that will be.
    """
    size = file_size(connection)
    # Where another process reads or writes for so long, the pages stay free for new responses.
    with contextlib.nullcontext() if whole else contextlib.suppress(sqlite3.OperationalError):
        if _pragma(connection, "auto_vacuum") == _INCREMENTAL:
            page_bytes = _pragma(connection, "page_size")
            while (free := _pragma(connection, "freelist_count")) > 0:
                connection.execute(f"pragma incremental_vacuum({_PAGES_PER_STEP})").fetchall()
                left = _pragma(connection, "freelist_count")
                on_progress(max(size.free - left * page_bytes, 0), size.free)
                if left >= free:
                    break
        elif whole or (2 * size.free > size.total and size.total - size.free < _VACUUM_BYTES):
            _rewrite(connection, on_progress)
        _empty_log(connection)


def _empty_log(connection: sqlite3.Connection) -> None:
    """Move the log into the file; where another process reads for longer, its next writer does so."""
    timeout = _pragma(connection, "busy_timeout")
    connection.execute(f"pragma busy_timeout = {_CHECKPOINT_WAIT_MS}")
    try:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        connection.execute(f"pragma busy_timeout = {timeout}")


def _rewrite(connection: sqlite3.Connection, on_progress: StepCallback) -> None:
    def tick() -> int:
        # Ctrl-C is raised here, which ends the statement.
        on_progress(0)
        return 0

    connection.execute("pragma auto_vacuum = incremental")
    connection.set_progress_handler(tick, _STEPS_PER_TICK)
    try:
        connection.execute("vacuum")
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"pragma {name}").fetchone()[0])
