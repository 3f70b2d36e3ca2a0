"""Which inputs are under way in this process, so that two threads that ask for the same one pay for it once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence


class Claims:
    """Keys of inputs that some run is asking for just now. Safe to use from several threads.

    A run takes the keys it is going to send, and releases each one when its answer is stored or will not come. A key
    that another run holds is waited for, and then looked up again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[bytes] = set()
        self._waiting = 0
        self.releases = 0
        """Grows with each release: what was looked up before may be there now."""

    def take(self, keys: Sequence[bytes]) -> list[bool]:
        """Take those that nobody holds; for each key whether it was taken now."""
        with self._changed:
            mine = [key not in self._taken for key in keys]
            self._taken.update(keys)
            return mine

    def release(self, keys: Iterable[bytes]) -> None:
        """Give back keys that were taken."""
        with self._changed:
            self._taken.difference_update(keys)
            self.releases += 1
            if self._waiting:
                self._changed.notify_all()

    def wait(self, keys: Iterable[bytes], tick: Callable[[], None], interval: float = 0.1) -> None:
        """Return once nobody holds any of these; ``tick`` is called every ``interval`` seconds meanwhile."""
        left = set(keys)
        while True:
            with self._changed:
                left &= self._taken
                if not left:
                    return
                self._waiting += 1
                try:
                    self._changed.wait(interval)
                finally:
                    self._waiting -= 1
            tick()


_by_store: dict[str, Claims] = {}
_lock = threading.Lock()


def claims_for(store: str) -> Claims:
    """The claims of this process on one store, named by its address."""
    with _lock:
        return _by_store.setdefault(store, Claims())


def _forget() -> None:
    """A forked child has none of the threads that would release what its parent held."""
    global _lock
    _lock = threading.Lock()
    _by_store.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
