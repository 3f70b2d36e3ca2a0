"""One rate for the processes of an account whose limit no header reports.

Each tells the others what rejections have shown it, how many requests it has sent since, and how many it would send.
The last rejection counts for all of them, and the rate is divided by what each would send.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from skytells_nb.cache.store import Peers
from skytells_nb.engine.rate_limit.adaptive import AdaptiveRate
from skytells_nb.engine.rate_limit.inferred_limit import InferredLimit, Opening

EXCHANGE_S, SEARCH_EXCHANGE_S = 0.1, 0.02
"""Time between two exchanges, the second one while the rate is doubled."""
OPENING_EXCHANGES_S = 1.0
"""Time after its first request in which a process looks as often for others that begin."""
EXPIRY_S = 3.0
"""Age at which the record of another process no longer counts."""
IDLE_S = 2.0
"""Time without requests after which a process leaves."""
MAX_AHEAD_S = 0.5
"""How far the clock of a record may be ahead; one further ahead was written before the clock was set back."""
AVERAGED_S = 0.5
"""Time over which the rate of a process is averaged."""
HEADROOM = 1.3
"""Multiple of what a process sends that it may send, if it does not wait for the rate."""
LEAST_DEMAND = 0.5


@dataclass(frozen=True, slots=True)
class _Member:
    """What another process told: ``since`` is when its last rejection came, by the clock of all."""

    limit: InferredLimit
    opening: Opening
    since: float
    resumes_in: float
    sent: float
    demand: float

    @classmethod
    def parse(cls, text: bytes, now: float) -> _Member | None:
        """Read a record; ``None`` if it is not one, or not of this time."""
        with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            record: dict[str, Any] = json.loads(text)
            age = now - float(record["at"])
            opening = Opening(*map(float, record["opening"]))
            demand = math.inf if record["demand"] is None else float(record["demand"])
            since, resumes_in, sent = float(record["since"]), float(record["resumes_in"]) - age, float(record["sent"])
            if -MAX_AHEAD_S <= age <= EXPIRY_S and 0 <= sent < 1e12 and demand >= 0 and abs(resumes_in) < 1e9:
                limit = InferredLimit() if record["limit"] is None else InferredLimit.from_record(record["limit"])
                return cls(limit, opening, since, resumes_in, sent, demand)
        return None


class RateGroup:
    """This process among those that share a rate under ``topic``.

    State: ``since`` (when the last rejection came, by the clock of all), what the others last told, and how much this
    process would send. ``now`` is always the time of the rate limiter's own clock.
    """

    def __init__(self, peers: Peers, topic: bytes, *, wall: Callable[[], float] | None = None) -> None:
        self.peers = peers
        self.topic = topic
        self.owner = os.urandom(16)
        self.others = 0
        """Number of other processes."""
        self.interval = EXCHANGE_S
        self._wall = wall or peers.now
        self._number = 0
        self._since = math.inf
        self._demand = math.inf
        self._average = 0.0
        self._counted = (0, 0.0)
        self._exchanged = 0.0
        self._announced = math.inf
        """When this process first told the others that it is here."""
        self._sent: dict[bytes, float] = {}
        """What each other process sent since the last rejection; those that ended included."""

    def record(self, adaptive: AdaptiveRate, now: float) -> bytes:
        """Return what to tell the others."""
        if adaptive.limit.number != self._number:
            self._number, self._since = adaptive.limit.number, self._wall()
            self._sent.clear()
        self._measure_demand(adaptive, now)
        self._announced = min(self._announced, now)
        record = {
            "at": self._wall(),
            "limit": adaptive.limit.as_record() if adaptive.limit.number else None,
            "opening": adaptive.own_opening.as_list(),
            "since": self._since if adaptive.limit.number else 0.0,
            "resumes_in": adaptive.resumes - now if adaptive.limit.number else 0.0,
            "sent": adaptive.sent,
            "demand": None if self._demand == math.inf else round(self._demand, 3),
        }
        return json.dumps(record, separators=(",", ":")).encode()

    def exchange(self, record: bytes) -> Mapping[bytes, bytes]:
        """Tell the others, and return what they tell."""
        return self.peers.exchange(self.topic, self.owner, record, EXPIRY_S)

    def apply(self, adaptive: AdaptiveRate, now: float, records: Mapping[bytes, bytes]) -> bool:
        """Take over what the others have found, and this process's share; return whether another was rejected."""
        wall = self._wall()
        parsed = {owner: _Member.parse(text, wall) for owner, text in records.items() if owner != self.owner}
        members = {owner: member for owner, member in parsed.items() if member is not None}
        self.others = len(members)
        adopted = False
        if members:
            last = max(members.values(), key=lambda member: (member.limit.number, -member.since))
            adopted = self._is_news(adaptive, last)
            if adopted:
                adaptive.adopt(last.limit, now + last.resumes_in)
                self._number, self._since = last.limit.number, last.since
                self._sent.clear()
            if adaptive.limit.number == 1:
                self._join_openings(adaptive, members)
        current = {owner: m.sent for owner, m in members.items() if m.limit.number == adaptive.limit.number}
        self._sent.update(current)
        self._exchanged = now
        adaptive.share = share_of(adaptive.rate(now), [member.demand for member in members.values()])
        order = sorted([self.owner, *members])
        adaptive.phase = order.index(self.owner) / len(order)
        if now < adaptive.resumes:
            adaptive.stagger()
        searches = bool(members) and adaptive.limit.number == 1
        opens = not adaptive.limit.number and now < self._announced + OPENING_EXCHANGES_S
        self.interval = SEARCH_EXCHANGE_S if searches or opens else EXCHANGE_S
        adaptive.others_sent = partial(self._others_sent, adaptive)
        return adopted

    def leave(self, adaptive: AdaptiveRate) -> None:
        """Leave the rate to the others."""
        adaptive.share = 1.0
        self.others = 0
        self.peers.leave(self.topic, self.owner)

    def _is_news(self, adaptive: AdaptiveRate, last: _Member) -> bool:
        """Whether a rejection of another process is the last one, rather than one of this process."""
        number = adaptive.limit.number
        if last.limit.number != number:
            return last.limit.number > number
        # Two processes were rejected before either knew of the other: the first counts, and of openings both do.
        return number > 1 and last.since < self._since

    def _join_openings(self, adaptive: AdaptiveRate, members: Mapping[bytes, _Member]) -> None:
        """Before a second rejection the bursts of all processes together show the limit."""
        opening = adaptive.own_opening
        for member in members.values():
            if member.limit.number == 1 and member.opening.requests:
                opening = opening.joined(member.opening) if opening.requests else member.opening
        if opening.requests and opening != adaptive.limit.opening:
            adaptive.limit = adaptive.limit.opened(opening, adaptive.limit.pause)

    def _measure_demand(self, adaptive: AdaptiveRate, now: float) -> None:
        count, then = self._counted
        sent = adaptive.total_sent
        if now > then:
            weight = min(1.0, (now - then) / AVERAGED_S)
            self._average += weight * ((sent - count) / (now - then) - self._average)
            self._counted = (sent, now)
        if now < adaptive.resumes:
            return
        waits = now <= adaptive.held_until + EXCHANGE_S
        self._demand = math.inf if waits else max(LEAST_DEMAND, HEADROOM * self._average)

    def _others_sent(self, adaptive: AdaptiveRate, now: float) -> float:
        """Return what the others sent since the last rejection, up to now."""
        if not self.others:
            return sum(self._sent.values())
        since = max(self._exchanged, adaptive.resumes)
        rate = adaptive.rate((now + since) / 2) * (1.0 - adaptive.share)
        return sum(self._sent.values()) + rate * min(max(0.0, now - since), EXPIRY_S)


def share_of(rate: float, demands: list[float]) -> float:
    """Return the part of the rate of a process that takes what it gets, beside others with these demands.

    >>> [round(share_of(10.0, demands), 3) for demands in ([], [math.inf], [2.0], [8.0, math.inf])]
    [1.0, 0.5, 0.8, 0.333]
    """
    left, count = rate, len(demands) + 1
    for demand in sorted(demands):
        if demand >= left / count:
            break
        left -= demand
        count -= 1
    return left / count / rate
