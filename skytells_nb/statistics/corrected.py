"""Shares and means of a column that a model made, corrected by the rows that were judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skytells_nb.statistics.intervals import Interval, Reals, add_limits, t_score, weighted_rate, wilson_limits
from skytells_nb.vectors.arrays import Indices

PRIOR_DEGREES = 4.0
"""Degrees of freedom that the variance of all strata has beside that of one stratum."""


def corrected_share(
    is_label: NDArray[np.bool_], predicted: NDArray[np.bool_], weights: Reals, level: float
) -> Interval:
    """Return the share of rows whose true label is this one.

    Two strata, the rows that the model gave the label and all others, each have Wilson's limits for the share of
    rows that are truly of the label; MOVER adds them, each with its share of the frame. In a stratum of rows with
    different weights the number of rows is the effective one. (A limit for each label of the model as a stratum of
    its own, as textbooks add them, is wider and covers less where there are many.)

    Parameters
    ----------
    is_label, predicted : ndarray of bool, shape (n,)
        Of each judged row, whether it is of the label, and whether the model says so.
    weights : ndarray, shape (n,)
        How many rows of the frame each judged row stands for.
    level : float
        Confidence level.
    """
    parts, factors = [], []
    for stratum in (predicted, ~predicted):
        if stratum.any():
            rate, inverse_n = weighted_rate(is_label[stratum], weights[stratum], finite=True)
            low, high = wilson_limits(rate, inverse_n, level)
            parts.append(Interval(rate, float(low), float(high)))
            factors.append(float(weights[stratum].sum() / weights.sum()))
    estimate, low_, high_ = add_limits(parts, factors)
    return Interval(estimate, max(0.0, low_), min(1.0, high_))


def corrected_mean(
    truth: Reals, predicted: Reals, frame_mean: float, strata: Indices, weights: Reals, level: float
) -> Interval:
    """Return the mean of the true numbers of a frame whose numbers a model estimated.

    A stratified regression estimator (Cochran 1977, 7.10): the model's mean times the slope of truth on prediction
    within strata, plus the weighted mean of what that leaves. With one stratum it is the mean of PPI++ with its
    tuning (Angelopoulos, Duchi and Zrnic 2023). The variance of a stratum leans on that of all (Smyth 2004), since
    few rows may all be equal by chance; limits are Student's. Where no judged row differs from what the model leads to
    expect, there is no variance to go by: then as many rows as Wilson's limit allows may differ by the range of the
    numbers.

    Parameters
    ----------
    truth, predicted : ndarray, shape (n,)
        The numbers of each judged row.
    frame_mean : float
        Mean of the model's numbers over the frame.
    strata : ndarray of int, shape (n,)
        The stratum of each judged row.
    weights : ndarray, shape (n,)
        How many rows of the frame each judged row stands for; within strata they sum to their sizes.
    level : float
        Confidence level.
    """
    counts = np.bincount(strata)
    used = int((counts > 0).sum())
    sums = np.maximum(np.bincount(strata, weights), 1e-300)

    def centered(values: Reals) -> Reals:
        return values - (np.bincount(strata, weights * values) / sums)[strata]

    x, y = centered(predicted), centered(truth)
    spread = float(weights @ (x * x))
    slope = float(weights @ (x * y)) / spread if spread > 1e-12 * float(weights.sum()) else 0.0
    degrees = len(truth) - used - (slope != 0.0)
    if degrees < 1:
        return Interval(float("nan"), float("nan"), float("nan"))
    residual = truth - slope * predicted
    squares = np.bincount(strata, np.square(centered(residual)), len(counts))
    pooled = float(squares.sum()) / degrees
    variance = (squares + PRIOR_DEGREES * pooled) / (np.maximum(counts - 1, 0) + PRIOR_DEGREES)
    # Rows that stand for themselves alone add no uncertainty.
    finite = np.square(weights) * (1 - np.minimum(1 / np.maximum(weights, 1e-12), 1))
    error = float(np.sqrt(finite @ variance[strata])) / float(weights.sum())
    estimate = slope * frame_mean + float(weights @ residual) / float(weights.sum())
    half = t_score(level, degrees) * error
    if pooled <= 1e-12 * max(1.0, float(np.square(truth).max())):
        _, inverse_n = weighted_rate(np.zeros(len(truth), dtype=bool), weights, finite=True)
        differing = float(wilson_limits(0.0, inverse_n, level)[1])
        half = differing * float(np.ptp(np.concatenate([truth, predicted])))
    return Interval(estimate, estimate - half, estimate + half)
