"""What processes tell each other through PostgreSQL: rows of three tables, which are made when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from skytells_nb.cache.shared.backend import PEERS_S, Holder
from skytells_nb.cache.spending import KEPT_S, QUIET_S, Claim, fits

_LOCK = 0x536B_7943  # "SkyC"
_COORDINATION = """
create table if not exists skytells_limits (
  topic bytea primary key,
  amount double precision not null,
  ended double precision not null default 0,
  opened timestamptz not null default clock_timestamp());
create table if not exists skytells_spending (
  topic bytea not null references skytells_limits on delete cascade,
  owner bytea not null, process bytea not null,
  spent double precision not null, reserved double precision not null,
  changed timestamptz not null default clock_timestamp(),
  primary key (topic, owner));
create unlogged table if not exists skytells_peers (
  topic bytea not null, owner bytea not null, process bytea not null, record bytea not null,
  changed timestamptz not null default clock_timestamp(),
  primary key (topic, owner));
"""

T = TypeVar("T")


class RunOnConnection(Protocol):
    """Returns what ``work`` returns on a connection."""

    def __call__(self, work: Callable[[Any], T]) -> T: ...


class PostgresCoordinator:
    """Records and limits in a database; see ``Coordinator``."""

    def __init__(self, run: RunOnConnection, undefined_table: type[Exception]) -> None:
        self._run = run
        self._undefined_table = undefined_table

    def exchange(
        self, topic: bytes, owner: bytes, process: bytes, record: bytes, seconds: float
    ) -> tuple[float, Mapping[bytes, tuple[bytes, bytes]]]:
        def work(connection: Any) -> tuple[float, Mapping[bytes, tuple[bytes, bytes]]]:
            connection.execute(
                "insert into skytells_peers values (%b, %b, %b, %b) on conflict (topic, owner) do update"
                " set record = excluded.record, process = excluded.process, changed = clock_timestamp()",
                [topic, owner, process, record],
            )
            found = _rows(
                connection,
                "select owner, process, record, changed > clock_timestamp() - make_interval(secs => %b),"
                " extract(epoch from clock_timestamp())::float8 from skytells_peers where topic = %b",
                [float(seconds), topic],
            )
            others = {name: (its, text) for name, its, text, recent, _ in found if recent and name != owner}
            return found[0][4], others

        return self._coordinate(work, durable=False)

    def leave(self, topic: bytes, owner: bytes) -> None:
        def work(connection: Any) -> None:
            connection.execute("delete from skytells_peers where topic = %b and owner = %b", [topic, owner])
            # Those of processes that were killed.
            old = "delete from skytells_peers where changed < clock_timestamp() - make_interval(secs => %b)"
            connection.execute(old, [PEERS_S])

        self._coordinate(work, durable=False)

    def open_limit(self, topic: bytes, limit: float) -> None:
        def work(connection: Any) -> None:
            old = "delete from skytells_limits where opened < clock_timestamp() - make_interval(secs => %b)"
            connection.execute(old, [KEPT_S])
            insert = "insert into skytells_limits (topic, amount) values (%b, %b) on conflict do nothing"
            connection.execute(insert, [topic, float(limit)])

        self._coordinate(work)

    def claim(
        self,
        topic: bytes,
        owner: bytes,
        process: bytes,
        spent: float,
        reserved: float,
        dollars: float,
        likely: float | None,
    ) -> tuple[Claim, list[Holder]] | None:
        def work(connection: Any) -> tuple[Claim, list[Holder]] | None:
            # One at a time for each limit.
            limits = _rows(connection, "select amount, ended from skytells_limits where topic = %b for update", [topic])
            if not limits:
                return None
            ((limit, others_spent),) = limits
            others_reserved, holders = 0.0, []
            for name, its_process, its_spent, its_reserved, quiet in _rows(
                connection,
                "select owner, process, spent, reserved, changed < clock_timestamp() - make_interval(secs => %b)"
                " from skytells_spending where topic = %b and owner <> %b",
                [QUIET_S, topic, owner],
            ):
                others_spent += its_spent + (its_reserved if quiet else 0.0)
                if its_reserved and not quiet:
                    others_reserved += its_reserved
                    holders.append(Holder(name, its_process))
            granted = fits(limit, others_spent, others_reserved, spent, reserved, dollars, likely)
            connection.execute(
                "insert into skytells_spending values (%b, %b, %b, %b, %b) on conflict (topic, owner) do update"
                " set spent = excluded.spent, reserved = excluded.reserved, changed = clock_timestamp()",
                [topic, owner, process, float(spent), float(reserved + dollars if granted else reserved)],
            )
            return Claim(granted, others_spent, others_reserved), holders

        return self._coordinate(work)

    def forfeit(self, topic: bytes, owners: Sequence[bytes]) -> None:
        change = (
            "update skytells_spending set spent = spent + reserved, reserved = 0"
            " where topic = %b and owner = any(%b::bytea[])"
        )
        self._coordinate(lambda connection: connection.execute(change, [topic, list(owners)]))

    def end_spending(self, topic: bytes, owner: bytes, spent: float) -> None:
        def work(connection: Any) -> None:
            connection.execute("select 1 from skytells_limits where topic = %b for update", [topic])
            remove = "delete from skytells_spending where topic = %b and owner = %b returning 1"
            if _rows(connection, remove, [topic, owner]):
                add = "update skytells_limits set ended = ended + %b where topic = %b"
                connection.execute(add, [float(spent), topic])

        self._coordinate(work)

    def _coordinate(self, work: Callable[[Any], T], *, durable: bool = True) -> T:
        """Return what ``work`` returns, done as one transaction; the tables for it are made where they are missing."""

        def transaction(connection: Any) -> T:
            with connection.transaction():
                if not durable:
                    connection.execute("set local synchronous_commit = off")
                return work(connection)

        def with_tables(connection: Any) -> T:
            try:
                return transaction(connection)
            except self._undefined_table:
                with connection.transaction():
                    connection.execute("select pg_advisory_xact_lock(%b)", [_LOCK])
                    connection.execute(_COORDINATION)
                return transaction(connection)

        return self._run(with_tables)


def _rows(connection: Any, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    with connection.cursor(binary=True) as cursor:
        return list(cursor.execute(statement, values or None).fetchall())
