"""Calibration of confidences, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
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
