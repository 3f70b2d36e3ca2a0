"""Coordination between threads: inputs in flight, wake-ups, and reader threads for large responses."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

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

    done = False


class SingleFlight:
    """Keys of the inputs in flight in this process, so that threads that need the same one pay for it once.

    A run takes the keys that it will send, and releases each one when its result is stored or will not come. A key held
    by another run is waited for, and then looked up in the cache. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[bytes, Owner] = {}
        self._waiting: set[WakeEvent] = set()
        self.releases = 0
        """Grows with each release: a key that missed the cache before may be there now."""

    def take(self, keys: Sequence[bytes], owner: Owner) -> list[bool]:
        """Take the keys that no other run holds; return for each key whether it was taken now."""
        with self._lock:
            taken = []
            for key in keys:
                holder = self._owners.get(key)
                free = holder is None or holder.done
                if free:
                    self._owners[key] = owner
                taken.append(free)
            return taken

    def release(self, keys: Iterable[bytes], owner: Owner) -> None:
        """Release those of the keys that this owner holds."""
        with self._lock:
            for key in keys:
                if self._owners.get(key) is owner:
                    del self._owners[key]
            self.releases += 1
            for event in self._waiting:
                event.set()

    def wait(self, keys: Iterable[bytes], tick: Callable[[], None], interval: float = 0.1) -> None:
        """Return once none of these keys is held; call ``tick`` every ``interval`` seconds meanwhile."""
        pending, event = set(keys), WakeEvent()
        with self._lock:
            self._waiting.add(event)
        try:
            while True:
                with self._lock:
                    pending = {key for key in pending if key in self._owners and not self._owners[key].done}
                if not pending:
                    return
                event.wait(interval)
                tick()
        finally:
            with self._lock:
                self._waiting.discard(event)


_by_store: dict[str, SingleFlight] = {}
_lock = threading.Lock()


def single_flight_for(store: str) -> SingleFlight:
    """Return the keys in flight in this process for one store, named by its address."""
    with _lock:
        return _by_store.setdefault(store, SingleFlight())


def _reset_after_fork() -> None:
    """A forked child has none of the threads that would release what its parent held."""
    global _lock
    _lock = threading.Lock()
    _by_store.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


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
