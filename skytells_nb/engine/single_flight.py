"""Coordination between threads: inputs in flight, wake-ups, and reader threads for large responses."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from skytells_nb.cache.memory import NoLeases
from skytells_nb.cache.store import Leases, LeaseState

T = TypeVar("T")

LEASE_S = 30.0
"""Time after which a key is free for other processes if its owner does not renew it."""
RENEW_EVERY_S = 8.0
MAX_HOLD_S = 1_800.0
RELEASE_TIMEOUT_S = 0.3
CLAIM_S = 0.25
"""Work that is claimed ahead: what a killed process leaves to others, and the last one to end keeps from them."""
MAX_CLAIM = 4_096
MIN_POLL_S = 0.02
MAX_POLL_S = 0.5
"""Waits between two looks at what another process has in flight."""
READ_TIMEOUT_S = 20.0
"""Longest wait for a reader thread: gateways cut off a response that is not read for a minute."""


class WakeEvent:
    """Wakes the one thread that waits, or the next that will.

    Waiting on a Condition, and on an Event, which contains one, is not safe where Ctrl-C comes: if the wait is
    interrupted while it takes its lock back, it leaves without it, and its end releases the lock all the same: "release
    unlocked lock" in place of KeyboardInterrupt. A plain lock is either taken or not.

    >>> event = WakeEvent()
    >>> event.set()
    >>> event.wait(10.0)  # returns at once
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread; idempotent, from any thread."""
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Return when the event is set, or after so many seconds."""
        self._lock.acquire(timeout=seconds)


class Owner:
    """A run that holds keys. They are free as soon as it is ``done``, however abruptly it ended."""

    def __init__(self, leases: Leases | None = None) -> None:
        self.done = False
        self.releases = 0
        self._name = os.urandom(16)
        self._leases = leases or NoLeases()
        self._last_acquired = time.monotonic()
        self._valid_until = float("inf")

    @property
    def has_leases(self) -> bool:
        """Whether other processes may use the store."""
        return not isinstance(self._leases, NoLeases)

    @property
    def holds_leases(self) -> bool:
        """Whether what was leased is still leased: a process may have been suspended for longer than a lease lasts."""
        return not self.has_leases or time.time() < self._valid_until

    def snapshot(self) -> object:
        """Return where the store stands before a look-up; see ``Leases.snapshot``."""
        return self._leases.snapshot()

    def lease(self, keys: Sequence[bytes], snapshot: object, changed: bool) -> list[LeaseState]:
        """Lease keys in the store; see ``Leases.acquire``."""
        valid_until = time.time() + LEASE_S
        states = self._leases.acquire(keys, self._name, LEASE_S, snapshot, changed=changed)
        self._last_acquired, self._valid_until = time.monotonic(), valid_until
        return states

    def renew(self) -> None:
        """Renew the leases in the store, unless what the run waits for is not the service."""
        if not self.done and time.monotonic() < self._last_acquired + MAX_HOLD_S:
            valid_until = time.time() + LEASE_S
            self._valid_until = valid_until if self._leases.renew(self._name, LEASE_S) else 0.0

    def release(self, keys: Sequence[bytes] | None = None) -> None:
        """End the leases of these keys in the store, by default all of them."""
        self._leases.release(self._name, keys)


