"""The budget of a call on a collection: one limit for all partitions, wherever they are done."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from typing import Any

from skytells_nb.cache import SharedStore
from skytells_nb.cache.spending import Claim, MemoryCounter, SpendingCounter
from skytells_nb.errors import ConfigurationError
from skytells_nb.session import Session

MAX_COUNTERS = 1_000
"""Limits that one process counts; the oldest go first."""
REPLY_TIMEOUT_S = 10.0

_PROCESS = os.urandom(16)


@dataclass(frozen=True)
class CallBudget:
    """One limit in US dollars, and where it is counted: a server, the scheduler, or the process that made it.

    Where partitions are done by other processes that have neither, each may spend its share.
    """

    dollars: float
    partitions: int
    topic: bytes
    server: str | None
    """The address of the cache that counts; ``None`` if the cache is not on a server."""
    process: bytes = _PROCESS

    @classmethod
    def opened(cls, dollars: float, partitions: int, session: Session, cache: Any) -> CallBudget:
        """Return a new budget; raises CacheError if the server that is to count it cannot be used."""
        store, topic = session.engine_for(cache).cache, os.urandom(16)
        if isinstance(store, SharedStore):
            store.counter(topic, dollars).open()
        return cls(dollars, partitions, topic, store.url if isinstance(store, SharedStore) else None)

    def counter(self, session: Session, cache: Any) -> SpendingCounter | None:
        """Return what counts it for this process; ``None`` if nothing does, and each partition has its share.

        Raises ConfigurationError if this process has another cache than the one that counts.
        """
        store = session.engine_for(cache).cache
        if self.server is not None:
            if not isinstance(store, SharedStore) or store.url != self.server:
                raise ConfigurationError(
                    f"This worker's cache is {store.url}, and the budget is counted by {self.server}. Nothing was "
                    "sent. Set SKYTELLS_CACHE for the workers to that address, or leave it out."
                )
            return store.counter(self.topic, self.dollars)
        try:
            from distributed import get_worker

            return SchedulerCounter(get_worker(), self.topic, self.dollars)
        except (ImportError, ValueError):
            return counter_here(self.topic, self.dollars) if self.process == _PROCESS else None

    @property
    def share(self) -> float:
        """What a partition may spend where nothing counts for all of them."""
        return self.dollars / max(1, self.partitions)


_counters: dict[bytes, MemoryCounter] = {}
_counters_lock = threading.Lock()


def counter_here(topic: bytes, limit: float) -> MemoryCounter:
    """Return the counter of a limit in this process."""
    with _counters_lock:
        found = _counters.setdefault(topic, MemoryCounter(limit))
        while len(_counters) > MAX_COUNTERS:
            del _counters[next(iter(_counters))]
        return found


class SchedulerCounter:
    """What the workers of a cluster spend of one limit, counted by its scheduler."""

    def __init__(self, worker: Any, topic: bytes, limit: float) -> None:
        self.limit = limit
        self.where = "the scheduler"
        self._worker = worker
        self._topic = topic

    def claim(
        self, owner: bytes, spent: float, reserved: float, dollars: float, likely: float | None = None
    ) -> Claim | None:
        found = self._ask(owner, spent, reserved, dollars, likely)
        return None if found is None else Claim(*found)

    def end(self, owner: bytes, spent: float) -> None:
        self._ask(owner, spent, None, None, None)

    def _ask(self, *amounts: Any) -> Any:
        from distributed.protocol.pickle import dumps

        worker = self._worker
        request = {"topic": self._topic, "limit": self.limit, "worker": worker.address, "amounts": amounts}
        function, keywords = (dumps(part) for part in (count_on_scheduler, request))  # type: ignore[no-untyped-call]
        call = worker.scheduler.run_function(function=function, kwargs=keywords)
        try:
            response = asyncio.run_coroutine_threadsafe(call, worker.loop.asyncio_loop).result(REPLY_TIMEOUT_S)
        except (OSError, TimeoutError, RuntimeError):
            return None
        if response["status"] != "OK":
            raise ConfigurationError(
                f"The scheduler cannot count the budget: {response.get('exception_text', 'it failed')}. Nothing more "
                "is sent. Install skytells-nb there too, or use a cache on a server."
            )
        return response["result"]


def count_on_scheduler(topic: bytes, limit: float, worker: str, amounts: tuple[Any, ...], dask_scheduler: Any) -> Any:
    """Claim, or end, in the process of the scheduler. What a lost worker had reserved counts as spent."""
    found = counter_here(topic, limit)
    found.is_running = lambda process: process.decode() in dask_scheduler.workers
    owner, spent, reserved, dollars, likely = amounts
    if reserved is None:
        return found.end(owner, spent)
    return tuple(found.claim(owner, spent, reserved, dollars, likely, worker.encode()))
