"""Demonstration of content moderation on this machine, mainly for English: it shows how the safety fields behave.

A linear head on the embedder's vectors, fitted to the sentences of ``prototypes``. It is not a guardrail.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEVERITIES = ("safe", "low", "medium", "high")
CATEGORIES = ("hate", "self_harm", "sexual", "violence", "jailbreak")

_THRESHOLDS = (0.3, 0.5, 0.8)
"""Minimum probabilities of the severities low, medium and high."""
_HEAD_FILE = "moderation_head.npy"
_MIN_WINDOW = 40
_MAX_WINDOW = 300
"""Characters: shorter sentences are scored with the next one, longer ones in parts."""
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+|\n|$)")
_BATCH_SIZE = 256
_ITERATIONS = 600
_LEARNING_RATE = 10.0
_WEIGHT_DECAY = 1e-4


class Encoder(Protocol):
    """Embeds texts as unit vectors of 512 numbers."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Moderator:
    """Scores texts: a severity for each category. A long text gets the highest score of its sentences.

    >>> from skytells_nb.local.embedder import Embedder
    >>> Moderator(Embedder()).score(["The soup was lovely."])[0]["violence"]
    'safe'
    """

    def __init__(self, embedder: Encoder) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()
        self._head: NDArray[np.float32] | None = None

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        """Return for each text the severity of every category, one of ``SEVERITIES``; an empty text is safe."""
        levels = np.searchsorted(_THRESHOLDS, self.category_scores(texts), side="right")
        return [{name: SEVERITIES[level] for name, level in zip(CATEGORIES, row, strict=True)} for row in levels]

    def category_scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the probabilities behind :meth:`score`, as a float32 array of shape ``(texts, categories)``."""
        scores = np.zeros((len(texts), len(CATEGORIES)), dtype=np.float32)
        pairs = [(index, window) for index, text in enumerate(texts) for window in dict.fromkeys(split_windows(text))]
        for start in range(0, len(pairs), _BATCH_SIZE):
            batch = pairs[start : start + _BATCH_SIZE]
            batch_scores = probabilities(self._embedder.encode([window for _, window in batch]), self._load_head())
            np.maximum.at(scores, [index for index, _ in batch], batch_scores)
        return scores

    def _load_head(self) -> NDArray[np.float32]:
        with self._lock:
            if self._head is None:
                with resources.files(__package__).joinpath(_HEAD_FILE).open("rb") as file:
                    self._head = np.load(file, allow_pickle=False)
            return self._head


def split_windows(text: str) -> Iterator[str]:
    """Yield the sentences of a text, short ones joined and long ones split."""
    pending = ""
    for sentence in _SENTENCE.findall(text):
        pending += sentence
        while len(pending) > _MAX_WINDOW:
            cut = pending.rfind(" ", _MAX_WINDOW // 2, _MAX_WINDOW)
            cut = cut if cut > 0 else _MAX_WINDOW
            yield pending[:cut].strip()
            pending = pending[cut:]
        if len(pending.strip()) >= _MIN_WINDOW:
            yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


def probabilities(vectors: NDArray[np.float32], head: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of each category except benign for each vector; the head's last row is the bias."""
    unsafe: NDArray[np.float32] = _softmax(vectors @ head[:-1] + head[-1])[:, 1:]
    return unsafe


def fit_head(embedder: Encoder) -> NDArray[np.float32]:
    """Fit the head, ``(dimensions + 1, 1 + categories)``, by logistic regression on the prototypes from severity 2."""
    from skytells_nb.local.moderation.prototypes import BENIGN, UNSAFE

    rows = [(text, 0) for text in BENIGN]
    for label, name in enumerate(CATEGORIES, start=1):
        rows += [(text, label) for severity, texts in UNSAFE[name].items() if severity >= 2 for text in texts]
    vectors = embedder.encode([text for text, _ in rows]).astype(np.float64)
    targets = np.eye(1 + len(CATEGORIES))[[label for _, label in rows]]
    head = np.zeros((vectors.shape[1] + 1, targets.shape[1]))
    for _ in range(_ITERATIONS):
        error = _softmax(vectors @ head[:-1] + head[-1]) - targets
        head[:-1] -= _LEARNING_RATE * (vectors.T @ error / len(rows) + _WEIGHT_DECAY * head[:-1])
        head[-1] -= _LEARNING_RATE / 10 * error.mean(axis=0)
    return head.astype(np.float32)


def _softmax(logits: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalized: NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalized
