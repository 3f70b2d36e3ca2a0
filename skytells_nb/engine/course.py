"""How a run went over time, in little room: latencies, and what was answered and refused when."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

LEAST_S = 0.001
PER_DOUBLING = 4
"""Latencies are counted in steps of a fourth of a doubling, so that a percentile is right within 9 %."""
STEPS = 80
"""From a millisecond to seventeen minutes."""
STRETCHES = 240
"""Stretches of time at most; a run that lasts longer has longer ones."""


@dataclass
class Course:
    """What became of requests over time, in a few kB however many they are.

    ``latencies[i]`` counts answers that took from ``LEAST_S * 2 ** (i / PER_DOUBLING)`` seconds to the next step.
    ``answered[i]`` and ``refused[i]`` count requests in the ``i``-th stretch of ``stretch`` seconds since ``started``
    (Unix time); ``permitted[i]`` is the rate, in requests a second, that was known to be permitted then (``None``:
    no limit was known). Changed under its owner's lock only.
    """

    started: float = field(default_factory=time.time)
    stretch: float = 1.0
    latencies: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    permitted: list[float | None] = field(default_factory=list)

    def answer(self, at: float, seconds: float, permitted: float) -> None:
        """A request was answered ``at`` seconds after the start, having taken so many."""
        step = int(PER_DOUBLING * math.log2(seconds / LEAST_S)) if seconds > LEAST_S else 0
        if step >= len(self.latencies):
            self.latencies.extend([0] * (min(step, STEPS - 1) + 1 - len(self.latencies)))
        self.latencies[min(step, STEPS - 1)] += 1
        # The lists may be made anew while the place is found.
        place = self._stretch(at, permitted)
        self.answered[place] += 1

    def refuse(self, at: float, permitted: float) -> None:
        """A request was refused for the account's limit, ``at`` seconds after the start."""
        place = self._stretch(at, permitted)
        self.refused[place] += 1

    def copy(self) -> Course:
        """What is known now."""
        return replace(
            self,
            latencies=self.latencies.copy(),
            answered=self.answered.copy(),
            refused=self.refused.copy(),
            permitted=self.permitted.copy(),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, with the bounds of the latencies."""
        names = ("started", "stretch", "latencies", "answered", "refused", "permitted")
        return {**{name: getattr(self, name) for name in names}, "least": LEAST_S, "per_doubling": PER_DOUBLING}

    def _stretch(self, at: float, permitted: float) -> int:
        """The place of this moment, where what is permitted is noted."""
        while at >= STRETCHES * self.stretch:
            self._halve()
        place = max(0, int(at / self.stretch))
        while place >= len(self.answered):
            self.answered.append(0)
            self.refused.append(0)
            self.permitted.append(None)
        self.permitted[place] = permitted if permitted < math.inf else None
        return place

    def _halve(self) -> None:
        """Join each two stretches to one twice as long."""
        self.stretch *= 2
        self.answered = _pairs(self.answered)
        self.refused = _pairs(self.refused)
        odd = self.permitted[1::2] + [None] * (len(self.permitted) % 2)
        self.permitted = [
            later if later is not None else earlier for earlier, later in zip(self.permitted[::2], odd, strict=True)
        ]


def _pairs(counts: list[int]) -> list[int]:
    return [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
