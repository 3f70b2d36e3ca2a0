"""Calibration of confidences, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from skytells_nb.statistics.calibration import fit_calibration, reliability


def test_the_curve_is_that_of_a_logistic_regression() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.3, 1, 4000)
    right = random.random(4000) < confidence**2
    x = np.log(confidence / (1 - np.minimum(confidence, 1 - 1e-3)))

    found = fit_calibration(confidence, right, np.ones(4000))

    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(x[:, None], right)
    assert found.slope == pytest.approx(expected.coef_[0, 0], rel=0.02)
    assert found.intercept == pytest.approx(expected.intercept_[0], abs=0.02)


def test_few_rows_have_platts_targets() -> None:
    """The most likely curve for the targets of his paper, found by scipy, of rows that stand for different numbers."""
    random = np.random.default_rng(2)
    confidence, weights = random.uniform(0.1, 0.95, 25), random.uniform(0.5, 4, 25)
    right = random.random(25) < confidence
    hits, misses = weights[right].sum(), weights[~right].sum()
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    x = scipy.special.logit(confidence)

    def loss(values: np.ndarray) -> float:
        scores = values[0] * x + values[1]
        return float(weights @ (np.logaddexp(0, scores) - target * scores))

    expected = scipy.optimize.minimize(loss, np.zeros(2), tol=1e-10).x

    found = fit_calibration(confidence, right, weights)

    assert (found.slope, found.intercept) == pytest.approx(expected, abs=2e-3)


def test_a_confidence_that_falls_with_the_truth_says_nothing() -> None:
    confidence, right = np.array([0.1, 0.2, 0.8, 0.9] * 5), np.array([True, True, False, False] * 5)
    weights = np.array([3.0, 1.0, 1.0, 1.0] * 5)

    found = fit_calibration(confidence, right, weights)

    assert found.slope == 0
    rate = (20 * 21 / 22 + 10 * 1 / 12) / 30
    assert found.probabilities(np.array([0.1, 0.9])) == pytest.approx([rate, rate])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0.1, 50)), min_size=1, max_size=40),
)
def test_it_never_falls(rows: list[tuple[float, bool, float]]) -> None:
    confidence, right, weights = (np.array(column) for column in zip(*rows, strict=True))

    curve = fit_calibration(confidence, right, weights).probabilities(np.linspace(0, 1, 20))

    assert (np.diff(curve) >= -1e-12).all()
    assert ((curve >= 0) & (curve <= 1)).all()
    assert np.isnan(fit_calibration(confidence, right, weights).probabilities(np.array([np.nan]))).all()


def test_bins_have_equally_many_rows_with_wilsons_limits() -> None:
    random = np.random.default_rng(1)
    confidence = random.uniform(0, 1, 200)
    right = random.random(200) < confidence

    found = reliability(confidence, right, 5, 0.95)

    assert found.rows.tolist() == [40] * 5
    order = np.argsort(confidence)[:40]
    limits = scipy.stats.binomtest(int(right[order].sum()), 40).proportion_ci(0.95, method="wilson")
    assert (found.low[0], found.high[0]) == pytest.approx((limits.low, limits.high))
    assert found.confidence[0] == pytest.approx(confidence[order].mean())
    assert found.calibration_error == pytest.approx(np.abs(found.confidence - found.right).mean())


def test_equal_confidences_are_in_one_bin() -> None:
    found = reliability(np.array([0.6] * 5 + [1.0] * 15), np.array([True] * 20), 10, 0.9)

    assert (found.rows.tolist(), found.confidence.tolist()) == ([5, 15], [0.6, 1.0])
