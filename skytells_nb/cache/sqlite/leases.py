"""Leases in the file of responses: which process is requesting which keys.

Each owner has one row, with its expiry and the last eight bytes of each key that it holds: leasing and ending two
thousand keys writes one row each. A key that has a response counts as stored, whatever the rows say, so storing
responses writes nothing more. The table is made with the first lease: a recording has none, and a file of an earlier
version needs no upgrade.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from skytells_nb.cache.processes import may_be_running, this_process
from skytells_nb.cache.sqlite.queries import in_transaction
from skytells_nb.cache.store import LeaseState

MAX_LEASE_S = 3_600.0
"""An expiry later than this from now was written before the clock was set back."""

_TABLE = (
    "create table if not exists leases"
    " (owner integer primary key, process blob not null, expires real not null, keys blob not null)"
)
_KEY_BYTES = 8

T = TypeVar("T")


class _Write(Protocol):
    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> T | None: ...


class StoreSnapshot(NamedTuple):
    """Where a file of responses stands."""

    last_id: int
    """The id of the last response: they grow with each."""
    foreign_changes: int
    """Changes with each response that is stored, except through the same store object."""
    memory_position: int = 0
    """Grows with the responses that are held in memory, because the file cannot be written."""


class SqliteLeases:
    """The leases in one file.

    ``write`` does some work on a connection, one at a time, or returns ``None`` if the file cannot be written.
    ``snapshot`` and ``look_up`` are the store's snapshot, and the keys with a response from after one, within such
    work; without a connection they are those of the memory alone.
    """

    def __init__(
        self,
        write: _Write,
        snapshot: Callable[[sqlite3.Connection | None], StoreSnapshot],
        look_up: Callable[[sqlite3.Connection | None, Sequence[bytes], StoreSnapshot], set[bytes]],
    ) -> None:
        self._write = write
        self._snapshot = snapshot
        self._look_up = look_up
        self._held: dict[bytes, set[bytes]] = {}
        """Keys that each owner holds; changed by one thread at a time, as the file is."""

    def snapshot(self) -> StoreSnapshot:
        return self._write(self._snapshot) or self._snapshot(None)

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        if not keys:
            return []
        known = snapshot if isinstance(snapshot, StoreSnapshot) else StoreSnapshot(0, -1)
        work = partial(self._acquire, keys=keys, owner=owner, seconds=seconds, snapshot=known, changed=changed)
        found = self._write(lambda connection: in_transaction(connection, partial(work, connection)))
        if found is None:
            stored = self._look_up(None, keys, known) if changed else set()
            return ["stored" if key in stored else "acquired" for key in keys]
        return found

    def renew(self, owner: bytes, seconds: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            held = self._held.get(owner)
            row = (time.time() + seconds, _joined(held or ()), _number(owner))
            update = "update leases set expires = ?, keys = ? where owner = ?"
            return not held or _execute(connection, update, row) == 1

        return self._write(work) is not False

    def release(self, owner: bytes, keys: Sequence[bytes] | None = None) -> None:
        held = self._held.get(owner)
        if held is not None and (keys is None or not held.isdisjoint(keys)):
            self._write(partial(self._release, owner=owner, keys=keys))

    def release_all(self) -> None:
        """End the leases of all owners: the thread that ends those of a run may have been held up."""
        for owner in list(self._held):
            self.release(owner)

    def end(self, keys: Iterable[bytes]) -> None:
        """Note that these keys have a response, within work."""
        for held in self._held.values():
            held.difference_update(keys)

    def held_elsewhere(self, connection: sqlite3.Connection) -> bool:
        """Whether another process is requesting something, within work."""
        try:
            rows = connection.execute("select process, expires, keys from leases").fetchall()
        except sqlite3.OperationalError as problem:
            if not _has_no_table(problem):
                raise
            return False
        now, this = time.time(), this_process()
        return any(
            ends and process != this and now < expires <= now + MAX_LEASE_S and may_be_running(process)
            for process, expires, ends in rows
        )

    def reset_after_fork(self) -> None:
        """Forget what the parent holds."""
        self._held.clear()

    def _acquire(
        self,
        connection: sqlite3.Connection,
        *,
        keys: Sequence[bytes],
        owner: bytes,
        seconds: float,
        snapshot: StoreSnapshot,
        changed: bool,
    ) -> list[LeaseState]:
        stored: set[bytes] = set()
        if changed or self._snapshot(connection).foreign_changes != snapshot.foreign_changes:
            # A response that is stored from now on finds the lease.
            stored = self._look_up(connection, keys, snapshot)
        mine, elsewhere = _read(connection, _number(owner))
        held = self._held.setdefault(owner, set())
        if mine is None:
            # These are the first, or another process ended the others.
            held.clear()
        acquired = [key for key in keys if key not in stored and key[-_KEY_BYTES:] not in elsewhere]
        expiry = time.time() + seconds
        if acquired or (mine is not None and mine < expiry - seconds / 2):
            held.update(acquired)
            row = (_number(owner), this_process(), expiry, _joined(held))
            connection.execute("insert or replace into leases values (?, ?, ?, ?)", row)
        if len(acquired) == len(keys):
            return ["acquired"] * len(keys)
        return [
            "stored" if key in stored else "leased" if key[-_KEY_BYTES:] in elsewhere else "acquired" for key in keys
        ]

    def _release(self, connection: sqlite3.Connection, *, owner: bytes, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._held.pop(owner, None)
            _execute(connection, "delete from leases where owner = ?", (_number(owner),))
        elif held := self._held.get(owner):
            held.difference_update(keys)
            _execute(connection, "update leases set keys = ? where owner = ?", (_joined(held), _number(owner)))


def _number(owner: bytes) -> int:
    return int.from_bytes(owner[-8:], "big", signed=True)


def _joined(keys: Iterable[bytes]) -> bytes:
    return b"".join([key[-_KEY_BYTES:] for key in keys])


def _read(connection: sqlite3.Connection, owner: int) -> tuple[float | None, set[bytes]]:
    """Return when the leases of this owner expire, ``None`` if it has none, and the ends of the keys of all others.

    Leases that have expired, or whose process has ended, are removed.
    """
    try:
        rows = connection.execute("select owner, process, expires, keys from leases").fetchall()
    except sqlite3.OperationalError as problem:
        if not _has_no_table(problem):
            raise
        connection.execute(_TABLE)
        return None, set()
    mine: float | None = None
    elsewhere: set[bytes] = set()
    now = time.time()
    for number, process, expires, ends in rows:
        if number == owner:
            mine = expires
        elif now < expires <= now + MAX_LEASE_S and may_be_running(process):
            elsewhere.update(ends[at : at + _KEY_BYTES] for at in range(0, len(ends), _KEY_BYTES))
        else:
            connection.execute("delete from leases where owner = ?", (number,))
    return mine, elsewhere


def _execute(connection: sqlite3.Connection, statement: str, row: Sequence[Any]) -> int:
    """Change a row; return whether there was one."""
    try:
        return connection.execute(statement, row).rowcount
    except sqlite3.OperationalError as problem:
        if _has_no_table(problem):
            return 0
        raise


def _has_no_table(problem: sqlite3.OperationalError) -> bool:
    # Also where another file has taken the place of the one that the leases were in.
    return "no such table" in str(problem)