class SingleFlight:
    """Keys of the inputs in flight, so that the threads and processes that share a store pay for each of them once.

    A run acquires the keys that it is about to send, and releases each one when its result is stored or will not come.
    Between the threads of this process they are held here, and between processes by leases in the store, which a thread
    renews. No run waits while it holds a key, so no two can wait for each other. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[bytes, Owner] = {}
        self._waiting: set[WakeEvent] = set()
        self._releases = 0

    def snapshot(self, owner: Owner) -> tuple[int, object]:
        """Return where this process and the store stand before a look-up, for ``acquire``."""
        return self._releases - owner.releases, owner.snapshot()

    def acquire(
        self, keys: Sequence[bytes], owner: Owner, snapshot: tuple[int, object] | None = None
    ) -> list[LeaseState]:
        """Acquire the keys that have no response and that no other run holds; return the state of each key.

        ``snapshot`` is that from before a look-up of them: responses that were there then do not count.
        """
        states: list[LeaseState] = []
        with self._lock:
            for key in keys:
                holder = self._owners.get(key)
                free = holder is None or holder is owner or holder.done
                if free:
                    self._owners[key] = owner
                states.append("acquired" if free else "leased")
            changed = snapshot is None or snapshot[0] != self._releases - owner.releases
        acquired = [key for key, state in zip(keys, states, strict=True) if state == "acquired"]
        # Before the first lease, which must not expire while this thread is held up.
        _renewal.add(owner)
        found = owner.lease(acquired, None if snapshot is None else snapshot[1], changed)
        if found.count("acquired") < len(keys):
            of_store = dict(zip(acquired, found, strict=True))
            states = [of_store.get(key, "leased") for key in keys]
            self._free([key for key, state in of_store.items() if state != "acquired"], owner)
        if owner.done:
            self.end(owner)
        return states

    def release(self, keys: Sequence[bytes], owner: Owner) -> None:
        """Release those of the keys that this owner holds."""
        owner.release(keys)
        self._free(keys, owner)

    def end(self, owner: Owner) -> None:
        """Release everything that this owner holds: its run has ended."""
        owner.done = True
        _renewal.discard(owner)
        with self._lock:
            keys = [key for key, holder in self._owners.items() if holder is owner]
        if owner.has_leases:
            # In a thread that is left behind if the store is busy: after Ctrl-C a run ends within a second.
            thread = threading.Thread(target=owner.release, name="skytells-release", daemon=True)
            with contextlib.suppress(RuntimeError):
                thread.start()
                thread.join(RELEASE_TIMEOUT_S)
        self._free(keys, owner)

    @contextlib.contextmanager
    def hold(
        self, key: bytes, leases: Leases, load: Callable[[], T | None], tick: Callable[[], None]
    ) -> Iterator[T | None]:
        """Hold one key for the block, once no other run holds it; yield its response if one is there by then.

        ``load`` looks it up, ``tick`` is called while another run holds it.
        """
        owner, pause = Owner(leases), MIN_POLL_S
        try:
            while True:
                snapshot = self.snapshot(owner)
                response = load()
                if response is not None:
                    break
                state = self.acquire([key], owner, snapshot)[0]
                if state == "acquired":
                    break
                if state == "leased":
                    self.wait([key], pause, tick)
                    pause = min(MAX_POLL_S, 1.5 * pause)
            yield response
        finally:
            self.end(owner)

    def _free(self, keys: Iterable[bytes], owner: Owner) -> None:
        with self._lock:
            for key in keys:
                if self._owners.get(key) is owner:
                    del self._owners[key]
            self._releases += 1
            owner.releases += 1
            for event in self._waiting:
                event.set()

    def wait(
        self,
        keys: Iterable[bytes],
        seconds: float,
        tick: Callable[[], None],
        interval: float = 0.1,
    ) -> None:
        """Return once a run of this process releases one of these keys, or after so many seconds.

        ``tick`` is called every ``interval`` seconds meanwhile.
        """
        event, deadline = WakeEvent(), time.monotonic() + seconds
        with self._lock:
            self._waiting.add(event)
            held = [(key, holder) for key in keys if (holder := self._owners.get(key)) is not None]
        try:
            while (left := deadline - time.monotonic()) > 0:
                with self._lock:
                    if any(holder.done or self._owners.get(key) is not holder for key, holder in held):
                        return
                event.wait(min(interval, left))
                tick()
        finally:
            with self._lock:
                self._waiting.discard(event)


class LeaseRenewal:
    """Renews the leases of the runs of this process, in one thread that lasts as long as there are any.

    A run that has neither acquired a key nor ended for ``MAX_HOLD_S`` is no longer renewed: what it waits for is not
    the service, and others wait for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: set[Owner] = set()
        self._changed = WakeEvent()
        self._running = False

    def add(self, owner: Owner) -> None:
        """Renew the leases of this owner from now on."""
        if owner in self._owners or not owner.has_leases:
            return
        with self._lock:
            self._owners.add(owner)
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._renew, name="skytells-leases", daemon=True).start()
        except RuntimeError:
            # No thread can start: the leases expire, and another process may send the same input.
            self._running = False

    def discard(self, owner: Owner) -> None:
        """Let the leases of this owner expire."""
        with self._lock:
            self._owners.discard(owner)
            if not self._owners:
                self._changed.set()

    def _renew(self) -> None:
        due = time.monotonic() + RENEW_EVERY_S
        while True:
            self._changed.wait(max(0.0, due - time.monotonic()))
            with self._lock:
                owners = list(self._owners)
                if not owners:
                    self._running = False
                    return
            if time.monotonic() < due:
                continue
            due = time.monotonic() + RENEW_EVERY_S
            for owner in owners:
                owner.renew()


_renewal = LeaseRenewal()
_by_store: dict[str, SingleFlight] = {}
_lock = threading.Lock()


def single_flight_for(store: str) -> SingleFlight:
    """Return the keys in flight in this process for one store, named by its address."""
    with _lock:
        return _by_store.setdefault(store, SingleFlight())


def _reset_after_fork() -> None:
    """A forked child has none of the threads that would release what its parent held."""
    global _lock, _renewal
    _lock = threading.Lock()
    _by_store.clear()
    _renewal = LeaseRenewal()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


