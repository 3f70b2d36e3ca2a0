"""A store on a server that the processes of several machines share."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

from skytells_nb.cache.checksum import HEADER_BYTES, decode_record, encode_record
from skytells_nb.cache.group_commit import GroupCommit
from skytells_nb.cache.overflow import overflow_for
from skytells_nb.cache.peers import JoinedPeers, machine_peers
from skytells_nb.cache.processes import may_be_running, this_process
from skytells_nb.cache.shared.address import Address
from skytells_nb.cache.shared.backend import Backend, Pause, StoreRefused, StoreUnavailable
from skytells_nb.cache.shared.coordination import SharedCounter, SharedPeers
from skytells_nb.cache.shared.postgres import PostgresBackend
from skytells_nb.cache.shared.redis import RedisBackend
from skytells_nb.cache.store import CacheStats, CacheStore, LeaseState, Peers, Row, prune_progress
from skytells_nb.errors import CacheError, ConfigurationError, warn
from skytells_nb.progress.events import StepCallback

DAY_S = 86_400

T = TypeVar("T")


class SharedStore:
    """Responses on the server at ``address``; nothing is sent to it before first use.

    A failing server does not stop a run: responses that cannot be written are held in memory, for every store of that
    server in this process, and written once it is back; those that cannot be read are missing. It is asked again after
    a second, then after longer and longer. Each problem is reported once, as a SkytellsWarning. A server that refuses
    this process before anything was read from it, for a wrong password for example, is a ConfigurationError.
    ``delete_many`` and ``prune`` raise CacheError if the server cannot be used, and every method does once the store is
    closed. A pickled copy has no password: it takes that of its own process, see ``Address.with_password``.
    """

    def __init__(self, address: str | Address) -> None:
        self._address = address if isinstance(address, Address) else Address.of(address)
        self._server = StoreServer(self._address, self._queue_warning)
        self._writer = GroupCommit(self._save)
        self.leases = SharedLeases(self._server, lambda: self._overflow.position, self._look_up)
        self.peers = SharedPeers(self._server.backend.coordinator)
        self._closed = False
        self._hits = self._misses = self._stored = self._damaged = 0
        self._overflow = overflow_for(self._address.url)
        self._to_replace: set[bytes] = set()
        self._warnings: deque[str] = deque()
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        _open.add(self)

    @property
    def unsaved(self) -> int:
        return len(self._overflow)

    @property
    def url(self) -> str:
        return self._address.url

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_open()
        distinct = list(dict.fromkeys(keys))
        records = {}
        if distinct:
            records = self._server.run(lambda backend: backend.load(distinct), default={}, raises=True)
        responses: dict[bytes, bytes] = {}
        damaged = []
        for key, record in records.items():
            response = decode_record(key, record)
            if response is None:
                damaged.append(key)
            else:
                responses[key] = response
        responses.update(self._overflow.get_many(keys))
        with self._lock:
            missing = sum(key not in responses for key in keys)
            self._misses += missing
            self._hits += len(keys) - missing
            self._damaged += len(damaged)
            self._to_replace.update(damaged)
        if damaged:
            self._queue_warning(
                "answers",
                f"The cache {self.url} contains damaged responses; they count as missing and are replaced when they "
                "are paid for again.",
            )
        self.emit_warnings()
        return [responses.get(key) for key in keys]

    def contains_many(self, keys: Sequence[bytes]) -> list[bool]:
        self._check_open()
        stored: set[bytes] = set()
        if keys:
            missing: set[bytes] = set()
            distinct = list(dict.fromkeys(keys))
            stored |= self._server.run(lambda backend: backend.contains(distinct), default=missing, raises=True)
        stored.update(self._overflow.get_many(keys))
        self.emit_warnings()
        return [key in stored for key in keys]

    def keys(self) -> bytes:
        self._check_open()
        return self._manage(lambda backend: backend.keys()) + b"".join(key for key, _ in self._overflow.items())

    def put_many(self, items: Sequence[Row], *, replace: bool = False) -> None:
        self._check_open()
        # Encoded here, for this caller only: what is not bytes must not fail in a group with the rows of others.
        rows: dict[bytes, bytes] = {}
        for key, value in items:
            rows.setdefault(bytes(key), encode_record(bytes(key), value))
        if rows and replace:
            self._overflow.discard(rows)
            with self._lock:
                self._to_replace.update(rows)
        if rows:
            self._writer.write(list(rows.items()))

    def delete_many(self, keys: Sequence[bytes]) -> int:
        self._check_open()
        return self._overflow.discard(keys) + self._manage(lambda backend: backend.delete(keys))

    def stats(self) -> CacheStats:
        self._check_open()
        entries, size = self._server.run(lambda backend: backend.totals(), default=(0, 0), raises=True)
        self.emit_warnings()
        with self._lock:
            return CacheStats(
                entries=entries + len(self._overflow),
                bytes=size + self._overflow.size,
                hits=self._hits,
                misses=self._misses,
                stored=self._stored,
                damaged=self._damaged,
                path=None,
            )

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        older_than_days: float | None = None,
        compact: bool = False,
        on_progress: StepCallback | None = None,
    ) -> int:
        older_than_s = None if older_than_days is None else older_than_days * DAY_S
        with prune_progress(on_progress):
            return self._manage(lambda backend: backend.prune(max_bytes, older_than_s))

    def run(self) -> AbstractContextManager[None]:
        return nullcontext()

    def counter(self, topic: bytes, limit: float) -> SharedCounter:
        """Return what counts the spending of a limit on the server, for all processes that name the same topic."""
        return SharedCounter(self._server.backend.coordinator, self.url, topic, limit)

    def emit_warnings(self) -> None:
        while True:
            try:
                text = self._warnings.popleft()
            except IndexError:
                return
            warn(text)

    def close(self) -> None:
        """Finish pending writes and close the connections; responses held in memory are written if possible."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if len(self._overflow):
            self._server.ask_again_now()
        self._writer.write(())
        self._server.close()
        _open.discard(self)
        self.emit_warnings()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedStore, (self.url,)

    def __repr__(self) -> str:
        return f"SharedStore({self.url!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise CacheError(f"The cache {self.url} is closed; open it again to use it.")

    def _save(self, rows: list[Row]) -> None:
        """Write a group of records to the server, or hold them in memory if that fails."""
        in_memory = [(key, encode_record(key, response)) for key, response in self._overflow.items()]
        pending = dict(in_memory)
        for key, record in rows:
            pending.setdefault(key, bytes(record))
        if not pending:
            return
        with self._lock:
            replacing = self._to_replace.intersection(pending)
        added = self._server.run(
            lambda backend: backend.insert(list(pending.items()), replacing), default=None, writes=True
        )
        if added is None:
            self._overflow.add((key, memoryview(record)[HEADER_BYTES:]) for key, record in rows)
            return
        self.leases.end(pending)
        with self._lock:
            self._stored += added
            self._to_replace -= replacing
        if in_memory:
            self._overflow.move(key for key, _ in in_memory)

    def _look_up(self, keys: Sequence[bytes], position: int) -> tuple[set[bytes], set[bytes]]:
        """Return which keys have a response in memory from after this position, and whose records do not count.

        Those are to be replaced, or were in memory then.
        """
        in_memory = self._overflow.added_after(keys, position)
        with self._lock:
            ignored = self._to_replace | self._overflow.moved_after(position)
        return in_memory, ignored.intersection(keys) - in_memory

    def _manage(self, work: Callable[[Backend], T]) -> T:
        self._check_open()
        try:
            return self._server.run_now(work)
        except (StoreUnavailable, StoreRefused) as problem:
            raise CacheError(f"The cache {self.url} cannot be used: {problem}.") from None
        finally:
            self.emit_warnings()

    def _queue_warning(self, topic: str, text: str) -> None:
        with self._lock:
            if topic not in self._reported:
                self._reported.add(topic)
                self._warnings.append(text)

    def reset_after_fork(self) -> None:
        """Replace, in a forked child, what threads of the parent may hold."""
        self._lock = threading.Lock()
        self.leases.reset_after_fork()
        self._overflow.reset_after_fork()
        self._writer.reset_after_fork()


