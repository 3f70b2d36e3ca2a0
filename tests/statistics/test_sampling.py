"""Stratified samples: sizes, rows and weights."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.statistics.sampling import allocate, calibrate, draw, quantile_strata, smallest_sample


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.data())
def test_a_sample_has_exactly_its_rows_and_two_of_each_stratum(sizes: list[int], data: st.DataObject) -> None:
    strata = np.array(sizes)
    n = data.draw(st.integers(smallest_sample(strata), int(strata.sum())))

    counts = allocate(strata, strata.astype(float), n)

    assert counts.sum() == n
    assert (counts <= strata).all()
    assert (counts >= np.minimum(strata, 2)).all()


def test_large_strata_have_rows_in_proportion() -> None:
    assert allocate(np.array([6000, 3000, 1000]), np.array([6000.0, 3000.0, 1000.0]), 100).tolist() == [60, 30, 10]


def test_importance_moves_rows() -> None:
    """The square root of the size gives a group of a hundredth a tenth."""
    assert allocate(np.array([10000, 100]), np.array([100.0, 10.0]), 110).tolist() == [100, 10]


def test_rows_are_drawn_from_their_strata_in_random_order() -> None:
    strata = np.repeat([0, 1, 2], [50, 30, 20])
    rows = draw(strata, np.array([5, 3, 2]), np.random.default_rng(0))

    assert np.bincount(strata[rows]).tolist() == [5, 3, 2]
    assert len(set(rows.tolist())) == 10
    assert rows.tolist() != sorted(rows.tolist())


def test_each_row_is_as_likely_as_any_other_of_its_stratum() -> None:
    strata = np.repeat([0, 1], [8, 4])
    drawn = np.zeros(12)
    for seed in range(2000):
        drawn[draw(strata, np.array([2, 2]), np.random.default_rng(seed))] += 1

    assert np.abs(drawn[:8] / 2000 - 0.25).max() < 0.05
    assert np.abs(drawn[8:] / 2000 - 0.5).max() < 0.05


def test_weights_sum_to_the_strata() -> None:
    weights = calibrate(np.array([0, 0, 1]), np.array([10, 7]), np.ones(3))

    assert weights.tolist() == [5, 5, 7]


def test_a_stratum_without_judged_rows_is_shared_by_the_others() -> None:
    weights = calibrate(np.array([0, 0, 2]), np.array([10, 5, 5]), np.ones(3))

    assert weights.sum() == 20
    assert weights[0] / weights[2] == 1


def test_quantiles_keep_equal_numbers_together() -> None:
    strata = quantile_strata(np.array([1.0, 1, 1, 2, 3, 4, 5, 6]), 3)

    assert len(set(strata[:3].tolist())) == 1
    assert np.bincount(strata).min() > 0
