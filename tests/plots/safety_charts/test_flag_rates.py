"""Confidence intervals of rates, also for few rows and for rates near 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.flag_rates import compare_groups, format_percent, wilson_interval


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_agree_with_published_values(hits: int, rows: int, low: float, high: float) -> None:
    """To four digits."""
    assert [round(float(end), 4) for end in wilson_interval(hits, rows)] == [low, high]


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0.5, 0.999))
def test_the_rate_lies_in_its_interval(hits: int, rows: int, confidence: float) -> None:
    """And the interval is between 0 and 1."""
    hits = min(hits, rows)
    low, high = wilson_interval(hits, rows, confidence)
    assert 0 <= low <= hits / rows <= high <= 1


@given(st.integers(1, 50), st.integers(2, 100))
def test_more_rows_make_a_narrower_interval(hits: int, times: int) -> None:
    """At the same rate."""
    few, many = wilson_interval(hits, 50), wilson_interval(hits * times, 50 * times)
    assert many[1] - many[0] < few[1] - few[0]


def test_the_interval_of_no_rows_is_0_to_1() -> None:
    """Any rate is possible."""
    assert [float(end) for end in wilson_interval(0, 0)] == [0.0, 1.0]


def test_only_different_groups_are_marked() -> None:
    """Many rows with another rate differ; few rows, equal rates and a single group do not."""
    assert compare_groups([300, 100, 100], [1000, 1000, 1000]).tolist() == [1, -1, -1]
    assert compare_groups([3, 100, 100], [4, 1000, 1000]).tolist()[1:] == [0, 0]
    assert compare_groups([10, 20], [100, 200]).tolist() == [0, 0]
    assert compare_groups([5], [9]).tolist() == [0]
    assert compare_groups([0, 5], [0, 9]).tolist() == [0, 0]


def test_groups_that_differ_by_chance_are_rarely_marked() -> None:
    """Forty groups of the same rate, five hundred times: the correction limits false positives to about 5 %."""
    samples = np.random.default_rng(7).binomial(200, 0.2, size=(500, 40))
    false_positives = [bool(compare_groups(hits, np.full(40, 200)).any()) for hits in samples]
    assert np.mean(false_positives) < 0.08


@pytest.mark.parametrize("confidence", [0, 1, 95, -1])
def test_a_confidence_must_be_between_0_and_1(confidence: float) -> None:
    """Percentages raise."""
    with pytest.raises(InputError, match="between 0 and 1"):
        wilson_interval(1, 2, confidence)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.9999, "over 99.9%"),
        (0.00005, "under 0.1%"),
        (0.025, "2.5%"),
        (1 / 3, "33%"),
        (0.995, "99.5%"),
    ],
)
def test_only_exact_rates_are_0_or_100_percent(rate: float, text: str) -> None:
    """Rounding must not hide the only flagged or the only safe row."""
    assert format_percent(rate) == text
