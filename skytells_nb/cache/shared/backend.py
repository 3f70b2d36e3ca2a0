"""What a server must do to hold a shared store."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from skytells_nb.cache.spending import Claim
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

PEERS_S = 60.0
"""Time for which the record of a process is kept that no longer replaces it."""

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 30.0
PAUSE_RATIO = 10
"""How many times as long as a failed use took the server is left alone."""


class StoreUnavailable(Exception):
    """The server cannot be used now; the text says why.

    ``responds`` is whether it said so itself, and may do what is asked of it next.
    """

    def __init__(self, reason: str, *, responds: bool = False) -> None:
        super().__init__(reason)
        self.responds = responds


class StoreRefused(Exception):
    """The server is there and does not let this process in, whenever it asks; the text says why and what to do."""


class Pause:
    """How long a server is left alone."""

    def __init__(self) -> None:
        self.until = 0.0
        self._seconds = FIRST_RETRY_S

    def begin(self, took: float) -> None:
        """Leave it alone from now on: longer each time, and after a use that took this long."""
        # A server that hangs takes its whole time limit from the run each time.
        self.until = time.monotonic() + max(self._seconds, PAUSE_RATIO * took)
        self._seconds = min(MAX_RETRY_S, 2 * self._seconds)

    def end(self) -> None:
        """Ask it again from now on."""
        self.until, self._seconds = 0.0, FIRST_RETRY_S


class Holder(NamedTuple):
    """The owner of a lease, or of dollars that are reserved."""

    owner: bytes
    process: bytes


class Acquired(NamedTuple):
    """The states of keys that were to be leased, and who holds those that others do."""

    states: list[LeaseState]
    holders: list[Holder]


class Coordinator(Protocol):
    """What processes tell each other through one server. Every method raises what those of ``Backend`` do."""

    def exchange(
        self, topic: bytes, owner: bytes, process: bytes, record: bytes, seconds: float
    ) -> tuple[float, Mapping[bytes, tuple[bytes, bytes]]]:
        """Replace the record of ``owner``; return the time by the server's clock, and the records of the others.

        They are those that were replaced in the last so many seconds, with their processes.
        """
        ...

    def leave(self, topic: bytes, owner: bytes) -> None:
        """Remove the record of this owner."""
        ...

    def open_limit(self, topic: bytes, limit: float) -> None:
        """Begin to count what is spent of a limit; nothing if it is known."""
        ...

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
        """Replace what the owner has spent and reserved, and reserve more if that fits; see ``SpendingCounter``.

        Returns who else has something reserved; ``None`` if the limit is not known. What was reserved ``QUIET_S`` ago
        counts as spent.
        """
        ...

    def forfeit(self, topic: bytes, owners: Sequence[bytes]) -> None:
        """Count as spent what these owners have reserved."""
        ...

    def end_spending(self, topic: bytes, owner: bytes, spent: float) -> None:
        """Count what the owner has spent, and forget the owner; nothing if it is not known."""
        ...


class Backend(Protocol):
    """Records by key on one server, and leases on them.

    Safe for several threads, in a forked child too. Every method raises StoreUnavailable if the server cannot be used,
    and StoreRefused if it does not let this process in. Nothing is sent before the first call.
    """

    @property
    def coordinator(self) -> Coordinator:
        """What processes tell each other on this server."""
        ...

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
