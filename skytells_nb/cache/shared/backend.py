"""What a server must do to hold a shared store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from skytells_nb.cache.store import LeaseState

MAX_LEASE_S = 3_600.0
"""A lease that was not renewed for so long is removed."""
ROWS_PER_BATCH = 1_000
"""Keys in one look-up, and responses in one statement that adds or removes them."""
CONNECT_TIMEOUT_S = 3
"""Longest wait for a connection: a whole number, which PostgreSQL's clients require."""
REPLY_TIMEOUT_S = 5.0
"""Longest wait for an answer of the server, in the middle of a run."""
MANAGE_TIMEOUT_S = 300.0
"""The same while responses are counted, pruned or deleted."""


class StoreUnavailable(Exception):
    """The server cannot be used now; the text says why.

    ``responds`` is whether it said so itself, and may do what is asked of it next.
    """

    def __init__(self, reason: str, *, responds: bool = False) -> None:
        super().__init__(reason)
        self.responds = responds


class StoreRefused(Exception):
    """The server is there and does not let this process in, whenever it asks; the text says why and what to do."""


class Holder(NamedTuple):
    """The owner of a lease."""

    owner: bytes
    process: bytes


class Acquired(NamedTuple):
    """The states of keys that were to be leased, and who holds those that others do."""

    states: list[LeaseState]
    holders: list[Holder]


class Backend(Protocol):
    """Records by key on one server, and leases on them.

    Safe for several threads, in a forked child too. Every method raises StoreUnavailable if the server cannot be used,
    and StoreRefused if it does not let this process in. Nothing is sent before the first call.
    """

    def load(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the records of these keys that there are."""
        ...

    def contains(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of the keys that have a record."""
        ...

    def keys(self) -> bytes:
        """Return the keys of all records, one after the other."""
        ...

    def insert(self, rows: Sequence[tuple[bytes, bytes]], replacing: Collection[bytes]) -> int:
        """Add all records with new keys or none, ending the leases of all keys; return how many were added.

        Records of the keys in ``replacing`` are removed before. No key occurs twice.
        """
        ...

    def delete(self, keys: Sequence[bytes]) -> int:
        """Remove the records of these keys and return how many there were."""
        ...

    def totals(self) -> tuple[int, int]:
        """Return the number of records, and their bytes."""
        ...

    def prune(self, max_bytes: int | None, older_than_s: float | None) -> int:
        """Remove the oldest records until at most ``max_bytes`` are left and none is older; return how many."""
        ...

    def snapshot(self) -> int:
        """Return the number of the newest record: each that is added has a higher one."""
        ...

    def acquire(
        self,
        keys: Sequence[bytes],
        owner: bytes,
        process: bytes,
        seconds: float,
        after: int,
        ignoring: Collection[bytes],
    ) -> Acquired:
        """Lease to ``owner`` those keys that have no record with a number after ``after`` and that no other holds.

        Records of the keys in ``ignoring`` do not count. All leases of the owner then expire in ``seconds``. One that
        has expired and holds one of the keys loses all.
        """
        ...

    def renew(self, owner: bytes, seconds: float) -> bool:
        """Let the leases of this owner expire in so many seconds; return False if it lost them."""
        ...

    def release(self, owner: bytes, keys: Sequence[bytes], *, ends: bool) -> None:
        """End the leases of this owner on these keys; with ``ends`` all that it has."""
        ...

    def close(self) -> None:
        """Close the connections. Idempotent; a later call opens them again."""
        ...
