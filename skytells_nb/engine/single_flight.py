"""Which inputs are under way in this process, so that two threads that ask for the same one pay for it once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from skytells_nb.engine.threads import WakeEvent


class Owner:
    """A run that takes keys. What it holds is free as soon as it is ``over``, however abruptly it ended."""

    over = False


class SingleFlight:
    """Keys of inputs that some run is asking for just now. Safe to use from several threads.

    A run takes the keys it is going to send, and releases each one when its answer is stored or will not come. A key
    that another run holds is waited for, and then looked up again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[bytes, Owner] = {}
        self._bells: set[WakeEvent] = set()
        self.releases = 0
        """Grows with each release: what was looked up before may be there now."""

    def take(self, keys: Sequence[bytes], claimant: Owner) -> list[bool]:
        """Take those that nobody holds; for each key whether it was taken now."""
        with self._lock:
            mine = []
            for key in keys:
                holder = self._taken.get(key)
                free = holder is None or holder.over
                if free:
                    self._taken[key] = claimant
                mine.append(free)
            return mine

    def release(self, keys: Iterable[bytes], claimant: Owner) -> None:
        """Give back those of the keys that this claimant holds."""
        with self._lock:
            for key in keys:
                if self._taken.get(key) is claimant:
                    del self._taken[key]
            self.releases += 1
            for bell in self._bells:
                bell.set()

    def wait(self, keys: Iterable[bytes], tick: Callable[[], None], interval: float = 0.1) -> None:
        """Return once nobody holds any of these; ``tick`` is called every ``interval`` seconds meanwhile."""
        left, bell = set(keys), WakeEvent()
        with self._lock:
            self._bells.add(bell)
        try:
            while True:
                with self._lock:
                    left = {key for key in left if key in self._taken and not self._taken[key].over}
                if not left:
                    return
                bell.wait(interval)
                tick()
        finally:
            with self._lock:
                self._bells.discard(bell)


_by_store: dict[str, SingleFlight] = {}
_lock = threading.Lock()


def single_flight_for(store: str) -> SingleFlight:
    """The claims of this process on one store, named by its address."""
    with _lock:
        return _by_store.setdefault(store, SingleFlight())


def _forget() -> None:
    """A forked child has none of the threads that would release what its parent held."""
    global _lock
    _lock = threading.Lock()
    _by_store.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
