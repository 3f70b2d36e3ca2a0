"""What rejections show about a limit that no header reports: its rate, and how many requests may go at once.

Two kinds of limit explain rejections. A token bucket admits a burst and refills evenly; a fixed window admits so many
requests and then none until the next. The burst before the first rejection (the opening) shows the size of either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

MIN_RATE = 0.2
"""Requests a second; rejections do not lower the rate further."""
SETTLED = 0.97
"""Fraction of the inferred limit at which the rate begins."""
SEARCH_GROWTH = 2.5
"""Growth per pause after the first rejection: it ended a burst, and hardly shows the rate."""
SLOW_GROWTH = 1.3
"""The same after an opening that was no burst: it lasted long enough to show the rate."""
HOLD_PAUSES = 20.0
"""Pauses until the inferred limit is tested again: that costs a rejection."""
PROBE_GROWTH = 0.0005
"""Growth after that, times the cube of the pauses."""
SOON_PAUSES = 3.0
"""Pauses within which another rejection means that the rate was far too high."""
JITTER = 0.93
"""Fraction of the limit of a fixed window from which chance may exceed it: requests arrive unevenly."""
BURST_BEYOND = 1.5
"""A bucket that explains a rejection at this multiple of a fixed window's rate is the better explanation."""
MIN_PAUSE_S = 0.001
LEAST_UNIT_S = 0.25
"""Shortest unit of growth, however short the pauses are."""
STEPS = 100
MAX_NUMBER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Opening:
    """What went before the first rejection: so many ``requests``, the burst of them in so many ``seconds``.

    ``window`` is the length of the fixed window that admits as many, in seconds. ``early`` requests of them went
    ``lead`` seconds before the burst.
    """

    requests: float
    seconds: float
    window: float
    early: float = 0.0
    lead: float = 0.0

    @property
    def rate(self) -> float:
        return self.requests / self.window

    def as_list(self) -> list[float]:
        """Return the fields in order."""
        return [round(part, 6) for part in astuple(self)]

    def joined(self, other: Opening) -> Opening:
        """Return the opening of two processes at once."""
        return Opening(
            self.requests + other.requests,
            max(self.seconds, other.seconds),
            max(self.window, other.window),
            self.early + other.early,
            max(self.lead, other.lead),
        )

    def bucket_size(self, rate: float) -> float:
        """Return the size of the token bucket of this rate that the opening emptied."""
        return max(self.requests - rate * self.seconds - min(rate * self.lead, self.early), 1.0)


