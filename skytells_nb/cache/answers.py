"""The table of answers: what is read, added and removed, as SQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from skytells_nb.cache.envelope import HEADER_BYTES, unwrap, wrap

KEYS_PER_STATEMENT = 1_000
_ROWS_PER_DELETE = 2_000
_VACUUM_BYTES = 1 << 30  # about 25 s of work; more would keep other processes waiting past their time limit

Row = tuple[bytes, bytes | memoryview]
T = TypeVar("T")


def select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The wrapped values found, by key."""
    found: dict[bytes, bytes] = {}
    for rows in _selected(connection, keys):
        found.update(rows)
    return found


def select_answers(connection: sqlite3.Connection, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The answers found, by key, and the keys of those that are damaged; unwrapped as they come, never all twice."""
    found: dict[bytes, bytes] = {}
    damaged = []
    for rows in _selected(connection, keys):
        for key, value in rows:
            answer = unwrap(key, value)
            if answer is None:
                damaged.append(key)
            else:
                found[key] = answer
    return found, damaged


def insert(
    connection: sqlite3.Connection, rows: Iterable[Row], *, stored_at: int, replacing: Sequence[bytes] = ()
) -> int:
    """Add the answers whose keys are new, after dropping those of ``replacing``; how many were added.

    Each answer is copied once, when its turn comes.
    """
    count = size = 0

    def values() -> Iterator[tuple[bytes, int, bytes]]:
        nonlocal count, size
        for key, answer in rows:
            value = wrap(key, answer)
            count += 1
            size += len(value)
            yield key, stored_at, value

    def work() -> int:
        _delete(connection, replacing)
        added = connection.executemany(
            "insert or ignore into answers (key, stored_at, value) values (?, ?, ?)", values()
        ).rowcount
        if added == count:
            return _add(connection, count, size, sign=1)
        # Some were there. New ids follow the highest, so the last ones are those that were added.
        (last,) = connection.execute("select coalesce(max(id), 0) from answers").fetchone()
        return _count(connection, "id > ?", [last - added], sign=1)

    return _in_transaction(connection, work)


def delete(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Remove these; how many were there."""
    return _in_transaction(connection, partial(_delete, connection, keys))


def prune(connection: sqlite3.Connection, max_bytes: int | None, oldest: float | None) -> int:
    """Ids grow with time, so the oldest answers are the first rows, and finding them reads only what goes."""
    last = 0
    if oldest is not None:
        newer = "select id from answers where stored_at >= ? order by id limit 1"
        everything = "select coalesce(max(id), 0) + 1 from answers"
        first_kept = connection.execute(newer, (oldest,)).fetchone() or connection.execute(everything).fetchone()
        last = first_kept[0] - 1
    if max_bytes is not None:
        _, size = totals(connection)
        for number, length in connection.execute("select id, coalesce(length(value), 0) from answers order by id"):
            if size <= max_bytes:
                break
            size -= length - HEADER_BYTES
            last = max(last, number)
    removed = 0
    while True:
        batch = "select max(id) from (select id from answers where id <= ? order by id limit ?)"
        (end,) = connection.execute(batch, (last, _ROWS_PER_DELETE)).fetchone()
        if end is None:
            break
        removed += _in_transaction(connection, partial(_delete_up_to, connection, end))
    if removed:
        _shrink(connection)
    return removed


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many answers there are, and their bytes."""
    # Sums and casts, because noise in the file may have left no row, or text in the place of a number.
    entries, size = connection.execute(
        "select cast(total(entries) as int), cast(total(bytes) as int) from totals"
    ).fetchone()
    return entries, size


def _in_transaction(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    # What fails is rolled back by closing: a connection that saw an error is not used again.
    connection.execute("begin immediate")
    result = work()
    connection.execute("commit")
    return result


def _count(connection: sqlite3.Connection, where: str, values: Sequence[object], *, sign: int) -> int:
    """Add the rows that match to the totals, or take them off; how many they are."""
    count, size = connection.execute(
        f"select count(*), coalesce(sum(length(value)), 0) from answers where {where}", values
    ).fetchone()
    return _add(connection, count, size, sign=sign)


def _add(connection: sqlite3.Connection, count: int, size: int, *, sign: int) -> int:
    """Put so many answers, and their bytes with the headers, on the totals or take them off; how many they are."""
    if count:
        connection.execute(
            "update totals set entries = entries + ?, bytes = bytes + ?",
            (sign * count, sign * (size - HEADER_BYTES * count)),
        )
    return count


def _delete(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    removed = 0
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        some = keys[start : start + KEYS_PER_STATEMENT]
        removed += _count(connection, f"key in ({_marks(some)})", some, sign=-1)
        connection.execute(f"delete from answers where key in ({_marks(some)})", some)
    return removed


def _selected(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[sqlite3.Cursor]:
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        some = keys[start : start + KEYS_PER_STATEMENT]
        yield connection.execute(f"select key, value from answers where key in ({_marks(some)})", some)


def _marks(keys: Sequence[bytes]) -> str:
    """A question mark for each key."""
    return ",".join("?" * len(keys))


def _delete_up_to(connection: sqlite3.Connection, end: int) -> int:
    removed = _count(connection, "id <= ?", [end], sign=-1)
    connection.execute("delete from answers where id <= ?", (end,))
    return removed


def _shrink(connection: sqlite3.Connection) -> None:
    pages, free, page_bytes = (
        connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    with contextlib.suppress(sqlite3.OperationalError):
        if 2 * free > pages and (pages - free) * page_bytes < _VACUUM_BYTES:
            connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
