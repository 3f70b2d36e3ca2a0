"""The softmax classifier, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skytells_nb.vectors.arrays import unit_vectors
from skytells_nb.vectors.softmax import fit_softmax


def data(rows: int, dimensions: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    centers = random.normal(size=(classes, dimensions))
    labels = random.integers(classes, size=rows)
    points = centers[labels] + 1.5 * random.normal(size=(rows, dimensions))
    return unit_vectors(points.astype(np.float32)), labels


@pytest.mark.parametrize(("rows", "dimensions", "classes"), [(200, 64, 5), (60, 300, 3), (300, 16, 2)])
def test_its_probabilities_are_those_of_scikit_learn(rows: int, dimensions: int, classes: int) -> None:
    vectors, labels = data(rows + 100, dimensions, classes)
    # With two classes it has one vector of weights, the difference of both, which is penalized twice as much.
    penalty = 20 if classes == 2 else 10
    expected = LogisticRegression(C=penalty, max_iter=5000, tol=1e-8).fit(vectors[:rows], labels[:rows])

    found = fit_softmax(vectors[:rows], labels[:rows], classes).probabilities(vectors[rows:])

    # scikit-learn does not penalize the intercepts at all.
    assert np.abs(found - expected.predict_proba(vectors[rows:])).max() < 0.02
    assert found.sum(axis=1) == pytest.approx(1)


def test_a_class_without_examples_is_never_the_likeliest() -> None:
    vectors, labels = data(100, 8, 3)

    assert set(fit_softmax(vectors, labels, 5).probabilities(vectors).argmax(axis=1)) <= {0, 1, 2}


def test_one_class_is_certain_and_a_single_vector_is_enough() -> None:
    vectors = np.ones((1, 4), dtype=np.float32)

    assert fit_softmax(vectors, np.array([1]), 2).probabilities(vectors).argmax() == 1


def test_it_is_the_same_each_time() -> None:
    vectors, labels = data(150, 32, 4)
    first, again = (fit_softmax(vectors, labels, 4).probabilities(vectors) for _ in range(2))

    assert (first == again).all()
