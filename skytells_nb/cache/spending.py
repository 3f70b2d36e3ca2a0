"""What several processes spend of one limit in US dollars, counted where all of them can reach it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from skytells_nb.cache.processes import may_be_running

QUIET_S = 150.0
"""Age at which what a process has reserved counts as spent: it may have ended on another machine."""
KEPT_S = 7 * 86_400.0
"""Time for which a server keeps a limit that no one uses."""


class Claim(NamedTuple):
    """Whether dollars were reserved, and what the others have spent, and reserved for what they have in flight."""

    granted: bool
    others_spent: float
    others_reserved: float


class SpendingCounter(Protocol):
    """One limit that the runs of several processes spend. An owner is a run, named by 16 random bytes.

    What a process that ended had reserved counts as spent. ``where`` names the place of the counter in messages.
    """

    limit: float
    where: str

    def claim(
        self, owner: bytes, spent: float, reserved: float, dollars: float, likely: float | None = None
    ) -> Claim | None:
        """Say what the owner has spent and reserved, and reserve so many dollars more if they fit beside all others.

        With ``likely`` they are reserved while no other has anything in flight, if this much fits. ``None`` where
        the counter cannot be reached now. Raises CacheError if what it knew is lost.
        """
        ...

    def end(self, owner: bytes, spent: float) -> None:
        """Say what an owner has spent that reserves nothing any more."""
        ...


@dataclass(slots=True)
class _Record:
    process: bytes
    spent: float
    reserved: float


class MemoryCounter:
    """A counter in the memory of one process, for its threads or for those who ask it."""

    def __init__(self, limit: float, is_running: Callable[[bytes], bool] = may_be_running) -> None:
        self.limit = limit
        self.where = "this process"
        self.is_running = is_running
        self._ended = 0.0
        self._records: dict[bytes, _Record] = {}
        self._lock = threading.Lock()

    def claim(
        self,
        owner: bytes,
        spent: float,
        reserved: float,
        dollars: float,
        likely: float | None = None,
        process: bytes = b"",
    ) -> Claim:
        with self._lock:
            others = [record for name, record in self._records.items() if name != owner]
            for record in others:
                if record.reserved and record.process and not self.is_running(record.process):
                    record.spent, record.reserved = record.spent + record.reserved, 0.0
            others_spent = self._ended + sum(record.spent for record in others)
            others_reserved = sum(record.reserved for record in others)
            granted = fits(self.limit, others_spent, others_reserved, spent, reserved, dollars, likely)
            self._records[owner] = _Record(process, spent, reserved + dollars if granted else reserved)
            return Claim(granted, others_spent, others_reserved)

    def end(self, owner: bytes, spent: float) -> None:
        with self._lock:
            self._records.pop(owner, None)
            self._ended += spent


def fits(
    limit: float,
    others_spent: float,
    others_reserved: float,
    spent: float,
    reserved: float,
    dollars: float,
    likely: float | None,
) -> bool:
    """Whether dollars may be reserved; see ``SpendingCounter.claim``.

    >>> fits(1.0, 0.2, 0.3, 0.1, 0.2, 0.1, None), fits(1.0, 0.2, 0.3, 0.1, 0.2, 0.3, None)
    (True, False)
    >>> fits(1.0, 0.8, 0.0, 0.0, 0.0, 0.3, 0.1), fits(1.0, 0.8, 0.1, 0.0, 0.0, 0.3, 0.05)
    (True, False)
    """
    if likely is None:
        return others_spent + others_reserved + spent + reserved + dollars <= limit
    return others_reserved + reserved <= 0 and others_spent + spent + likely <= limit
