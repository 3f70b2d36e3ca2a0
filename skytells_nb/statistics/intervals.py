"""Confidence limits of proportions, also of weighted ones and of sums and ratios of several.

An uncertainty is passed as the inverse of a number of rows, which is 0 for a census and infinite for no row at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytells_nb.errors import InputError, MissingExtraError

Reals = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its lower and upper confidence limit."""

    estimate: float
    low: float
    high: float


UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


def check_level(level: Any, name: str = "level") -> float:
    """Return the confidence level; raise InputError for values outside (0, 1)."""
    if not isinstance(level, Real) or isinstance(level, bool) or not 0 < float(level) < 1:
        raise InputError(f"{name} must be between 0 and 1, such as 0.95, got {level!r}.")
    return float(level)


def z_score(level: float) -> float:
    """Return the two-sided quantile of the normal distribution, 1.96 for a level of 0.95.

    >>> round(z_score(0.95), 4)
    1.96
    """
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson_limits(rate: ArrayLike, inverse_n: ArrayLike, level: float) -> tuple[Reals, Reals]:
    """Return Wilson's score limits of proportions that were observed in ``1 / inverse_n`` rows.

    Unlike the normal approximation they hold for few rows and for rates near 0 and 1 (Wilson 1927; Brown, Cai and
    DasGupta 2001).

    >>> low, high = wilson_limits(0.0, 1 / 10, 0.95)
    >>> round(float(low), 3), round(float(high), 3)
    (0.0, 0.278)
    """
    p, v = np.asarray(rate, np.float64), np.asarray(inverse_n, np.float64)
    # Rows that are few beyond measure leave everything possible; the formula has no value there.
    a = np.minimum(z_score(level) ** 2 * v, 1e12)
    center, half = (p + a / 2) / (1 + a), np.sqrt(a * p * (1 - p) + a * a / 4) / (1 + a)
    # Rounding must not exclude the rate itself.
    return np.clip(np.minimum(center - half, p), 0, 1), np.clip(np.maximum(center + half, p), 0, 1)


def weighted_rate(hits: NDArray[np.bool_], weights: Reals, *, finite: bool) -> tuple[float, float]:
    """Return a weighted proportion and the inverse of its effective number of rows.

    The effective number is Kish's, the square of the sum of the weights over the sum of their squares (Kish 1965,
    11.2). With ``finite`` a weight is the number of rows of a finite frame that a judged row stands for, and rows that
    stand for themselves alone add no uncertainty (the finite population correction; Cochran 1977, 2.5).
    """
    total = float(weights.sum())
    if total <= 0:
        return float("nan"), float("inf")
    shares = np.square(weights)
    if finite:
        shares = shares * (1 - np.minimum(1 / np.maximum(weights, 1e-12), 1))
    return float(weights @ hits) / total, float(shares.sum()) / total**2


def add_limits(parts: Sequence[Interval], factors: Sequence[float]) -> Interval:
    """Return the weighted sum of independent estimates with limits recovered from theirs.

    The distance of a limit from the sum is the root of the sum of the squared distances of the parts (MOVER, the
    method of variance estimates recovery; Zou and Donner 2008).
    """
    estimate = sum(factor * part.estimate for factor, part in zip(factors, parts, strict=True))
    below = sum((factor * (part.estimate - part.low)) ** 2 for factor, part in zip(factors, parts, strict=True))
    above = sum((factor * (part.high - part.estimate)) ** 2 for factor, part in zip(factors, parts, strict=True))
    return Interval(estimate, estimate - below**0.5, estimate + above**0.5)


def clopper_pearson_low(hits: int, n: int, error: float) -> float:
    """Return the exact lower limit of a proportion, which is above the truth with a probability of at most ``error``.

    Clopper and Pearson (1934), by the quantile of the beta distribution.
    """
    return 0.0 if hits == 0 else float(_special().betaincinv(hits, n - hits + 1, error))


def t_score(level: float, degrees: float) -> float:
    """Return the two-sided quantile of Student's distribution."""
    return float(_special().stdtrit(degrees, 0.5 + level / 2))


def _special() -> Any:
    try:
        import scipy.special
    except ImportError:
        raise MissingExtraError("The quantile of a distribution", "statistics") from None
    return scipy.special