def peers_of(store: CacheStore) -> Peers:
    """Return the other processes of an account: those of this machine, and those that use the same server."""
    return JoinedPeers(machine_peers(), store.peers) if isinstance(store, SharedStore) else machine_peers()


class StoreServer:
    """The server of a store: asked where it can be used, and left alone for a while where it cannot."""

    def __init__(self, address: Address, queue_warning: Callable[[str, str], None]) -> None:
        self._url = address.url
        self.backend: Backend = (RedisBackend if address.extra == "redis" else PostgresBackend)(address)
        self._queue_warning = queue_warning
        self._was_used = False
        self._reading, self._writing = Pause(), Pause()

    def run(
        self,
        work: Callable[[Backend], T],
        default: Any,
        *,
        writes: bool = False,
        silent: bool = False,
        raises: bool = False,
    ) -> T:
        """Return what ``work`` returns, or ``default`` if the server cannot be used, with a warning unless ``silent``.

        A server may be read from that cannot be written to (``writes``). With ``raises`` one that refuses a process
        that never used it before is a ConfigurationError.
        """
        began = time.monotonic()
        own = self._writing if writes else self._reading
        if began < own.until:
            return default  # type: ignore[no-any-return]
        try:
            result = self.run_now(work)
        except StoreUnavailable as problem:
            reason, pauses = str(problem), [own] if problem.responds else [self._reading, self._writing]
        except StoreRefused as problem:
            reason, pauses = str(problem), [own]
            if raises and not self._was_used:
                raise ConfigurationError(f"The cache {self._url} cannot be used: {reason}.") from None
        else:
            own.end()
            return result
        for pause in pauses:
            pause.begin(time.monotonic() - began)
        if not silent:
            self._queue_warning(
                "memory",
                f"The cache {self._url} cannot be used: {reason}. Until it can, responses are held in memory only, and "
                "are lost when this process ends.",
            )
        return default  # type: ignore[no-any-return]

    def run_now(self, work: Callable[[Backend], T]) -> T:
        """Return what ``work`` returns; raises StoreUnavailable or StoreRefused."""
        result = work(self.backend)
        self._was_used = True
        return result

    def ask_again_now(self) -> None:
        """Let the next use ask the server, whatever it said before."""
        self._reading.end()
        self._writing.end()

    def close(self) -> None:
        """Close the connections."""
        self.backend.close()


