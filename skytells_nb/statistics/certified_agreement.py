"""Which rows a cheap proxy may label so that it agrees with the model, by a random sample of rows with both labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.statistics.intervals import Reals

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Shares of the rows, those of the highest confidence, that may be left to the proxy: the largest first."""

LEAST_TRAINING = 25
"""Texts that a proxy learns from at least."""


@dataclass(frozen=True)
class Certified:
    """The confidence from which on the proxy may label, and a lower limit of its agreement there."""

    threshold: float
    low: float


@dataclass(frozen=True)
class CascadeSample:
    """How many texts the model labels first: to train the proxy, and to test it."""

    training: int
    test: int


def cascade_sample(texts: int, agree: float, level: float) -> CascadeSample | None:
    """Return the sizes of the samples for so many texts, ``None`` if no sample of at most a third could certify.

    >>> cascade_sample(2000, 0.95, 0.9)
    CascadeSample(training=200, test=300)
    """
    needed = rows_to_certify(agree, level, 1)
    # So that also less than half of the texts can be certified, beside two other coverages.
    wanted = max(300, math.ceil(2.5 * rows_to_certify(agree, level, 3)))
    test = min(wanted, texts // 5)
    training = min(200, texts // 8)
    return CascadeSample(training, test) if test >= needed and training >= LEAST_TRAINING else None


def texts_for_cascade(agree: float, level: float) -> int:
    """Return how many different texts a cascade needs at least."""
    return max(5 * rows_to_certify(agree, level, 1), 8 * LEAST_TRAINING)


def most_disagreements(wrong: int, tested: int, rest: int, error: float) -> int:
    """Return an upper limit of the disagreements among ``rest`` rows, of which ``wrong`` in ``tested`` is known.

    The tested rows are a random sample of all ``tested + rest``; the limit is too low with a probability of at most
    ``error``. It is the limit of Clopper and Pearson (1934) for a sample without replacement, by the hypergeometric
    distribution, of the rows that were not drawn; for many rows it becomes theirs.

    >>> most_disagreements(0, 45, 10_000, 0.1) / 10_000
    0.0499
    """
    low, high = 0, rest
    while low < high:
        middle = (low + high) // 2
        # More disagreements make so few in the sample less likely.
        if _probability_of_at_most(wrong, wrong + middle + 1, tested, rest) <= error:
            high = middle
        else:
            low = middle + 1
    return low


def certify(
    confidence: Reals, tested: NDArray[np.bool_], agrees: NDArray[np.bool_], agree: float, level: float
) -> Certified | None:
    """Return the lowest confidence at which the proxy surely agrees often enough, ``None`` if there is none.

    Of each coverage in a grid that was fixed before, the rows of the highest confidence that were not tested agree in
    at least ``agree`` of cases, with a probability of ``level`` for all coverages together (Bonferroni). Coverages
    that no sample of this size could certify are left out, so that they cost the others nothing.

    Parameters
    ----------
    confidence : ndarray, shape (n,)
        Of each row that the proxy was not trained on.
    tested : ndarray of bool, shape (n,)
        Which of them are the random sample with both labels.
    agrees : ndarray of bool, shape (n,)
        Of tested rows, whether both labels are equal.
    agree, level : float
        The agreement that is wanted, and how sure it must be.
    """
    size, count = len(confidence), int(tested.sum())
    grid = [each for each in COVERAGES if each * count >= rows_to_certify(agree, level, 1)]
    # Each coverage that is left out leaves more of the error to the others.
    grid = [each for each in grid if each * count >= rows_to_certify(agree, level, len(grid))] or grid[:1]
    order = np.argsort(-confidence, kind="stable")
    for coverage in grid:
        threshold = float(confidence[order[max(1, math.ceil(coverage * size)) - 1]])
        above = confidence >= threshold
        sampled = above & tested
        rest = int(above.sum() - sampled.sum())
        if not rest or not sampled.any():
            continue
        wrong = int((~agrees[sampled]).sum())
        low = 1 - most_disagreements(wrong, int(sampled.sum()), rest, (1 - level) / len(grid)) / rest
        if low >= agree:
            return Certified(threshold, low)
    return None


def rows_to_certify(agree: float, level: float, tests: int) -> int:
    """Return how many rows must agree, all of them, to certify so much agreement in one of so many tests.

    >>> rows_to_certify(0.95, 0.9, 1)
    45
    """
    return math.ceil(math.log((1 - level) / tests) / math.log(agree))


def _probability_of_at_most(wrong: int, all_wrong: int, tested: int, rest: int) -> float:
    """Return the probability that of ``all_wrong`` rows at most ``wrong`` are among the tested."""
    size = tested + rest
    if all_wrong > size:
        return 0.0
    total = _log_choose(size, tested)
    fewest = max(0, tested - (size - all_wrong))
    terms = (
        math.exp(_log_choose(all_wrong, each) + _log_choose(size - all_wrong, tested - each) - total)
        for each in range(fewest, min(wrong, all_wrong, tested) + 1)
    )
    return min(1.0, sum(terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
