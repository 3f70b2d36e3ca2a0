"""Agreement of labels: accuracy, precision, recall and F1, Cohen's kappa, Krippendorff's alpha, with their limits.

Also whether two columns of labels differ in accuracy on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytells_nb.statistics.intervals import UNKNOWN, Interval, Reals, weighted_rate, wilson_limits, z_score
from skytells_nb.vectors.arrays import Indices

RESAMPLES = 1000
"""Bootstrap samples of the units for the limits of alpha."""


class LabelScores(NamedTuple):
    """How well one label was found."""

    precision: Interval
    recall: Interval
    f1: Interval


def confusion_matrix(truth: Indices, predicted: Indices, labels: int, weights: Reals) -> Reals:
    """Return the sum of the weights for each true label (rows) and predicted label (columns), (labels, labels)."""
    cells: Reals = np.bincount(truth * labels + predicted, weights, labels * labels).astype(np.float64)
    return cells.reshape(labels, labels)


def accuracy(truth: Indices, predicted: Indices, weights: Reals, level: float) -> Interval:
    """Return the share of rows with the right label, with Wilson's limits.

    With weights the number of rows is the effective one: Kish's, or that of the estimated variance where it is
    smaller (Korn and Graubard 1998), since errors may lie where the weights are large.
    """
    right = truth == predicted
    if not len(right):
        return UNKNOWN
    rate, inverse_n = weighted_rate(right, weights, finite=False)
    if 0 < rate < 1:
        variance = float(np.square(weights * (right - rate)).sum()) / float(weights.sum()) ** 2
        inverse_n = max(inverse_n, variance / (rate * (1 - rate)))
    return _wilson(rate, inverse_n, level)


def label_scores(label: int, truth: Indices, predicted: Indices, weights: Reals, level: float) -> LabelScores:
    """Return precision, recall and F1 of a label.

    With equal weights they are proportions of rows, with Wilson's limits: F1 is 2 J / (1 + J) for the proportion J of
    rows with the label on both sides among those with it on any. With weights, missed rows are estimated apart from
    found ones, and the limits of the ratios square and add the effects of both (Zou and Donner 2008; Newcombe 2011).
    """
    is_label, is_found = truth == label, predicted == label
    precision = _rate(is_label[is_found], weights[is_found], level)
    if np.ptp(weights) <= 1e-9 * weights.max(initial=1.0):
        recall = _rate(is_found[is_label], weights[is_label], level)
        either = is_label | is_found
        jaccard = _rate((is_label & is_found)[either], weights[either], level)
        return LabelScores(precision, recall, Interval(*(2 * value / (1 + value) for value in jaccard)))
    found, rest = float(weights[is_found].sum()), float(weights[~is_found].sum())
    missed = _rate(is_label[~is_found], weights[~is_found], level) if rest else Interval(0.0, 0.0, 0.0)
    if not found:
        zero = Interval(0.0, 0.0, 0.0) if missed.estimate > 0 else UNKNOWN
        return LabelScores(precision, zero, zero)

    def recall_of(hit: float, miss: float) -> float:
        both = found * hit + rest * miss
        return found * hit / both if both else float("nan")

    def f1_of(hit: float, miss: float) -> float:
        return 2 * found * hit / (found + found * hit + rest * miss)

    return LabelScores(
        precision, _square_and_add(recall_of, precision, missed), _square_and_add(f1_of, precision, missed)
    )


def cohen_kappa(truth: Indices, predicted: Indices, labels: int, weights: Reals, level: float) -> Interval:
    """Return Cohen's kappa with limits from its large-sample variance.

    The variance is that of the influence of each row, which for equal weights is the formula of Fleiss, Cohen and
    Everitt (1969). Kappa is not defined where both sides have one label only, the same one.
    """
    total = float(weights.sum())
    if not total:
        return UNKNOWN
    shares = confusion_matrix(truth, predicted, labels, weights) / total
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    observed, expected = float(np.trace(shares)), float(rows @ columns)
    if expected >= 1 - 1e-12:
        return UNKNOWN
    kappa = (observed - expected) / (1 - expected)
    agree = (truth == predicted).astype(np.float64)
    by_chance = columns[truth] + rows[predicted]
    influence = (agree - (1 - kappa) * by_chance) / (1 - expected)
    influence -= (weights @ influence) / total
    half = z_score(level) * float(np.sqrt(np.square(weights * influence).sum())) / total
    return Interval(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def krippendorff_alpha(codes: NDArray[np.int64], level: float, seed: int = 0) -> Interval:
    """Return Krippendorff's alpha of nominal labels, with limits from a bootstrap of the units.

    Parameters
    ----------
    codes : ndarray of int, shape (annotators, units)
        The label of each unit by each annotator, -1 where there is none.
    level : float
        Confidence level.
    seed : int
        Seed of the bootstrap.

    Notes
    -----
    Alpha is 1 minus observed over expected disagreement, by the coincidences of labels within units (Krippendorff
    2011, "Computing Krippendorff's alpha-reliability"). Units with fewer than two labels do not count.
    """
    labels = int(codes.max(initial=-1)) + 1
    if not labels:
        return UNKNOWN
    counts = np.stack([(codes == label).sum(axis=0) for label in range(labels)], axis=1).astype(np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return UNKNOWN
    sizes = counts.sum(axis=1)
    # Of each unit: pairs of different labels, each weighted as if the unit had one pair for each label.
    disagreement = (np.square(sizes) - np.square(counts).sum(axis=1)) / (sizes - 1)
    alpha = _alpha(disagreement.sum()[None], counts.sum(axis=0)[None])[0]
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    resampled = _alpha(drawn @ disagreement, drawn @ counts)
    known = resampled[~np.isnan(resampled)]
    if np.isnan(alpha) or not len(known):
        return Interval(float(alpha), float("nan"), float("nan"))
    low, high = np.quantile(known, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(alpha), float(min(low, alpha)), float(max(high, alpha)))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the probability of such a difference between two equally accurate labelings of the same rows, or a larger.

    McNemar's test (1947) in its exact form: of the rows on which one of both is right and the other is wrong, each is
    as likely to be the first's as the second's. The rows on which both are right or wrong say nothing.

    >>> mcnemar_exact(1, 9), mcnemar_exact(0, 0)
    (0.021484375, 1.0)
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, float(2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the probabilities adjusted for there being several tests (Holm 1979); a missing one stays missing.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = list(p_values)
    order = sorted((p, number) for number, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, number) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[number] = highest
    return adjusted


def _alpha(disagreement: Reals, totals: Reals) -> Reals:
    n = totals.sum(axis=1)
    expected = np.square(n) - np.square(totals).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (n - 1) * disagreement / expected, np.nan)


def _rate(hits: NDArray[np.bool_], weights: Reals, level: float) -> Interval:
    if not len(hits):
        return UNKNOWN
    return _wilson(*weighted_rate(hits, weights, finite=False), level)


def _wilson(rate: float, inverse_n: float, level: float) -> Interval:
    low, high = wilson_limits(rate, inverse_n, level)
    return Interval(rate, float(low), float(high))


def _square_and_add(ratio: Callable[[float, float], float], hit: Interval, miss: Interval) -> Interval:
    """Return a ratio that grows with ``hit`` and falls with ``miss``, and its limits."""
    value = ratio(hit.estimate, miss.estimate)
    if np.isnan(value):
        return UNKNOWN
    below = np.hypot(value - ratio(hit.low, miss.estimate), value - ratio(hit.estimate, miss.high))
    above = np.hypot(ratio(hit.high, miss.estimate) - value, ratio(hit.estimate, miss.low) - value)
    return Interval(value, max(0.0, float(value - below)), min(1.0, float(value + above)))