class SharedSnapshot(NamedTuple):
    """Where a shared store stands."""

    on_server: int
    """That of the server; 0 if it cannot be asked."""
    memory_position: int
    """Grows with the responses that are held in memory."""


class SharedLeases:
    """The leases on one server.

    ``position`` is that of the memory, and ``look_up`` returns the keys with a response in memory from after one, and
    those whose records do not count.
    """

    def __init__(
        self,
        server: StoreServer,
        position: Callable[[], int],
        look_up: Callable[[Sequence[bytes], int], tuple[set[bytes], set[bytes]]],
    ) -> None:
        self._server = server
        self._position = position
        self._look_up = look_up
        self._held: dict[bytes, set[bytes]] = {}
        """Keys that each owner holds."""
        self._lock = threading.Lock()

    def snapshot(self) -> SharedSnapshot:
        position = self._position()
        # The first call of a run that asks for everything again: before anything is sent.
        on_server = self._server.run(lambda backend: backend.snapshot(), default=0, silent=True, raises=True)
        return SharedSnapshot(on_server, position)

    def acquire(
        self, keys: Sequence[bytes], owner: bytes, seconds: float, snapshot: object = None, *, changed: bool = True
    ) -> list[LeaseState]:
        if not keys:
            return []
        after, position = snapshot if isinstance(snapshot, SharedSnapshot) else (0, 0)
        in_memory, ignored = self._look_up(keys, position)
        asked = [key for key in dict.fromkeys(keys) if key not in in_memory]
        work = partial(self._acquire, keys=asked, owner=owner, seconds=seconds, after=after, ignored=ignored)
        states = self._server.run(work, default=None, writes=True, silent=True) if asked else {}
        if states is None:
            states = dict.fromkeys(asked, "acquired")
        else:
            with self._lock:
                held = self._held.setdefault(owner, set())
                held.update(key for key, state in states.items() if state == "acquired")
        return [states.get(key, "stored") for key in keys]

    def renew(self, owner: bytes, seconds: float) -> bool:
        with self._lock:
            held = bool(self._held.get(owner))
        renew = partial(self._server.run, lambda backend: backend.renew(owner, seconds), True)
        if not held or renew(writes=True, silent=True):
            return True
        with self._lock:
            self._held.pop(owner, None)
        return False

    def release(self, owner: bytes, keys: Sequence[bytes] | None = None) -> None:
        with self._lock:
            held = self._held.get(owner, set())
            wanted = list(held) if keys is None else [key for key in keys if key in held]
            ends = keys is None and owner in self._held
            if ends:
                del self._held[owner]
            else:
                held.difference_update(wanted)
        if wanted or ends:
            release = partial(self._server.run, lambda backend: backend.release(owner, wanted, ends=ends), None)
            release(writes=True, silent=True)

    def end(self, keys: Iterable[bytes]) -> None:
        """Note that these keys have a response."""
        with self._lock:
            for held in self._held.values():
                held.difference_update(keys)

    def reset_after_fork(self) -> None:
        """Forget what the parent holds."""
        self._lock = threading.Lock()
        self._held = {}

    def _acquire(
        self, backend: Backend, *, keys: list[bytes], owner: bytes, seconds: float, after: int, ignored: set[bytes]
    ) -> dict[bytes, LeaseState]:
        process = this_process()
        found = backend.acquire(keys, owner, process, seconds, after, ignored)
        ended = [holder.owner for holder in found.holders if not may_be_running(holder.process)]
        if ended:
            for name in ended:
                backend.release(name, (), ends=True)
            found = backend.acquire(keys, owner, process, seconds, after, ignored)
        return dict(zip(keys, found.states, strict=True))


_open: weakref.WeakSet[SharedStore] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for store in list(_open):
        store.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


@atexit.register
def _close_all() -> None:
    for store in list(_open):
        with contextlib.suppress(Exception):
            store.close()
