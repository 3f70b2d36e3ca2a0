"""Confidence limits, beside scipy's and those of published examples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.errors import InputError
from skytells_nb.statistics.intervals import (
    Interval,
    add_limits,
    check_level,
    clopper_pearson_low,
    t_score,
    weighted_rate,
    wilson_limits,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (10, 10), (3, 7), (240, 300), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_that_of_scipy(hits: int, n: int, level: float) -> None:
    expected = scipy.stats.binomtest(hits, n).proportion_ci(level, method="wilson")

    low, high = wilson_limits(hits / n, 1 / n, level)

    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (9, 10), (10, 10), (45, 45), (285, 300)])
def test_the_exact_limit_is_that_of_scipy(hits: int, n: int) -> None:
    expected = scipy.stats.binomtest(hits, n, alternative="greater").proportion_ci(0.9, method="exact")

    assert clopper_pearson_low(hits, n, 0.1) == pytest.approx(expected.low, abs=1e-9)


def test_the_t_quantile_is_that_of_scipy() -> None:
    assert t_score(0.95, 9) == pytest.approx(scipy.stats.t.ppf(0.975, 9))


def test_no_row_leaves_everything_possible_and_a_census_nothing() -> None:
    low, high = wilson_limits([0.5, 0.3], [np.inf, 0.0], 0.95)

    assert (low[0], high[0]) == pytest.approx((0, 1), abs=1e-5)
    assert (low[1], high[1]) == (0.3, 0.3)


def test_the_limits_of_a_difference_of_rates_are_newcombes() -> None:
    """Newcombe (1998), table II, method 10 without continuity correction: 56/70 - 48/80 is 0.0524 to 0.3339."""
    parts = []
    for hits, n in ((56, 70), (48, 80)):
        low, high = wilson_limits(hits / n, 1 / n, 0.95)
        parts.append(Interval(hits / n, float(low), float(high)))
    minus = Interval(-parts[1].estimate, -parts[1].high, -parts[1].low)

    difference = add_limits([parts[0], minus], [1.0, 1.0])

    assert difference == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_equal_weights_are_rows() -> None:
    rate, inverse_n = weighted_rate(np.array([True, False, True, True]), np.full(4, 2.5), finite=False)

    assert (rate, 1 / inverse_n) == (0.75, pytest.approx(4))


def test_rows_that_stand_for_themselves_add_no_uncertainty() -> None:
    assert weighted_rate(np.array([True, False]), np.ones(2), finite=True) == (0.5, 0.0)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.1, 100)), min_size=1, max_size=40),
    st.floats(0.5, 0.999),
    st.booleans(),
)
def test_limits_enclose_the_rate_and_stay_inside(rows: list[tuple[bool, float]], level: float, finite: bool) -> None:
    hits, weights = np.array([hit for hit, _ in rows]), np.array([weight for _, weight in rows])

    rate, inverse_n = weighted_rate(hits, weights, finite=finite)
    low, high = wilson_limits(rate, inverse_n, level)

    assert 0 <= low <= min(rate, 1) <= high + 1e-12
    assert high <= 1


@pytest.mark.parametrize("level", [0, 1, 95, -0.1, "0.95", True, None])
def test_a_level_is_between_0_and_1(level: object) -> None:
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        check_level(level)
