"""A softmax classifier on embeddings: multinomial logistic regression with an L2 penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytells_nb.vectors.arrays import Floats, Indices

PENALTY = 0.1
"""Of the squared weights beside the summed loss: scikit-learn's ``C=10``, which suits unit vectors of embeddings."""
TOLERANCE = 1e-4
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class SoftmaxClassifier:
    """Weights of a class for each dimension, (d, classes), and its intercept."""

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    center: NDArray[np.float64]

    def probabilities(self, vectors: Floats) -> NDArray[np.float64]:
        """Return the probability of each class for each vector, float64 (n, classes)."""
        scores = vectors @ self.weights.astype(np.float32)
        return _softmax(scores + (self.intercepts - self.center @ self.weights))


def fit_softmax(vectors: Floats, classes: Indices, number: int) -> SoftmaxClassifier:
    """Fit the classifier to vectors (n, d) of known classes (n,), which are numbers below ``number``.

    Accelerated gradient descent (Nesterov 1983) with a restart where the step leads back (O'Donoghue and Candes 2015),
    in the space that the n vectors span, which for few vectors of many dimensions is much smaller. The same vectors
    give the same weights.
    """
    center = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors.astype(np.float64) - center
    # Of the span of the vectors: the optimum has no part outside of it.
    left, scales, basis = np.linalg.svd(centered, full_matrices=False)
    points = np.hstack([left * scales, np.ones((len(vectors), 1))])
    target = np.zeros((len(vectors), number))
    target[np.arange(len(vectors)), classes] = 1
    # The intercepts are hardly penalized, and only so that they stay finite.
    penalty = np.append(np.full(points.shape[1] - 1, PENALTY), PENALTY * 1e-2)[:, None]
    step = 1 / (0.5 * float(np.square(np.linalg.norm(points, 2))) + PENALTY)
    weights = momentum = np.zeros((points.shape[1], number))
    age = 1.0
    for _ in range(MAX_ITERATIONS):
        gradient = points.T @ (_softmax(points @ momentum) - target) + penalty * momentum
        new = momentum - step * gradient
        if float((gradient * (new - weights)).sum()) > 0:
            age = 1.0
        next_age = (1 + np.sqrt(1 + 4 * age * age)) / 2
        momentum, weights, age = new + (age - 1) / next_age * (new - weights), new, next_age
        if float(np.abs(gradient).max()) < TOLERANCE * len(vectors) / number:
            break
    return SoftmaxClassifier(basis.T @ weights[:-1], weights[-1], center)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return result
