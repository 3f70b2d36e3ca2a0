"""Topics and their parts: a tree of two levels, the same for a map, an explorer and the table of ``topics``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.topics.words import distinctive_words, join_words
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.kmeans import kmeans

MIN_ROWS = 40
"""A topic with fewer rows has no parts."""
ROWS_OF_TWO_PARTS, MAX_PARTS = 160, 5
"""So many rows have two parts; the number of parts grows with the square root of the rows."""
TEXTS_OF_TOPIC = 600
"""Texts of a topic that its parts are named by."""
NAME_CHARACTERS = 38


@dataclass(frozen=True, slots=True, eq=False)
class TopicParts:
    """The part (n,) of each row, negative for none; the topic of each part, and its name.

    The parts of a topic follow each other, the largest first.
    """

    labels: NDArray[np.int64]
    topics: list[int]
    names: list[str]

    @property
    def sizes(self) -> list[int]:
        """The rows of each part."""
        counts: list[int] = np.bincount(self.labels[self.labels >= 0], minlength=len(self.names)).tolist()
        return counts


def parts_of_topics(matrix: Floats, topics: Any, texts: Sequence[str | None] | None) -> TopicParts:
    """Split each topic into two to five parts by the directions of its vectors, named by the words that set them apart.

    ``topics`` (n,) has the topic of each row from 0, negative for none. A topic of fewer than 40 rows, or whose vectors
    are all equal, has no parts, nor has one in which no word sets any part apart. Deterministic; nothing is sent.
    """
    topics = np.asarray(topics, dtype=np.int64)
    found = TopicParts(np.full(len(topics), -1, dtype=np.int64), [], [])
    for topic in range(int(topics.max(initial=-1)) + 1):
        rows = np.flatnonzero(topics == topic)
        if len(rows) < MIN_ROWS:
            continue
        count = int(np.clip(round(2 * (len(rows) / ROWS_OF_TWO_PARTS) ** 0.5), 2, MAX_PARTS))
        labels = kmeans(unit_vectors(matrix[rows]), count, n_init=1).labels
        count = int(labels.max(initial=-1)) + 1
        names = [""] * count if texts is None else _names(rows, labels, count, texts)
        if count < 2 or (texts is not None and not any(names)):
            continue
        found.labels[rows] = len(found.names) + labels
        found.topics.extend([topic] * count)
        found.names.extend(names)
    return found


def _names(rows: NDArray[np.int64], labels: NDArray[np.int64], count: int, texts: Sequence[str | None]) -> list[str]:
    """The names of the parts of one topic: words that set them apart from each other, not from other topics."""
    step = max(1, len(rows) // TEXTS_OF_TOPIC)
    sampled = [texts[row] for row in rows[::step].tolist()]
    return [short_name(words) for words in distinctive_words(sampled, labels[::step], count, words=2)]


def short_name(words: Sequence[str], limit: int = NAME_CHARACTERS) -> str:
    """As many of the words as a name of two lines holds.

    >>> short_name(["django", "administration of models", "forms and widgets"])
    'django, administration of models'
    """
    kept = list(words)
    while len(kept) > 1 and len(join_words(kept)) > limit:
        kept.pop()
    return join_words(kept)
