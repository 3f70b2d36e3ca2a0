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
WORDS, WORDS_CONSIDERED = 2, 5
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


def parts_of_topics(
    matrix: Floats, topics: Any, texts: Sequence[str | None] | None, names: Sequence[str] = ()
) -> TopicParts:
    """Split each topic into two to five parts by the directions of its vectors, named by the words that set them apart.

    ``topics`` (n,) has the topic of each row from 0, negative for none. A topic of fewer than 40 rows, or whose vectors
    are all equal, has no parts, nor has one in which no word sets any part apart. A part does not repeat the name of
    its topic (``names``). Deterministic; nothing is sent.
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
        of_topic = names[topic] if topic < len(names) else ""
        of_parts = [""] * count if texts is None else _names(rows, labels, count, texts, of_topic)
        if count < 2 or (texts is not None and not any(of_parts)):
            continue
        found.labels[rows] = len(found.names) + labels
        found.topics.extend([topic] * count)
        found.names.extend(of_parts)
    return found


def _names(
    rows: NDArray[np.int64], labels: NDArray[np.int64], count: int, texts: Sequence[str | None], topic: str
) -> list[str]:
    """The names of the parts of one topic: what sets them apart from each other, without what only repeats its name."""
    step = max(1, len(rows) // TEXTS_OF_TOPIC)
    sampled = [texts[row] for row in rows[::step].tolist()]
    known = set(topic.casefold().replace(",", " ").split())
    lists = distinctive_words(sampled, labels[::step], count, words=WORDS_CONSIDERED)
    return [
        short_name([word for word in words if not known.issuperset(word.casefold().split())][:WORDS]) for words in lists
    ]


def short_name(words: Sequence[str], limit: int = NAME_CHARACTERS) -> str:
    """As many of the words as a name of two lines holds.

    >>> short_name(["django", "administration of models", "forms and widgets"])
    'django, administration of models'
    """
    kept = list(words)
    while len(kept) > 1 and len(join_words(kept)) > limit:
        kept.pop()
    return join_words(kept)
