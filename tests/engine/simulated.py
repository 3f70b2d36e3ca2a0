"""A simulated clock and service: several rate limiters, each a process of its own, on one account."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from skytells_nb.client.transport.rate_limits import read_limits, read_retry_after
from skytells_nb.engine.rate_limit.group import RateGroup
from skytells_nb.engine.rate_limit.limiter import RateLimiter
from skytells_nb.local.api.rate_limits import Account, Admission, LimitOptions

NETWORK_S = 0.002
WAKE_S = 0.001


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryPeers:
    """Records of simulated processes."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.exchanges = 0

    def now(self) -> float:
        return 0.0

    def watch(self, topic: bytes) -> Callable[[], bool]:
        return lambda: bool(self.records)

    def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
        self.records[owner] = record
        self.exchanges += 1
        return {other: text for other, text in self.records.items() if other != owner}

    def leave(self, topic: bytes, owner: bytes) -> None:
        self.records.pop(owner, None)


class EventLimiter(RateLimiter):
    """A rate limiter whose exchange is an event of the simulation, not a thread."""

    started: Callable[[], None] = staticmethod(lambda: None)

    def _start_exchange(self) -> None:
        if self._group is not None:
            self.started()


@dataclass
class Process:
    """One process: its limiter, what it has left to send, and the times at which its requests came to the service."""

    limiter: EventLimiter
    rows: float
    starts: float
    ends: float
    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most_in_flight: int = 0
    wakes: float = -math.inf
    exchanges: float = -math.inf


class Simulation:
    """``processes`` rate limiters with endless work, against the very meters of the local server."""

    def __init__(
        self,
        limits: LimitOptions,
        processes: int = 1,
        *,
        latency: float = 0.05,
        max_in_flight: int = 64,
        starts: Sequence[float] = (),
        ends: Sequence[float] = (),
        rows: float = math.inf,
        first_s: float = 0.0,
        network: float = NETWORK_S,
        seed: int = 0,
        peers: MemoryPeers | None = None,
    ) -> None:
        self.limits = limits
        self.clock = Clock()
        self.account = Account(limits)
        self.random = random.Random(seed)
        self.latency = latency
        self.first_s = first_s
        """What requests take longer on their way before the first is let in: connections are made."""
        self.network = network
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.processes = [
            Process(
                EventLimiter(max_in_flight=max_in_flight, clock=self.clock, jitter=random.Random(seed + number).random),
                rows,
                1000.0 + (starts[number] if starts else 0.05 * self.random.random()),
                1000.0 + (ends[number] if ends else math.inf),
            )
            for number in range(processes)
        ]
        self.peers = peers
        for process in self.processes:
            self.at(process.starts, lambda process=process: self._start(process))

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), action))

    def run(self, seconds: float) -> Simulation:
        end = self.clock.now + seconds
        while self._events and self._events[0][0] < end:
            when, _, action = heapq.heappop(self._events)
            self.clock.now = max(self.clock.now, when)
            action()
        self.clock.now = end
        return self

    @property
    def refused(self) -> float:
        """Share of all requests that got 429."""
        refused = sum(len(process.refused) for process in self.processes)
        return refused / (refused + sum(len(process.admitted) for process in self.processes))

    def counts(self, since: float, until: float) -> list[int]:
        """Requests of each process let through between these seconds after the first one."""
        first = min(process.admitted[0] for process in self.processes if process.admitted)
        return [sum(since <= when - first < until for when in process.admitted) for process in self.processes]

    def use(self, since: float, until: float) -> float:
        """Share of what is permitted in that time."""
        return sum(self.counts(since, until)) * self.limits.window / (self.limits.requests or 1) / (until - since)

    def _start(self, process: Process) -> None:
        if self.peers is not None:
            process.limiter.started = lambda: self._exchange_soon(process)
            process.limiter.join(partial(self._group, self.peers))
        self._send(process)

    def _group(self, peers: MemoryPeers) -> RateGroup:
        group = RateGroup(peers, b"topic", wall=self.clock)
        # The same in each test run: who comes first decides who tries another rate.
        group.owner = self.random.randbytes(16)
        return group

    def _exchange_soon(self, process: Process) -> None:
        if process.exchanges <= self.clock.now:
            process.exchanges = self.clock.now + WAKE_S
            self.at(process.exchanges, lambda: self._exchange(process))

    def _exchange(self, process: Process) -> None:
        if self.clock.now >= process.ends:
            # As when it is killed: its record stays until it has expired.
            return
        if process.limiter.exchange():
            assert process.limiter._group is not None
            interval = process.limiter._group.interval
            process.exchanges = self.clock.now + interval * (1 + 0.1 * self.random.random())
            self.at(process.exchanges, lambda: self._exchange(process))
        self._send(process)

    def _send(self, process: Process) -> None:
        now, limiter = self.clock.now, process.limiter
        if not process.starts <= now < process.ends:
            return
        while process.rows > 0:
            wait = limiter.wait(now)
            if wait > 0:
                wakes = now + wait + self.random.expovariate(1 / WAKE_S)
                if wait < math.inf and not now < process.wakes <= wakes:
                    process.wakes = wakes
                    self.at(wakes, lambda: self._send(process))
                return
            assert limiter.acquire(lambda: False)
            process.rows -= 1
            process.most_in_flight = max(process.most_in_flight, limiter.in_flight)
            longer = 0.0 if any(other.admitted for other in self.processes) else self.first_s
            self.at(now + longer + self.network * (0.5 + self.random.random()), lambda: self._arrive(process, now))

    def _arrive(self, process: Process, sent: float) -> None:
        now = self.clock.now
        admission = self.account.acquire("m", now)
        if not admission.allowed:
            process.refused.append(now)
            self.at(now + self.network, lambda: self._refuse(process, sent, admission))
            return
        process.admitted.append(now)
        done = now + self.latency * math.exp(self.random.gauss(-0.08, 0.4))
        self.at(done, lambda: self.account.release("m"))
        self.at(done + self.network, lambda: self._answer(process, sent, admission))

    def _answer(self, process: Process, sent: float, admission: Admission) -> None:
        process.limiter.record_success(read_limits(admission.headers), seconds=self.clock.now - sent)
        self._send(process)

    def _refuse(self, process: Process, sent: float, admission: Admission) -> None:
        process.rows += 1
        retry_after = read_retry_after(admission.error(self.limits).headers)
        process.limiter.record_rate_limited(retry_after, read_limits(admission.headers), seconds=self.clock.now - sent)
        self._send(process)
