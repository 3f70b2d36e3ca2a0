"""Rates of few or many rows, with the interval that their number allows."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError

Floats = NDArray[np.float64]


def wilson(hits: Any, rows: Any, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper end of Wilson's score interval for ``hits`` of ``rows``; from 0 to 1 where there are no rows.

    Unlike hits/rows ± a multiple of its error it is honest for few rows and for rates near 0 and 1 (Wilson, 1927).
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    z = _z(confidence)
    n = np.maximum(rows, 1)
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not put the rate itself outside.
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)
    return np.where(rows > 0, np.clip(low, 0, 1), 0.0), np.where(rows > 0, np.clip(high, 0, 1), 1.0)


def compared(hits: Any, rows: Any, confidence: float = 0.95) -> NDArray[np.int64]:
    """For each group 1 where its rate is above that of all the others together, -1 where it is below, else 0.

    By Newcombe's interval for a difference of two rates, made of two Wilson intervals, and with Bonferroni's correction
    for the number of groups: with forty of them, two would differ at 95 % by chance alone.
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    groups = max(1, int((rows > 0).sum()))
    each = 1 - (1 - confidence) / groups
    others_hits, others = hits.sum() - hits, rows.sum() - rows
    low, high = wilson(hits, rows, each)
    others_low, others_high = wilson(others_hits, others, each)
    p, q = hits / np.maximum(rows, 1), others_hits / np.maximum(others, 1)
    least = p - q - np.hypot(p - low, others_high - q)
    most = p - q + np.hypot(high - p, q - others_low)
    known = (rows > 0) & (others > 0)
    return np.where(known & (least > 0), 1, np.where(known & (most < 0), -1, 0))


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, such as 0.95; found {confidence!r}.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def percent(rate: float) -> str:
    """A rate in words: one digit below ten percent, and 0 or 100 only where it is exactly that."""
    if 0 < rate < 0.001:
        return "under 0.1%"
    if 0.999 < rate < 1:
        return "over 99.9%"
    return f"{rate:.1%}" if 0 < rate < 0.0995 or 0.99 < rate < 1 else f"{rate:.0%}"


def bars(table: Any, color: str, *, thickness: float, width: float) -> dict[str, Any]:
    """Error bars from ``low`` to ``high`` around ``rate``, columns of a table."""
    return {
        "type": "data",
        "symmetric": False,
        "array": table["high"] - table["rate"],
        "arrayminus": table["rate"] - table["low"],
        "color": color,
        "thickness": thickness,
        "width": width,
    }
