"""The protocol of a cache of paid responses: keys of 32 bytes to responses as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from skytells_nb.progress.events import StepCallback
from skytells_nb.progress.long_step import long_step

Row = tuple[bytes, bytes | memoryview]
"""A key and its response."""
LeaseState = Literal["acquired", "leased", "stored"]
"""Whether a key is now leased to the caller, is leased to another, or has its response already."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The contents of a store, and what this process read and wrote."""

    entries: int
    bytes: int
    """Bytes of the responses alone; the file is slightly larger."""
    hits: int
    misses: int
    stored: int
    """Responses added by this process."""
    damaged: int
    """Damaged responses that this process read; each counts as a miss too."""
    path: str | None
    """The file, or ``None`` for a store without one."""
    file_bytes: int = 0
    """Size of the file."""
    free_bytes: int = 0
    """Bytes of the file that new responses will use."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What a store keeps at most: so many bytes of responses, none of them older. ``None`` is no limit."""

    max_bytes: int | None = None
    max_age_days: float | None = None

    def __bool__(self) -> bool:
        return self.max_bytes is not None or self.max_age_days is not None


class Leases(Protocol):
    """Which caller requests which keys, so that callers that share a store pay for each response once.

    A lease has a key, an owner and an expiry. An owner is a caller, named by 16 random bytes. Its leases are free once
    they have expired, or once the store knows that its process has ended; storing a response ends the lease of its key,
    even if another caller holds it. Where a lease cannot be written no call raises, and each caller requests on its
    own.
    """

    def snapshot(self) -> object:
        """Return where the store stands now, for ``acquire``; ``None`` if that is not known."""
        ...

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        """Lease to ``owner`` those of the keys that have no response and that no other owner holds.

        All leases of this owner then expire in ``seconds``. Return the state of each key, in order. A key that is
        acquired had no response when it was leased, so it need not be looked up again. Responses from before the
        ``snapshot`` do not count: the caller knows them. ``changed`` is whether some may have been stored since through
        this store object; if not, and if no other stored any, the keys need not be looked up.
        """
        ...

    def renew(self, owner: bytes, seconds: float) -> bool:
        """Let the leases of this owner expire in so many seconds from now.

        Return False if they had expired and another caller asked for one of the keys: none of them is held any more.
        """
        ...

    def release(self, owner: bytes, keys: Sequence[bytes] | None = None) -> None:
        """End the leases of this owner on these keys, by default all of them."""
        ...


class Peers(Protocol):
    """Short records that processes of one account exchange while they run: each has one record under a topic.

    No call raises or waits for another process for longer than a moment; where records cannot be exchanged, each
    process is alone. A topic is named by 16 bytes, an owner by 16 random bytes.
    """

    def now(self) -> float:
        """Return the time in seconds by the clock of all processes."""
        ...

    def watch(self, topic: bytes) -> Callable[[], bool]:
        """Return what tells whether there may be records under the topic; to ask it costs next to nothing."""
        ...

    def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
        """Replace the record of ``owner`` and return those of the others, by owner.

        A record is left out once it was not replaced for so many seconds, or once it is known that its process ended.
        """
        ...

    def leave(self, topic: bytes, owner: bytes) -> None:
        """Remove the record of this owner."""
        ...


class CacheStore(Protocol):
    """Responses by key. Safe for several threads; stores with a file are safe for several processes too."""

    @property
    def leases(self) -> Leases:
        """Which keys are being requested, by whom; shared as widely as the responses are."""
        ...

    @property
    def url(self) -> str:
        """Name of the store, such as ``sqlite:///home/me/answers.sqlite``; safe to print."""
        ...

    @property
    def unsaved(self) -> int:
        """Number of responses that could not be written and are held in memory."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the responses in the order of ``keys``; ``None`` for one that is missing or damaged."""
        ...

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        """Return which of the keys have a response, damaged or not, in their order. Counts nothing."""
        ...

    def keys(self) -> bytes:
        """Return the keys of all responses, damaged or not, one after the other, in any order. Counts nothing.

        Raises CacheError if they cannot be read.
        """
        ...

    def put_many(self, items: Sequence[tuple[bytes, bytes | memoryview]], *, replace: bool = False) -> None:
        """Store all items or none; existing responses stay unless ``replace``. On return they survive a killed process.

        Leases of these keys end.
        A store that cannot write (disk full, folder read-only) warns once and holds the responses in memory.
        """
        ...

    def emit_warnings(self) -> None:
        """Emit pending warnings, attributed to the caller's line.

        ``put_many`` does not emit them: worker threads call it, whose lines mean nothing to the user.
        """
        ...

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Remove the responses of these keys and return how many there were."""
        ...

    def stats(self) -> CacheStats:
        """Return the contents, and what this process has read and written."""
        ...

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        """Remove the oldest responses until at most ``max_bytes`` are left and none is older; return how many.

        ``compact`` gives what the file has free back to the disk, whatever that takes. ``on_progress`` is called with
        the bytes that are removed and given back, and those that will be; without it a progress line shows them.
        """
        ...

    def run(self) -> AbstractContextManager[None]:
        """Return a context in which the limits of the store remove no response that is stored from its beginning on."""
        ...

    def close(self) -> None:
        """Finish pending writes and release the file. Idempotent."""
        ...


MEGABYTE = 1_000_000


@contextmanager
def prune_progress(given: StepCallback | None) -> Iterator[StepCallback]:
    """Yield the callback of ``prune``, which takes bytes: the given one, or that of a progress line."""
    if given is not None:
        yield given
        return
    with long_step("prune", unit="MB") as on_progress:
        yield lambda done, total=None: on_progress(done // MEGABYTE, -(-(total or 0) // MEGABYTE))
