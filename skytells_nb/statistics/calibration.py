"""Whether a confidence is the share of rows that are right, and a confidence that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.statistics.intervals import Reals, wilson_limits

LEAST_JUDGED = 20
"""Judged rows that a calibration needs: with fewer its two numbers are mostly chance."""
_CLIP = 1e-3
"""A confidence of 1 stands for more than can be told from it."""
_ITERATIONS = 100


@dataclass(frozen=True)
class Calibration:
    """A logistic curve from a confidence to the probability that the label is right."""

    slope: float
    intercept: float

    def probabilities(self, confidence: Reals) -> Reals:
        """Return the calibrated confidence; missing stays missing."""
        result: Reals = 1 / (1 + np.exp(-(self.slope * _logit(confidence) + self.intercept)))
        return result


def fit_calibration(confidence: Reals, right: NDArray[np.bool_], weights: Reals) -> Calibration:
    """Fit the curve to judged rows.

    Platt's scaling (1999) of the log odds by weighted maximum likelihood, with his targets, which are not quite 0 and
    1, so that rows that are all right do not make it certain. It never falls: of two rows the one with the higher
    confidence keeps it. A slope below 0 is one of 0, so that all rows have the same confidence.
    """
    x = _logit(confidence)
    hits, misses = float(weights[right].sum()), float(weights[~right].sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    slope, intercept = _newton(x, target, weights)
    if slope < 0:
        rate = float(weights @ target) / float(weights.sum())
        return Calibration(0.0, float(np.log(rate / (1 - rate))))
    return Calibration(slope, intercept)


def _newton(x: Reals, target: Reals, weights: Reals) -> tuple[float, float]:
    features = np.stack([x, np.ones(len(x))], axis=1)
    parameters = np.zeros(2)
    # Of the slope alone, and so small that it matters only where all rows have the same confidence.
    penalty = np.diag([1e-3, 1e-9])

    def loss(values: Reals) -> float:
        scores = features @ values
        return float(weights @ (np.logaddexp(0, scores) - target * scores)) + float(values @ penalty @ values) / 2

    for _ in range(_ITERATIONS):
        p = 1 / (1 + np.exp(-(features @ parameters)))
        gradient = features.T @ (weights * (p - target)) + penalty @ parameters
        curvature = (features * (weights * p * (1 - p))[:, None]).T @ features + penalty
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(parameters - size * step) > loss(parameters) and size > 1e-6:
            size /= 2
        parameters = parameters - size * step
        if float(np.abs(size * step).max()) < 1e-9:
            break
    return float(parameters[0]), float(parameters[1])


def _logit(confidence: Reals) -> Reals:
    clipped = np.clip(confidence, _CLIP, 1 - _CLIP)
    result: Reals = np.log(clipped / (1 - clipped))
    return result


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence: in each bin the mean confidence, the share that is right with its limits, and the rows."""

    confidence: Reals
    right: Reals
    low: Reals
    high: Reals
    rows: NDArray[np.int64]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean distance of both, by rows (Naeini, Cooper and Hauskrecht 2015)."""
        return float(self.rows @ np.abs(self.confidence - self.right)) / float(self.rows.sum())


def reliability(confidence: Reals, right: NDArray[np.bool_], bins: int, level: float) -> Reliability:
    """Return the bins, with about equally many rows in each and equal confidences in the same one.

    Bins of equal width would leave most of them empty: models are mostly sure. Limits are Wilson's.
    """
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
    numbers = np.unique(np.searchsorted(edges, confidence, side="right"), return_inverse=True)[1]
    rows = np.bincount(numbers)
    means, shares = np.bincount(numbers, confidence) / rows, np.bincount(numbers, right.astype(np.float64)) / rows
    low, high = wilson_limits(shares, 1 / rows, level)
    return Reliability(means, shares, low, high, rows.astype(np.int64))
