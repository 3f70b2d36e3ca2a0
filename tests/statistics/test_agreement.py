"""Agreement, beside scikit-learn's numbers and published examples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, precision_recall_fscore_support

from skytells_nb.statistics.agreement import accuracy, cohen_kappa, krippendorff_alpha, label_scores
from skytells_nb.statistics.agreement import confusion_matrix as our_confusion

NAN = -1


@pytest.fixture(params=["equal", "weighted"])
def rows(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, predicted labels and weights of 300 rows."""
    random = np.random.default_rng(4)
    truth = random.integers(0, 4, 300)
    predicted = np.where(random.random(300) < 0.7, truth, random.integers(0, 4, 300))
    weights = np.ones(300) if request.param == "equal" else random.gamma(2, 3, 300) + 0.1
    return truth, predicted, weights


def test_the_estimates_are_those_of_scikit_learn(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, predicted, weights = rows
    expected = precision_recall_fscore_support(truth, predicted, sample_weight=weights)

    scores = [label_scores(label, truth, predicted, weights, 0.95) for label in range(4)]

    for number, name in enumerate(("precision", "recall", "f1")):
        assert [getattr(each, name).estimate for each in scores] == pytest.approx(expected[number])
    assert accuracy(truth, predicted, weights, 0.95).estimate == pytest.approx(
        accuracy_score(truth, predicted, sample_weight=weights)
    )
    assert our_confusion(truth, predicted, 4, weights) == pytest.approx(
        confusion_matrix(truth, predicted, sample_weight=weights)
    )
    assert cohen_kappa(truth, predicted, 4, weights, 0.95).estimate == pytest.approx(
        cohen_kappa_score(truth, predicted, sample_weight=weights)
    )


def test_equal_weights_have_wilsons_limits() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 0, 0])

    scores = label_scores(0, truth, predicted, np.full(6, 3.0), 0.95)

    for interval in (scores.precision, scores.recall):
        expected = scipy.stats.binomtest(3, 4).proportion_ci(0.95, method="wilson")
        assert interval == pytest.approx((0.75, expected.low, expected.high))
    # F1 = 2 J / (1 + J), with 3 rows of 5 that have the label on both sides.
    both = scipy.stats.binomtest(3, 5).proportion_ci(0.95, method="wilson")
    assert scores.f1 == pytest.approx((0.75, *(2 * value / (1 + value) for value in both)))
    right = scipy.stats.binomtest(4, 6).proportion_ci(0.95, method="wilson")
    assert accuracy(truth, predicted, np.full(6, 3.0), 0.95) == pytest.approx((4 / 6, right.low, right.high))


def test_a_missed_row_that_stands_for_many_is_possible_where_none_was_seen() -> None:
    """Ten found rows of weight 1, and 50 rows of weight 40 among which none was missed: recall is not surely 1."""
    truth, predicted = np.repeat([0, 1], [10, 50]), np.repeat([0, 1], [10, 50])
    weights = np.repeat([1.0, 40.0], [10, 50])

    recall = label_scores(0, truth, predicted, weights, 0.95).recall

    assert recall.estimate == 1
    assert recall.low < 0.2


def test_a_label_that_was_never_seen_has_no_score() -> None:
    scores = label_scores(2, np.array([0, 1]), np.array([0, 1]), np.ones(2), 0.95)

    assert np.isnan([scores.precision, scores.recall, scores.f1]).all()


def test_a_label_that_was_never_found_has_a_recall_of_zero() -> None:
    for weights in (np.ones(4), np.array([1.0, 2, 3, 4])):
        scores = label_scores(1, np.array([0, 1, 1, 0]), np.zeros(4, dtype=np.int64), weights, 0.95)
        assert np.isnan(scores.precision.estimate)
        assert scores.recall.estimate == scores.f1.estimate == 0


def test_kappa_and_its_error_are_those_of_the_published_example() -> None:
    """Fleiss, Cohen and Everitt (1969), tables 1 to 3 with 200 subjects: kappa .429, standard error .054."""
    counts = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    truth, predicted = (np.repeat(each.ravel(), counts.ravel()) for each in np.indices((3, 3)))

    kappa = cohen_kappa(truth, predicted, 3, np.ones(200), 0.95)

    assert kappa.estimate == pytest.approx(0.429, abs=5e-4)
    assert (kappa.high - kappa.low) / 2 / 1.959964 == pytest.approx(0.054, abs=5e-4)


def test_kappa_of_one_label_is_not_defined() -> None:
    assert np.isnan(cohen_kappa(np.zeros(5, int), np.zeros(5, int), 2, np.ones(5), 0.95)).all()


KRIPPENDORFF_2011 = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
"""Four observers, twelve units, any number of missing values (section C of the paper)."""


def test_alpha_is_that_of_the_published_example() -> None:
    alpha = krippendorff_alpha(np.array(KRIPPENDORFF_2011), 0.95)

    assert alpha.estimate == pytest.approx(0.743, abs=5e-4)
    assert alpha.low < 0.6
    assert alpha.high > 0.85


def test_alpha_of_full_agreement_is_one_and_of_one_label_undefined() -> None:
    assert krippendorff_alpha(np.array([[0, 1, 1], [0, 1, 1]]), 0.95).estimate == 1
    assert np.isnan(krippendorff_alpha(np.array([[1, 1], [1, 1]]), 0.95).estimate)
    assert np.isnan(krippendorff_alpha(np.array([[0, -1], [-1, 1]]), 0.95).estimate)


@pytest.mark.parametrize("codes", [np.full((2, 3), -1), np.empty((2, 0), dtype=np.int64)])
def test_alpha_of_no_labels_is_undefined(codes: np.ndarray) -> None:
    assert np.isnan(krippendorff_alpha(codes, 0.95)).all()


def test_alpha_is_the_same_each_time() -> None:
    codes = np.array(KRIPPENDORFF_2011)

    assert krippendorff_alpha(codes, 0.95) == krippendorff_alpha(codes, 0.95)
