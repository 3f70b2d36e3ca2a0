"""Responses in PostgreSQL, as rows of four tables of the database that the address names.

Every change is one transaction that holds one advisory lock, so that numbers of rows are seen in their order, and a
response that is being stored is seen by the caller that leases its key. Leases are in tables without a log, which a
crash of the server empties.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from skytells_nb.cache.checksum import HEADER_BYTES
from skytells_nb.cache.shared.address import Address
from skytells_nb.cache.shared.backend import (
    CONNECT_TIMEOUT_S,
    MANAGE_TIMEOUT_S,
    REPLY_TIMEOUT_S,
    ROWS_PER_BATCH,
    Acquired,
    Holder,
    StoreRefused,
    StoreUnavailable,
)
from skytells_nb.cache.shared.postgres_coordinator import PostgresCoordinator
from skytells_nb.errors import MissingExtraError

_LOCK = 0x536B_794E  # "SkyN", as in the files
_SCHEMA = """
create table skytells_answers (
  id bigint generated always as identity primary key,
  key bytea not null unique,
  stored_at timestamptz not null default clock_timestamp(),
  value bytea not null);
alter table skytells_answers alter column value set storage external;
create table skytells_totals (entries bigint not null, bytes bigint not null);
insert into skytells_totals values (0, 0);
create unlogged table skytells_owners (
  owner bytea primary key, process bytea not null, expires timestamptz not null);
create unlogged table skytells_leases (
  key bytea primary key, owner bytea not null references skytells_owners on delete cascade);
