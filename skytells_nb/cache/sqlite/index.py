"""The index from keys to rows, in two parts, so that writing a batch touches few pages.

Keys are spread evenly, so a batch of 2,048 of them touches nearly every page of one large index, and each of those is
rewritten: for a million vectors of 64 dimensions, 16 GB were written to the disk for a file of 0.35 GB. The newest
responses therefore have a small index of their own (``recent``), which is merged into the large one (``settled``) from
time to time: 1.5 GB, in half the time. An entry (``place``) is the fingerprint of a key, its last eight bytes; the row
holds the whole key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

KEYS_PER_STATEMENT = 1_000
MAX_RECENT = 65_536
"""Entries in the small part at most: one megabyte. Merging them takes a tenth of a second."""
PARTS = ("recent", "settled")
SCHEMA = (
    # One key for each fingerprint, so that adding shows whether it is new; the rare collisions go to the large part.
    "create table recent (place integer primary key, id integer not null)",
    "create table settled (place integer not null, id integer not null, primary key (place, id)) without rowid",
)


def fingerprint(key: object) -> int | None:
    """Return the number that a key is indexed by, ``None`` for a corrupted key.

    >>> fingerprint(bytes(31) + b"!")
    33
    """
    return int.from_bytes(key[-8:], "big", signed=True) if isinstance(key, bytes) else None


def rows(connection: sqlite3.Connection, keys: Sequence[bytes], columns: str) -> Iterator[tuple[object, ...]]:
    """Yield the key of each stored response, followed by these columns of it ("value, id")."""
    yield from rows_in_part(connection, "recent", keys, columns)
    # Only now: another process may merge meanwhile, and the entries that left the small part are there then.
    if merged_to(connection):
        yield from rows_in_part(connection, "settled", keys, columns)


def rows_in_part(
    connection: sqlite3.Connection, part: str, keys: Sequence[bytes], columns: str
) -> Iterator[tuple[object, ...]]:
    """Yield ``rows`` of one part."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        batch = keys[start : start + KEYS_PER_STATEMENT]
        wanted = set(batch)
        places = [fingerprint(key) for key in batch]
        marks = ",".join("?" * len(places))
        # A cross join reads the part first, whatever SQLite estimates of the sizes.
        candidates = connection.execute(
            f"select key, {columns} from {part} cross join answers using (id) where place in ({marks})", places
        )
        yield from (row for row in candidates if row[0] in wanted)


def merged_to(connection: sqlite3.Connection) -> int:
    """Return the highest id that may be in the large part, 0 if it is empty."""
    (last,) = connection.execute("select cast(total(settled_to) as int) from totals").fetchone()
    return int(last)


def add(connection: sqlite3.Connection, keys: Sequence[bytes], last: int) -> bool:
    """Add new responses, with the ids after ``last``, to the small part; return False if fingerprints collide."""
    entries = zip(map(fingerprint, keys), range(last + 1, last + 1 + len(keys)), strict=True)
    added = connection.executemany("insert or ignore into recent values (?, ?)", entries).rowcount
    if added < len(keys):
        connection.execute("delete from recent where id > ?", (last,))
        return False
    if last + len(keys) - merged_to(connection) >= MAX_RECENT:
        _merge(connection, last + len(keys))
    return True


def add_colliding(connection: sqlite3.Connection, keys: Sequence[bytes], last: int) -> None:
    """``add`` for keys of which some have the same fingerprint."""
    _merge(connection, last + len(keys))
    entries = zip(map(fingerprint, keys), range(last + 1, last + 1 + len(keys)), strict=True)
    connection.executemany("insert or ignore into settled values (?, ?)", entries)


def _merge(connection: sqlite3.Connection, last: int) -> None:
    # In order, so that every page is written once.
    connection.execute("insert or ignore into settled select place, id from recent order by place")
    connection.execute("delete from recent")
    connection.execute("update totals set settled_to = ?", (last,))


def check_contains(connection: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Raise the error of a damaged file unless every key is indexed."""
    wanted = set(keys)
    if wanted - {row[0] for row in rows(connection, list(wanted), "id")}:
        problem = sqlite3.DatabaseError("the index does not hold what was put into it")
        problem.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise problem


def remove(connection: sqlite3.Connection, entries: Sequence[tuple[int | None, int]]) -> None:
    """Remove entries, as (fingerprint, id), of responses that were deleted."""
    for part in PARTS:
        connection.executemany(f"delete from {part} where place = ? and id = ?", entries)
    connection.execute("update totals set settled_to = min(settled_to, (select coalesce(max(id), 0) from answers))")


def rebuild(connection: sqlite3.Connection) -> None:
    """Index all responses in the large part."""
    connection.create_function("place_of", 1, fingerprint, deterministic=True)
    connection.execute(
        "insert or ignore into settled select place_of(key), id from answers where typeof(key) = 'blob' order by 1, 2"
    )
    connection.execute("update totals set settled_to = (select coalesce(max(id), 0) from answers)")
