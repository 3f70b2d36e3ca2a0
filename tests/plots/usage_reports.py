"""Reports with a timeline, for tests of usage charts."""

from __future__ import annotations

import math
from typing import Any

from skytells_nb.engine.report import Report, Timeline


def report(model: str = "m", **figures: Any) -> Report:
    used = {"requests": 1, "tokens_in": 10, "tokens_out": 5, "cost": 0.5, "sent": 1, **figures}
    return Report("complete", model, used.pop("state", "done"), **used)


def record_timeline(latencies: list[float], rejected: int = 0, permitted: float = math.inf) -> Timeline:
    recorded = Timeline()
    for second, seconds in enumerate(latencies):
        recorded.record_response(float(second), seconds, permitted)
    for _ in range(rejected):
        recorded.record_rejection(0.0, permitted)
    return recorded