create index on skytells_leases (owner);
"""
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "is not permitted to log in",
)
"""What a server that answers says where no later attempt would succeed. The codes of errors do not reach the client
before it is connected."""
_TEMPORARY = ("too many", "starting up", "shutting down", "recovery", "connection slots")

T = TypeVar("T")


class PostgresBackend:
    """Records and leases in the database at this address; see ``Backend``."""

    def __init__(self, address: Address) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtraError("A cache on PostgreSQL", address.extra) from None
        self._psycopg = psycopg
        self._address = address
        self.coordinator = PostgresCoordinator(self._run, psycopg.errors.UndefinedTable)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._watch = _Deadlines()

    def load(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        select = "select key, value from skytells_answers where key = any(%b::bytea[])"
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), ROWS_PER_BATCH):
            batch = list(keys[start : start + ROWS_PER_BATCH])
            found.update(self._run(partial(_rows, statement=select, values=[batch])))
        return found

    def contains(self, keys: Sequence[bytes]) -> set[bytes]:
        select = "select key from skytells_answers where key = any(%b::bytea[])"
        found: set[bytes] = set()
        for start in range(0, len(keys), ROWS_PER_BATCH):
            batch = list(keys[start : start + ROWS_PER_BATCH])
            found.update(key for (key,) in self._run(partial(_rows, statement=select, values=[batch])))
        return found

    def keys(self) -> bytes:
        select = "select key from skytells_answers"
        return b"".join(key for (key,) in self._run(partial(_rows, statement=select), manages=True))

    def insert(self, rows: Sequence[tuple[bytes, bytes]], replacing: Collection[bytes]) -> int:
        keys = [key for key, _ in rows]
        replaced = [key for key in keys if key in replacing]

        def work(connection: Any) -> int:
            if replaced:
                _delete(connection, "key = any(%b::bytea[])", [replaced])
            sizes: list[tuple[int]] = []
            for start in range(0, len(rows), ROWS_PER_BATCH):
                batch = rows[start : start + ROWS_PER_BATCH]
                sizes += _rows(
                    connection,
                    "insert into skytells_answers (key, value) select * from unnest(%b::bytea[], %b::bytea[])"
                    " on conflict (key) do nothing returning length(value)",
                    [[key for key, _ in batch], [value for _, value in batch]],
                )
            connection.execute("delete from skytells_leases where key = any(%b::bytea[])", [keys])
            _add_to_totals(connection, len(sizes), sum(size for (size,) in sizes))
            return len(sizes)

        return self._change(work)

    def delete(self, keys: Sequence[bytes]) -> int:
        wanted = list(dict.fromkeys(keys))
        return self._change(
            lambda connection: len(_delete(connection, "key = any(%b::bytea[])", [wanted])), manages=True
        )

    def totals(self) -> tuple[int, int]:
        read = "select entries, bytes from skytells_totals"
        rows = self._run(lambda connection: _rows(connection, read), manages=True)
        return rows[0] if rows else (0, 0)

    def prune(self, max_bytes: int | None, older_than_s: float | None) -> int:
        removed = 0
        while more := self._change(
            lambda connection: _prune(connection, max_bytes, older_than_s), manages=True, durable=False
        ):
            removed += more
        return removed

    def snapshot(self) -> int:
        newest = "select coalesce(max(id), 0) from skytells_answers"
        return int(self._run(lambda connection: _rows(connection, newest))[0][0])

    def acquire(
        self,
        keys: Sequence[bytes],
        owner: bytes,
        process: bytes,
        seconds: float,
        after: int,
        ignoring: Collection[bytes],
    ) -> Acquired:
        wanted = list(keys)

        def work(connection: Any) -> Acquired:
            newer = "select key from skytells_answers where key = any(%b::bytea[]) and id > %b"
            stored = {key for (key,) in _rows(connection, newer, [wanted, after]) if key not in ignoring}
            others = (
                "select key, owner, process, expires <= clock_timestamp() from skytells_leases"
                " join skytells_owners using (owner) where key = any(%b::bytea[]) and owner <> %b"
            )
            held = {
                key: (Holder(name, its_process), expired)
                for key, name, its_process, expired in _rows(connection, others, [wanted, owner])
                if key not in stored
            }
            if lost := [holder.owner for holder, expired in held.values() if expired]:
                connection.execute("delete from skytells_owners where owner = any(%b::bytea[])", [lost])
            leased = {key: holder for key, (holder, expired) in held.items() if not expired}
            acquired = [key for key in wanted if key not in stored and key not in leased]
            renewed = _rows(
                connection,
                "update skytells_owners set expires = clock_timestamp() + make_interval(secs => %b) where owner = %b"
                " returning 1",
                [float(seconds), owner],
            )
            if acquired:
                if not renewed:
                    connection.execute(
                        "insert into skytells_owners values (%b, %b, clock_timestamp() + make_interval(secs => %b))",
                        [owner, process, float(seconds)],
                    )
                connection.execute(
                    "insert into skytells_leases select unnest(%b::bytea[]), %b on conflict do nothing",
                    [acquired, owner],
                )
            return Acquired(
                ["stored" if key in stored else "leased" if key in leased else "acquired" for key in wanted],
                list(dict.fromkeys(leased.values())),
            )

        return self._change(work, durable=False)

    def renew(self, owner: bytes, seconds: float) -> bool:
        update = (
            "update skytells_owners set expires = clock_timestamp() + make_interval(secs => %b) where owner = %b"
            " returning 1"
        )
        return bool(self._change(lambda connection: _rows(connection, update, [float(seconds), owner]), durable=False))

    def release(self, owner: bytes, keys: Sequence[bytes], *, ends: bool) -> None:
        def work(connection: Any) -> None:
            if ends:
                connection.execute("delete from skytells_owners where owner = %b", [owner])
            else:
                release = "delete from skytells_leases where owner = %b and key = any(%b::bytea[])"
                connection.execute(release, [owner, list(keys)])

        self._change(work, durable=False)

    def close(self) -> None:
        while (connection := self._take()) is not None:
            connection.close()

    def _change(self, work: Callable[[Any], T], *, manages: bool = False, durable: bool = True) -> T:
        """Return what ``work`` returns, done as one transaction while no other process changes anything."""

        def locked(connection: Any) -> T:
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(%b)", [_LOCK])
                if not durable:
                    connection.execute("set local synchronous_commit = off")
                return work(connection)

        return self._run(locked, manages=manages)

    def _run(self, work: Callable[[Any], T], *, manages: bool = False) -> T:
        """Return what ``work`` returns; it is done again if an idle connection turns out to be closed."""
        errors = self._psycopg
        try:
            while True:
                connection = self._take()
                is_idle = connection is not None
                if connection is None:
                    connection = self._connect()
                try:
                    with self._watch.limit(connection, MANAGE_TIMEOUT_S if manages else REPLY_TIMEOUT_S) as limit:
                        result = work(connection)
                except BaseException as problem:
                    connection.close()
                    if not (is_idle and isinstance(problem, errors.OperationalError) and not limit.passed):
                        raise
                else:
                    self._give_back(connection)
                    return result
        except errors.errors.InsufficientPrivilege as problem:
            raise StoreRefused(f"{self._text(problem)}; grant it, or name another database") from None
        except errors.Error as problem:
            # A code comes from the server, in reply to a statement.
            raise StoreUnavailable(self._text(problem), responds=problem.sqlstate is not None) from None
        except OSError as problem:
            raise StoreUnavailable(self._text(problem)) from None

    def _take(self) -> Any:
        if self._pid != os.getpid():
            # Closed here, a connection would end for the parent too.
            _of_parents.extend(self._idle)
            self._reset()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Any) -> None:
        with self._lock:
            self._idle.append(connection)

    def _connect(self) -> Any:
        psycopg = self._psycopg
        address = self._address.with_password()
        try:
            given = psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            # Not quoted: it may be the password that is not where it belongs.
            raise StoreRefused("the address has an option that PostgreSQL does not know") from None
        defaults = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "skytells-nb"}
        options = {name: value for name, value in defaults.items() if name not in given}
        try:
            # No prepared statements: a pooler between would not know them.
            connection = psycopg.connect(address, autocommit=True, prepare_threshold=None, **options)
        except psycopg.OperationalError as problem:
            text = self._text(problem)
            is_refusal = problem.pgconn is not None and problem.pgconn.needs_password
            if is_refusal or (_contains(text, _REFUSALS) and not _contains(text, _TEMPORARY)):
                raise StoreRefused(f"{text}; check user name, password and database") from None
            raise
        try:
            with self._watch.limit(connection, REPLY_TIMEOUT_S):
                # A look at the names after waiting for the lock may still show what was before: it may be cached.
                if not _rows(connection, "select to_regclass('skytells_leases') is not null")[0][0]:
                    with contextlib.suppress(psycopg.errors.DuplicateTable):
                        _create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _text(self, problem: BaseException) -> str:
        if isinstance(problem, self._psycopg.Error) and problem.diag.message_primary:
            return self._address.masked(problem.diag.message_primary)
        lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
        return self._address.masked(lines[-1].rstrip(".") if lines else type(problem).__name__)


_of_parents: list[Any] = []
"""Connections that this process has from the one that it was forked from."""


class _Limit:
    """A time limit of one use of a connection."""

    def __init__(self, connection: Any, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.passed = False


class _Deadlines:
    """Ends the uses of connections that take too long: the client would wait for a server that hangs for ever."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: set[_Limit] = set()
        self._running = False

    @contextlib.contextmanager
    def limit(self, connection: Any, seconds: float) -> Iterator[_Limit]:
        """Disconnect if the block takes longer, which then raises OperationalError."""
        limit = _Limit(connection, time.monotonic() + seconds)
        with self._changed:
            self._limits.add(limit)
            if not self._running:
                self._running = self._start()
        try:
            yield limit
        finally:
            with self._changed:
                self._limits.discard(limit)

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._watch, name="skytells-postgres", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _watch(self) -> None:
        idle_since = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                if self._limits:
                    idle_since = now
                elif now > idle_since + 5.0:
                    self._running = False
                    return
                late = [limit for limit in self._limits if now > limit.deadline]
                for limit in late:
                    limit.passed = True
                    self._limits.discard(limit)
                    _disconnect(limit.connection)
                self._changed.wait(0.5)


