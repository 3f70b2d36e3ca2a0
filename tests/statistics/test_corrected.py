"""Corrected shares and means: their arithmetic, and how often their limits cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from skytells_nb.statistics.corrected import corrected_mean, corrected_share
from skytells_nb.statistics.sampling import calibrate

LEVEL = 0.95


def test_the_share_adds_the_found_and_the_missed() -> None:
    """3 of 4 labeled rows are right and 1 of 6 others was missed, of 40 and 60 rows: 0.4 * 3/4 + 0.6 * 1/6."""
    predicted = np.repeat([True, False], [4, 6])
    is_label = np.array([True, True, True, False, True, False, False, False, False, False])

    share = corrected_share(is_label, predicted, np.full(10, 10.0), LEVEL)

    assert share.estimate == pytest.approx(0.4)
    assert 0 < share.low < 0.4 < share.high < 1


def test_a_census_has_no_uncertainty() -> None:
    is_label = np.array([True, False, True, False])

    assert corrected_share(is_label, ~is_label, np.ones(4), LEVEL) == (0.5, 0.5, 0.5)


def test_shares_of_all_labels_sum_to_one() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 3, 50), random.integers(0, 3, 50)
    weights = calibrate(predicted, np.array([100, 20, 300]), np.ones(50))

    shares = [corrected_share(truth == label, predicted == label, weights, LEVEL).estimate for label in range(3)]

    assert sum(shares) == pytest.approx(1)


def covered(n: int, error: float, rare: float, draws: int) -> tuple[float, float]:
    """How often the limits of a label's share cover the truth, and those of the plain count's."""
    random = np.random.default_rng(1)
    rows = 4000
    truth = random.random(rows) < rare
    predicted = np.where(random.random(rows) < error, random.random(rows) < 0.4, truth)
    sizes = np.bincount(predicted.astype(int))
    hits, plain = 0, 0
    for _ in range(draws):
        chosen = random.choice(rows, n, replace=False)
        weights = calibrate(predicted[chosen].astype(int), sizes, np.ones(n))
        share = corrected_share(truth[chosen], predicted[chosen], weights, LEVEL)
        hits += share.low <= truth.mean() <= share.high
        half = 1.96 * np.sqrt(predicted.mean() * (1 - predicted.mean()) / rows)
        plain += abs(predicted.mean() - truth.mean()) <= half
    return hits / draws, plain / draws


@pytest.mark.parametrize(
    ("n", "error", "rare"), [(100, 0.1, 0.05), (200, 0.1, 0.05), (100, 0.3, 0.3), (100, 0.05, 0.01)]
)
def test_the_limits_cover_the_truth_where_a_count_never_does(n: int, error: float, rare: float) -> None:
    """Also for rare labels and few rows, where plain difference estimators cover 0.76 to 0.92."""
    corrected, plain = covered(n, error, rare, draws=400)

    assert corrected >= 0.93
    assert plain == 0


def test_the_mean_is_corrected_within_strata() -> None:
    """Judges give 1 more to the high half, of 30 and 70 rows: 0.3 * 2 + 0.7 * 5."""
    truth = np.array([2.0, 2.0, 2.0, 5.0, 5.0, 5.0])
    predicted = np.array([2.0, 2.0, 2.0, 4.0, 4.0, 4.0])
    strata = np.array([0, 0, 0, 1, 1, 1])

    mean = corrected_mean(truth, predicted, 3.4, strata, np.repeat([10.0, 70 / 3], 3), LEVEL)

    assert mean.estimate == pytest.approx(0.3 * 2 + 0.7 * 5)


def test_a_prediction_that_explains_the_truth_narrows_the_mean() -> None:
    random = np.random.default_rng(2)
    x = random.normal(0, 2, 4000)
    y = 1.5 * x + random.normal(0, 0.5, 4000)
    widths, hits = [], 0
    for _ in range(300):
        chosen = random.choice(4000, 60, replace=False)
        mean = corrected_mean(y[chosen], x[chosen], x.mean(), np.zeros(60, int), np.full(60, 4000 / 60), LEVEL)
        widths.append(mean.high - mean.low)
        hits += mean.low <= y.mean() <= mean.high
    assert hits / 300 >= 0.92
    assert np.mean(widths) < 0.25 * 2 * 1.96 * y.std() / np.sqrt(60)


def test_judges_who_never_differ_leave_room_for_rows_that_were_not_judged() -> None:
    """Of 20 rows that all agree, up to a sixth of the others may differ, by 4 at most."""
    numbers = np.tile([1.0, 5.0], 10)
    strata = (numbers > 3).astype(int)

    mean = corrected_mean(numbers, numbers, 3.0, strata, np.full(20, 1000.0), LEVEL)
    census = corrected_mean(numbers, numbers, 3.0, strata, np.ones(20), LEVEL)

    assert mean.estimate == pytest.approx(3.0)
    assert (mean.high - mean.low) / 2 == pytest.approx(4 * 0.161, abs=0.005)
    assert census == pytest.approx((3.0, 3.0, 3.0))


def test_too_few_rows_have_no_mean() -> None:
    assert np.isnan(corrected_mean(np.ones(1), np.ones(1), 1.0, np.zeros(1, int), np.ones(1), LEVEL)).all()


def test_the_slope_is_that_of_a_regression_within_strata() -> None:
    """By least squares with a mean for each stratum; the strata differ by more than the rows within them."""
    random = np.random.default_rng(3)
    strata = np.repeat([0, 1, 2], 20)
    weights = np.repeat([1.0, 5.0, 30.0], 20)
    predicted = random.normal(0, 1, 60) + 4 * strata
    truth = 0.5 * predicted - 3.0 * strata + random.normal(0, 0.2, 60)
    design = np.column_stack([predicted, strata[:, None] == np.arange(3)]) * np.sqrt(weights)[:, None]
    slope = np.linalg.lstsq(design, truth * np.sqrt(weights))[0][0]

    mean = corrected_mean(truth, predicted, 2.5, strata, weights, LEVEL)

    assert mean.estimate == pytest.approx(slope * 2.5 + np.average(truth - slope * predicted, weights=weights))


def test_the_limits_of_one_stratum_are_those_of_a_regression_estimate() -> None:
    """For a sample of a very large frame: Student's t times the deviation of the residuals over the root of n."""
    random = np.random.default_rng(4)
    predicted = random.normal(0, 1, 30)
    truth = 2 * predicted + random.normal(0, 1, 30)
    residual = truth - np.polynomial.Polynomial.fit(predicted, truth, 1)(predicted)

    mean = corrected_mean(truth, predicted, 0.0, np.zeros(30, int), np.full(30, 1e6), LEVEL)

    half = scipy.stats.t.ppf(0.975, 28) * np.sqrt(np.square(residual).sum() / 28 / 30)
    assert mean.high - mean.estimate == pytest.approx(half, rel=0.05)
    assert mean.estimate - mean.low == pytest.approx(mean.high - mean.estimate)
