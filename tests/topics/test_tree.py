"""Topics and their parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.topics.tree import MAX_PARTS, MIN_ROWS, parts_of_topics


def two_topics() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two topics: one of two parts with words of their own, one that is too small for parts."""
    random = np.random.default_rng(0)
    topics = np.array([0] * 60 + [1] * 20 + [-1] * 5)
    matrix = 0.05 * random.normal(size=(85, 4)).astype(np.float32)
    matrix[:40, 0] += 1
    matrix[40:60, 1] += 1
    texts = ["pets: cats purr"] * 40 + ["pets: dogs bark"] * 20 + ["shares fell"] * 25
    return matrix, topics, texts


def test_a_topic_is_split_by_its_vectors_and_named_by_what_sets_its_parts_apart() -> None:
    """The word that both parts have names none of them; a small topic and rows of none have no part."""
    parts = parts_of_topics(*two_topics())
    assert parts.topics == [0, 0]
    assert parts.sizes == [40, 20]
    assert parts.labels.tolist() == [0] * 40 + [1] * 20 + [-1] * 25
    assert {"cats", "purr"} >= set(parts.names[0].split(" "))
    assert {"dogs", "bark"} >= set(parts.names[1].split(" "))


def test_a_part_does_not_repeat_the_name_of_its_topic() -> None:
    """A part of which no other word is left has no name."""
    matrix, topics, texts = two_topics()
    parts = parts_of_topics(matrix, topics, texts, ["Purr, cats", "shares"])
    assert parts.names == ["", "dogs bark"]
    assert parts_of_topics(matrix, topics, texts, ["cats", "shares"]).names == ["cats purr", "dogs bark"]


def test_equal_vectors_and_equal_texts_have_no_parts() -> None:
    """There is nothing to split by, or nothing to say of what was split."""
    matrix, topics, texts = two_topics()
    assert parts_of_topics(np.ones_like(matrix), topics, texts).names == []
    assert parts_of_topics(matrix, topics, ["the same"] * len(topics)).names == []
    assert parts_of_topics(matrix, topics, None).names == ["", ""]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=300), st.integers(0, 9))
def test_parts_refine_topics(topics: list[int], seed: int) -> None:
    """Each part is within one topic, each row of a topic with parts has one, and no topic has more than five."""
    matrix = np.random.default_rng(seed).normal(size=(len(topics), 3)).astype(np.float32)
    parts = parts_of_topics(matrix, topics, None)
    rows = np.flatnonzero(parts.labels >= 0)
    assert [parts.topics[part] for part in parts.labels[rows]] == [topics[row] for row in rows]
    for topic in range(4):
        size = topics.count(topic)
        assert parts.topics.count(topic) in ((0,) if size < MIN_ROWS else range(2, MAX_PARTS + 1))
        assert size < MIN_ROWS or sum(parts.sizes[p] for p, of in enumerate(parts.topics) if of == topic) == size