class ClaimQueue(Generic[T]):
    """Work of one run in order, of which the next is claimed before it is taken, so that no other run does it too.

    ``claim`` is given work that is about to be taken, and returns what of it is to be done; it is ``None`` where no
    other run can do it. ``holds_claims`` is whether it still is. ``size`` is that of one piece. All but ``claim`` is
    called with ``lock`` held.
    """

    def __init__(
        self,
        lock: threading.Lock,
        claim: Callable[[Sequence[T]], Sequence[T]] | None,
        holds_claims: Callable[[], bool],
        size: Callable[[T], int],
    ) -> None:
        self._lock = lock
        self._claim = claim
        self._holds_claims = holds_claims
        self._size = size
        self._unclaimed: deque[T] = deque()
        self._claimed: deque[T] = deque()
        self._claiming = threading.Lock()
        self._claim_size = 1
        self._claimed_at = 0.0

    def __len__(self) -> int:
        return len(self._claimed) + len(self._unclaimed)

    def add(self, work: Iterable[T]) -> None:
        """Add work that is not claimed, at the end."""
        (self._claimed if self._claim is None else self._unclaimed).extend(work)

    def put_back(self, work: Sequence[T]) -> None:
        """Put back work that is claimed, before all other."""
        self._claimed.extendleft(reversed(work))

    def pop(self) -> T | None:
        """Return the next work that is claimed, ``None`` if some is to be claimed first."""
        if self._claim is not None and self._claimed and not self._holds_claims():
            self._unclaimed.extendleft(reversed(self._claimed))
            self._claimed.clear()
        return self._claimed.popleft() if self._claimed else None

    def claim(self, stopped: Callable[[], bool]) -> None:
        """Claim about as much as is done in ``CLAIM_S``: one at a time would cost as much as doing it."""
        claim = self._claim
        if claim is None:
            return
        with self._claiming:
            with self._lock:
                if self._claimed or not self._unclaimed or stopped():
                    return
                now = time.monotonic()
                count = round(self._claim_size * CLAIM_S / max(1e-9, now - self._claimed_at))
                self._claim_size = max(1, min(count, 2 * self._claim_size, MAX_CLAIM))
                self._claimed_at = now
                work: list[T] = []
                size = 0
                while self._unclaimed and len(work) < self._claim_size and size < MAX_CLAIM:
                    work.append(self._unclaimed.popleft())
                    size += self._size(work[-1])
            claimed = claim(work)
            with self._lock:
                self._claimed.extend(claimed)


class _PendingCall:
    """A call that waits to be made, by the first thread that takes it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self._call: Callable[[], Any] | None = call
        self._free = threading.Lock()
        self._value: Any = None
        self._problem: BaseException | None = None

    def take(self) -> bool:
        """Whether the caller is to make the call: true once."""
        return self._free.acquire(blocking=False)

    def make(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        try:
            self._value = call()
        except BaseException as problem:
            self._problem = problem
        finally:
            self.done.set()

    def result(self) -> Any:
        problem, self._problem = self._problem, None
        try:
            if problem is not None:
                raise problem
            return self._value
        finally:
            del problem


class ReaderPool:
    """Makes calls for other threads, which wait: at most ``max_threads`` at once, ``None`` for each in its own thread.

    A response of 2,048 vectors takes 40 MB until it is stored, and the C library retains most of that for the thread
    that used it: with eight threads in flight, each reading its own, 1.2 times the result's size more.

    >>> readers = ReaderPool(2)
    >>> readers.run(lambda: 6 * 7)
    42
    >>> readers.drain()
    """

    def __init__(self, max_threads: int | None, *, timeout: float = READ_TIMEOUT_S) -> None:
        self._max_threads = max_threads
        self._timeout = timeout
        self._calls: deque[_PendingCall] = deque()
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._draining = False

    def run(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, or raise what it raises, after the calls that wait already.

        If no reader was free for ``timeout`` seconds, the call is made in the waiting thread.
        """
        if self._max_threads is None:
            return call()
        pending = _PendingCall(call)
        with self._changed:
            self._draining = False
            self._calls.append(pending)
            if self._idle < len(self._calls) and self._threads < self._max_threads:
                threading.Thread(target=self._read, name="skytells-reader", daemon=True).start()
                self._threads += 1
            self._changed.notify()
        if not pending.done.wait(self._timeout) and pending.take():
            pending.make()
        pending.done.wait()
        result: T = pending.result()
        return result

    def drain(self) -> None:
        """Let the threads end; the next call starts them again."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def _read(self) -> None:
        # To the end of the run: an ended thread leaves its memory to the next that starts, which may not be a reader.
        while True:
            with self._changed:
                self._idle += 1
                while not self._calls and not self._draining:
                    self._changed.wait()
                self._idle -= 1
                if not self._calls:
                    self._threads -= 1
                    return
                pending = self._calls.popleft()
            if pending.take():
                pending.make()
            del pending
