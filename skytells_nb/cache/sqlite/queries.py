"""The table of responses: reading, adding and removing rows, as SQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from skytells_nb.cache.checksum import HEADER_BYTES, decode_record, encode_record
from skytells_nb.cache.sqlite import index
from skytells_nb.cache.sqlite.index import KEYS_PER_STATEMENT
from skytells_nb.cache.store import Row

_ROWS_PER_DELETE = 2_000
_VACUUM_BYTES = 1 << 30  # about 25 s of work; more would block other processes past their time limit

T = TypeVar("T")


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


def prune(connection: sqlite3.Connection, max_bytes: int | None, oldest: float | None) -> int:
    """Remove the oldest responses and return how many: ids grow with time, so these are the first rows."""
    last = 0
    if oldest is not None:
        newer = "select id from answers where stored_at >= ? order by id limit 1"
        everything = "select coalesce(max(id), 0) + 1 from answers"
        first = connection.execute(newer, (oldest,)).fetchone() or connection.execute(everything).fetchone()
        last = first[0] - 1
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
        removed += in_transaction(connection, partial(_delete_up_to, connection, end))
    if removed:
        _shrink(connection)
    return removed


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


def _delete_up_to(connection: sqlite3.Connection, end: int) -> int:
    every = "select key, id, coalesce(length(value), 0) from answers where id <= ?"
    return _remove_rows(connection, connection.execute(every, (end,)).fetchall())


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


def _shrink(connection: sqlite3.Connection) -> None:
    pages, free, page_bytes = (
        connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    with contextlib.suppress(sqlite3.OperationalError):
        if 2 * free > pages and (pages - free) * page_bytes < _VACUUM_BYTES:
            connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
