"""Which row an answer is in: an index of two parts, so that to write a batch touches few pages.

Keys are spread evenly, so a batch of 2,048 of them touches nearly every page of one large index, and each of those is
written anew: for a million answers of 64 dimensions 16 GB went to the disk for a file of 0.35. The newest answers have
an index of their own, which is small, and goes into the large one from time to time; it takes 1.5 GB, and half the
time. The last eight bytes of a key find it, and the row says which key it has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

KEYS_PER_STATEMENT = 1_000
MAX_RECENT = 65_536
"""Answers in the small part at most: a megabyte of it. Moving them takes a tenth of a second."""
PARTS = ("recent", "settled")
SCHEMA = (
    # One key at a place, so that adding tells whether it is new; the rare two of one place are settled at once.
    "create table recent (place integer primary key, id integer not null)",
    "create table settled (place integer not null, id integer not null, primary key (place, id)) without rowid",
)


def fingerprint(key: object) -> int | None:
    """The number that finds a key, ``None`` for what noise in a file has made of one.

    >>> place(bytes(31) + b"!")
    33
    """
    return int.from_bytes(key[-8:], "big", signed=True) if isinstance(key, bytes) else None


def rows(connection: sqlite3.Connection, keys: Sequence[bytes], columns: str) -> Iterator[tuple[object, ...]]:
    """The key of each answer that is there, and these columns of it ("value, id")."""
    yield from rows_in_part(connection, "recent", keys, columns)
    # Only now: another process may settle meanwhile, and what was not recent any more is there then.
    if merged_to(connection):
        yield from rows_in_part(connection, "settled", keys, columns)


def rows_in_part(
    connection: sqlite3.Connection, part: str, keys: Sequence[bytes], columns: str
) -> Iterator[tuple[object, ...]]:
    """``rows`` of one part."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        some = keys[start : start + KEYS_PER_STATEMENT]
        wanted = set(some)
        places = [fingerprint(key) for key in some]
        marks = ",".join("?" * len(places))
        # The part first, whatever SQLite thinks of their sizes.
        found = connection.execute(
            f"select key, {columns} from {part} cross join answers using (id) where place in ({marks})", places
        )
        yield from (row for row in found if row[0] in wanted)


def merged_to(connection: sqlite3.Connection) -> int:
    """The highest id that may be in the settled part, 0 where none is."""
    (last,) = connection.execute("select cast(total(settled_to) as int) from totals").fetchone()
    return int(last)


def add(connection: sqlite3.Connection, keys: Sequence[bytes], last: int) -> bool:
    """Add new answers, with the ids that follow ``last``; whether the recent part had room at all their places."""
    entries = zip(map(fingerprint, keys), range(last + 1, last + 1 + len(keys)), strict=True)
    added = connection.executemany("insert or ignore into recent values (?, ?)", entries).rowcount
    if added < len(keys):
        connection.execute("delete from recent where id > ?", (last,))
        return False
    if last + len(keys) - merged_to(connection) >= MAX_RECENT:
        _settle(connection, last + len(keys))
    return True


def add_colliding(connection: sqlite3.Connection, keys: Sequence[bytes], last: int) -> None:
    """``add`` for keys of which some have the place of another."""
    _settle(connection, last + len(keys))
    entries = zip(map(fingerprint, keys), range(last + 1, last + 1 + len(keys)), strict=True)
    connection.executemany("insert or ignore into settled values (?, ?)", entries)


def _settle(connection: sqlite3.Connection, last: int) -> None:
    # In order, so that every page is written once.
    connection.execute("insert or ignore into settled select place, id from recent order by place")
    connection.execute("delete from recent")
    connection.execute("update totals set settled_to = ?", (last,))


def check_contains(connection: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Raises the error of a damaged file where not every key is found."""
    wanted = set(keys)
    if wanted - {row[0] for row in rows(connection, list(wanted), "id")}:
        problem = sqlite3.DatabaseError("the index does not hold what was put into it")
        problem.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise problem


def remove(connection: sqlite3.Connection, entries: Sequence[tuple[int | None, int]]) -> None:
    """Take out (place, id) of answers that are gone."""
    for part in PARTS:
        connection.executemany(f"delete from {part} where place = ? and id = ?", entries)
    connection.execute("update totals set settled_to = min(settled_to, (select coalesce(max(id), 0) from answers))")


def rebuild(connection: sqlite3.Connection) -> None:
    """Put all answers into the settled part."""
    connection.create_function("place_of", 1, fingerprint, deterministic=True)
    connection.execute(
        "insert or ignore into settled select place_of(key), id from answers where typeof(key) = 'blob' order by 1, 2"
    )
    connection.execute("update totals set settled_to = (select coalesce(max(id), 0) from answers)")
