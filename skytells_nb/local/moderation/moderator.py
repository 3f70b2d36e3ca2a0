"""A demonstration of content scoring on this machine, English first: it shows how the safety fields behave.

A linear head over the embedder's vectors, fitted to the sentences of ``moderation_prototypes``. It is no guardrail.
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

_CUTS = (0.3, 0.5, 0.8)
"""Probabilities from which a text is low, medium and high."""
_HEAD = "moderation_head.npy"
_SHORT = 40
_LONG = 300
"""Characters: sentences shorter than the first are read with the next one, longer than the second in parts."""
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+|\n|$)")
_WINDOWS_AT_ONCE = 256
_STEPS = 600
_RATE = 10.0
_DECAY = 1e-4


class Encoder(Protocol):
    """Texts to unit vectors of 512 numbers."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Moderator:
    """Texts to a severity in each category; long texts are scored by sentence, and the highest counts.

    >>> from skytells_nb.local.embedder import Embedder
    >>> Moderator(Embedder()).score(["The soup was lovely."])[0]["violence"]
    'safe'
    """

    def __init__(self, embedder: Encoder) -> None:
        self._embedder = embedder
        self._loading = threading.Lock()
        self._head: NDArray[np.float32] | None = None

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        """For each text the severity, one of ``SEVERITIES``, of every category; an empty text is safe."""
        levels = np.searchsorted(_CUTS, self.category_scores(texts), side="right")
        return [{name: SEVERITIES[level] for name, level in zip(CATEGORIES, row, strict=True)} for row in levels]

    def category_scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The probabilities behind :meth:`score`, as float32 ``(texts, categories)``."""
        scores = np.zeros((len(texts), len(CATEGORIES)), dtype=np.float32)
        pairs = [(place, window) for place, text in enumerate(texts) for window in dict.fromkeys(split_windows(text))]
        for start in range(0, len(pairs), _WINDOWS_AT_ONCE):
            some = pairs[start : start + _WINDOWS_AT_ONCE]
            found = probabilities(self._embedder.encode([window for _, window in some]), self._loaded())
            np.maximum.at(scores, [place for place, _ in some], found)
        return scores

    def _loaded(self) -> NDArray[np.float32]:
        with self._loading:
            if self._head is None:
                with resources.files(__package__).joinpath(_HEAD).open("rb") as file:
                    self._head = np.load(file, allow_pickle=False)
            return self._head


def split_windows(text: str) -> Iterator[str]:
    """The sentences of a text, each with enough around it to be judged."""
    held = ""
    for sentence in _SENTENCE.findall(text):
        held += sentence
        while len(held) > _LONG:
            cut = held.rfind(" ", _LONG // 2, _LONG)
            cut = cut if cut > 0 else _LONG
            yield held[:cut].strip()
            held = held[cut:]
        if len(held.strip()) >= _SHORT:
            yield held.strip()
            held = ""
    if held.strip():
        yield held.strip()


def probabilities(vectors: NDArray[np.float32], head: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of each category, benign left out, for each vector; the head's last row is the bias."""
    shares: NDArray[np.float32] = _softmax(vectors @ head[:-1] + head[-1])[:, 1:]
    return shares


def fit_head(embedder: Encoder) -> NDArray[np.float32]:
    """The head, ``(dimensions + 1, 1 + categories)``, by logistic regression on the prototypes of severity 2 and up."""
    from skytells_nb.local.moderation.prototypes import BENIGN, UNSAFE

    rows = [(text, 0) for text in BENIGN]
    for place, name in enumerate(CATEGORIES, start=1):
        rows += [(text, place) for severity, texts in UNSAFE[name].items() if severity >= 2 for text in texts]
    vectors = embedder.encode([text for text, _ in rows]).astype(np.float64)
    wanted = np.eye(1 + len(CATEGORIES))[[place for _, place in rows]]
    head = np.zeros((vectors.shape[1] + 1, wanted.shape[1]))
    for _ in range(_STEPS):
        error = _softmax(vectors @ head[:-1] + head[-1]) - wanted
        head[:-1] -= _RATE * (vectors.T @ error / len(rows) + _DECAY * head[:-1])
        head[-1] -= _RATE / 10 * error.mean(axis=0)
    return head.astype(np.float32)


def _softmax(logits: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