NO_OPENING = Opening(0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """What went since the pause before a rejection: ``requests`` in ``seconds``, at a rate that ended at ``rate``."""

    requests: float
    seconds: float
    rate: float
    shape: Sequence[float] = field(repr=False)
    """The requests of each of equal intervals."""

    def tail(self, seconds: float) -> float:
        """Return the requests of the last ``seconds``."""
        count = len(self.shape) * min(1.0, seconds / self.seconds)
        whole = int(count)
        tail = sum(self.shape[len(self.shape) - whole :])
        return tail if whole == len(self.shape) else tail + (count - whole) * self.shape[-whole - 1]


@dataclass(frozen=True, slots=True)
class InferredLimit:
    """A limit as rejections have shown it.

    ``number`` counts the rejections that lowered the rate, ``ceiling`` is in requests a second, ``pause`` in seconds:
    what the service asked for.
    """

    number: int = 0
    ceiling: float = math.inf
    pause: float = 1.0
    opening: Opening = NO_OPENING
    may_be_fixed: bool = False
    """Whether a fixed window of the size of the opening explains every rejection."""

    @property
    def unit(self) -> float:
        """Seconds by which the rate grows."""
        return max(self.pause, LEAST_UNIT_S)

    @property
    def _opened_by_burst(self) -> bool:
        return self.opening.seconds < self.unit / 2

    def factor(self, seconds: float) -> float:
        """Return the rate so many seconds after the pause, as a multiple of the ceiling."""
        units = min(max(0.0, seconds) / self.unit, 1000.0)
        if self.number == 1:
            return SETTLED * math.pow(SEARCH_GROWTH if self._opened_by_burst else SLOW_GROWTH, min(units, 50.0))
        if units < HOLD_PAUSES:
            return 1.0 - (1.0 - SETTLED) * (1.0 - units / HOLD_PAUSES)
        return 1.0 + PROBE_GROWTH * (units - HOLD_PAUSES) ** 3

    def curve(self, requests: float, seconds: float) -> Curve:
        """Return how ``requests`` were spread over the ``seconds`` since the pause."""
        factors = [self.factor(seconds * (step + 0.5) / STEPS) for step in range(STEPS)]
        scale = requests / sum(factors)
        return Curve(requests, seconds, self.ceiling * self.factor(seconds), [scale * factor for factor in factors])

    def opened(self, opening: Opening, pause: float) -> InferredLimit:
        """Return the limit after a first rejection."""
        return InferredLimit(
            1, max(MIN_RATE, opening.rate), max(pause, MIN_PAUSE_S), opening, may_be_fixed=opening.requests > 0
        )

    def rejected(self, requests: float, seconds: float, pause: float) -> InferredLimit:
        """Return the limit after ``requests`` were admitted in the ``seconds`` since the pause, and one was not."""
        curve = self.curve(requests, seconds)
        lowest = min(requests / (seconds + self.pause), curve.rate)
        bucket = self._bucket_rate(curve, lowest)
        fixed = self.may_be_fixed and self._may_be_fixed(curve, lowest)
        if fixed and bucket <= BURST_BEYOND * self.opening.rate:
            ceiling = min(self.opening.rate, SETTLED * curve.rate)
        elif (not self._opened_by_burst and self.number == 1) or (
            curve.rate <= 1.001 * self.ceiling and seconds < SOON_PAUSES * self.unit
        ):
            ceiling = math.sqrt(lowest * curve.rate)
        else:
            ceiling = bucket
        return replace(
            self,
            number=self.number + 1,
            ceiling=max(MIN_RATE, ceiling),
            pause=max(pause, MIN_PAUSE_S),
            may_be_fixed=fixed,
        )

    def _may_be_fixed(self, curve: Curve, lowest: float) -> bool:
        """Whether a fixed window as large as the opening explains the rejection, too."""
        opening = self.opening
        return (
            curve.requests >= 0.85 * opening.requests
            # No interval as long as a window has more than two windows' requests.
            and curve.tail(opening.window) <= 2.02 * opening.requests
            and lowest <= 1.02 * opening.rate < 1.02 * curve.rate / JITTER
        )

    def _bucket_rate(self, curve: Curve, lowest: float) -> float:
        """Return the least rate of a token bucket, as large as the opening, that admits what went."""
        rate, ratio = lowest, math.pow(curve.rate / lowest, 1 / 20)
        for _ in range(20):
            if self._admits(rate, curve):
                break
            rate *= ratio
        below = max(lowest, rate / ratio)
        for _ in range(4):
            middle = (below + rate) / 2
            below, rate = (below, middle) if self._admits(middle, curve) else (middle, rate)
        return min(rate, 0.99 * curve.rate)

    def _admits(self, rate: float, curve: Curve) -> bool:
        size, refill = self.opening.bucket_size(rate), rate * curve.seconds / STEPS
        level = min(size, rate * self.pause)
        for requests in curve.shape:
            level = min(size, level + refill) - requests
            if level < 0:
                return False
        return True

    def as_record(self) -> dict[str, Any]:
        """Return the limit in JSON's types."""
        return {
            "number": self.number,
            "ceiling": self.ceiling,
            "pause": self.pause,
            "opening": self.opening.as_list(),
            "fixed": self.may_be_fixed,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> InferredLimit:
        """Read what ``as_record`` gave; raises KeyError, TypeError or ValueError if it is something else."""
        number, ceiling, pause = int(record["number"]), float(record["ceiling"]), float(record["pause"])
        opening = Opening(*map(float, record["opening"]))
        within = 1 <= number <= MAX_NUMBER and MIN_RATE <= ceiling < 1e9 and MIN_PAUSE_S <= pause <= 1e4
        if not (within and all(0 <= part < 1e12 for part in astuple(opening)) and opening.window >= 0.1):
            raise ValueError(f"not a limit: {record!r}")
        return cls(number, ceiling, pause, opening, bool(record["fixed"]))
