"""What processes tell each other through the server of their store: records, and what they spend of one limit."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from skytells_nb.cache.processes import may_be_running, this_process
from skytells_nb.cache.shared.backend import Coordinator, Pause, StoreRefused, StoreUnavailable
from skytells_nb.cache.spending import Claim
from skytells_nb.errors import CacheError


class SharedPeers:
    """Records of processes on all machines that use the server; see ``Peers``.

    A server that cannot be used leaves this process alone, and is asked again after a while.
    """

    def __init__(self, server: Coordinator) -> None:
        self._server = server
        self._pause = Pause()
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time by the server's clock, as of the last exchange: machines may differ."""
        return time.time() + self._ahead

    def watch(self, topic: bytes) -> Callable[[], bool]:
        # To look would be as much work as to exchange.
        return lambda: True

    def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
        began, started = time.time(), time.monotonic()
        if started < self._pause.until:
            return {}
        try:
            now, found = self._server.exchange(topic, owner, this_process(), record, seconds)
        except (StoreUnavailable, StoreRefused):
            self._pause.begin(time.monotonic() - started)
            return {}
        self._pause.end()
        self._ahead = now - (began + time.time()) / 2
        return {name: text for name, (process, text) in found.items() if may_be_running(process)}

    def leave(self, topic: bytes, owner: bytes) -> None:
        with contextlib.suppress(StoreUnavailable, StoreRefused):
            self._server.leave(topic, owner)


class SharedCounter:
    """What processes on all machines spend of one limit; see ``SpendingCounter``. It is opened by one of them."""

    def __init__(self, server: Coordinator, url: str, topic: bytes, limit: float) -> None:
        self.limit = limit
        self.where = f"the cache {url}"
        self._server = server
        self._topic = topic

    def open(self) -> None:
        """Begin to count; raises CacheError if the server cannot be used."""
        try:
            self._server.open_limit(self._topic, self.limit)
        except (StoreUnavailable, StoreRefused) as problem:
            raise CacheError(
                f"budget= is counted by {self.where}, which cannot be used: {problem}. Nothing was sent."
            ) from None

    def claim(
        self, owner: bytes, spent: float, reserved: float, dollars: float, likely: float | None = None
    ) -> Claim | None:
        process = this_process()
        try:
            while True:
                found = self._server.claim(self._topic, owner, process, spent, reserved, dollars, likely)
                if found is None:
                    raise CacheError(
                        f"T{self.where[1:]} no longer knows what was spent of the budget of "
                        f"${self.limit:.4g}, as after a restart of a server that keeps nothing on a disk. Nothing more "
                        "is sent. Call the method again for a new budget; what was paid for and is still in the cache "
                        "is not paid again."
                    )
                claim, holders = found
                ended = [holder.owner for holder in holders if not may_be_running(holder.process)]
                if claim.granted or not ended:
                    return claim
                self._server.forfeit(self._topic, ended)
        except (StoreUnavailable, StoreRefused):
            return None

    def end(self, owner: bytes, spent: float) -> None:
        # What it told last counts where this does not arrive.
        with contextlib.suppress(StoreUnavailable, StoreRefused):
            self._server.end_spending(self._topic, owner, spent)


def new_topic() -> bytes:
    """Return the name of a limit that no other has."""
    return os.urandom(16)