def _disconnect(connection: Any) -> None:
    """Close the socket under a connection that another thread waits for."""
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as own,
    ):
        own.shutdown(socket.SHUT_RDWR)


def _create(connection: Any) -> None:
    """Create the tables; raises DuplicateTable if another process has just done it."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%b)", [_LOCK])
        connection.execute(_SCHEMA)


def _rows(connection: Any, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    with connection.cursor(binary=True) as cursor:
        return list(cursor.execute(statement, values or None).fetchall())


def _delete(connection: Any, condition: str, values: Sequence[Any]) -> list[Any]:
    removed = _rows(connection, f"delete from skytells_answers where {condition} returning length(value)", values)
    _add_to_totals(connection, -len(removed), -sum(size for (size,) in removed))
    return removed


def _add_to_totals(connection: Any, count: int, size: int) -> None:
    if count:
        add = "update skytells_totals set entries = entries + %s, bytes = bytes + %s"
        connection.execute(add, [count, size - HEADER_BYTES * count])


def _prune(connection: Any, max_bytes: int | None, older_than_s: float | None) -> int:
    """Remove the oldest responses, of one batch, that are too old or too much; return how many."""
    ((size,),) = _rows(connection, "select bytes from skytells_totals")
    oldest = _rows(
        connection,
        "select id, length(value), coalesce(stored_at < clock_timestamp() - make_interval(secs => %b), false)"
        " from skytells_answers order by id limit %b",
        [older_than_s, ROWS_PER_BATCH],
    )
    last = 0
    for number, length, is_too_old in oldest:
        if not (is_too_old or (max_bytes is not None and size > max_bytes)):
            break
        size -= length - HEADER_BYTES
        last = number
    return len(_delete(connection, "id <= %b", [last])) if last else 0


def _contains(text: str, parts: Sequence[str]) -> bool:
    return any(part in text for part in parts)
