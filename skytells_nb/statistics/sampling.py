"""Stratified random samples: how many rows of each stratum, which ones, and what each stands for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skytells_nb.statistics.intervals import Reals
from skytells_nb.vectors.arrays import Indices

ROWS_PER_STRATUM = 2
"""Rows that each stratum has at least in a sample, so that nothing of the frame goes unjudged."""


def smallest_sample(sizes: Indices) -> int:
    """Return the least rows with which every stratum has its own."""
    return int(np.minimum(sizes, ROWS_PER_STRATUM).sum())


def allocate(sizes: Indices, importance: Reals, n: int) -> Indices:
    """Return how many of ``n`` rows each stratum has: in proportion to its importance, two at least, all at most.

    In proportion to the sizes every row stands for about as many others (Cochran 1977, 5.9), so that the sample is
    also read rightly by those who forget its weights. ``n`` is at least the smallest sample and at most all rows.

    >>> allocate(np.array([900, 90, 10]), np.array([900.0, 90.0, 10.0]), 100).tolist()
    [89, 9, 2]
    """
    least, most = np.minimum(sizes, ROWS_PER_STRATUM).astype(np.float64), sizes.astype(np.float64)
    shares = importance / importance.sum()
    # The factor at which the shares between both bounds sum to n; the sum grows with it.
    low, high = 0.0, float(n) / shares[shares > 0].min() + most.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(middle * shares, least, most).sum() < n else (low, middle)
    exact = np.clip(high * shares, least, most)
    counts: Indices = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    for stratum in [*by_remainder, *by_remainder]:
        if counts.sum() >= n:
            break
        counts[stratum] += counts[stratum] < sizes[stratum]
    return counts


def draw(strata: Indices, counts: Indices, random: np.random.Generator) -> Indices:
    """Return the positions of a random sample with so many rows of each stratum, in random order.

    The order is random so that a judge who stops early has judged a random part of every stratum.
    """
    chosen = [
        random.choice(np.flatnonzero(strata == stratum), count, replace=False)
        for stratum, count in enumerate(counts.tolist())
        if count
    ]
    return random.permutation(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def calibrate(strata: Indices, sizes: Indices, weights: Reals) -> Reals:
    """Return the weights of judged rows, scaled so that those of each stratum sum to its size in the frame.

    This is post-stratification (Cochran 1977, 5A.9; Lohr 2019, 4.4). A stratum without a judged row is shared among
    the others in proportion to their sizes, as if its rows were like theirs.
    """
    sums = np.bincount(strata, weights, len(sizes))
    judged = sums > 0
    factor = np.zeros(len(sizes))
    factor[judged] = sizes[judged] / sums[judged] * (sizes.sum() / sizes[judged].sum())
    scaled: Reals = weights * factor[strata]
    return scaled


def quantile_strata(values: Reals, strata: int) -> NDArray[np.int64]:
    """Return the stratum of each number: about equally many rows in each, equal numbers in the same one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, strata + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)
