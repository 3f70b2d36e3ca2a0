"""Sentence vectors of the real model: of unit length, and independent of the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skytells_nb.local.embedder import Embedder

TEXTS = ["a cat", "The quick brown fox jumps over the lazy dog.", "", "日本語の文", "a cat", "x" * 500, "naïve café ☕"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_vectors_are_float32_of_unit_length(embedder: Embedder) -> None:
    """Shape (n, 512), including empty texts and other scripts."""
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    """The result has shape (0, 512)."""
    assert embedder.encode([]).shape == (0, 512)


def test_vectors_do_not_depend_on_the_batch(embedder: Embedder) -> None:
    """To the last bit, since a cache compares bytes."""
    batch = embedder.encode(TEXTS)
    for text, vector in zip(TEXTS, batch, strict=True):
        assert embedder.encode([text])[0].tobytes() == vector.tobytes()
    assert embedder.encode(TEXTS[::-1])[::-1].tobytes() == batch.tobytes()


def test_all_threads_get_the_same_vectors() -> None:
    """A new embedder that is used by many threads loads once."""
    shared = Embedder()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: shared.encode(TEXTS).tobytes(), range(8)))
    assert len(set(results)) == 1


def test_similar_meanings_have_similar_vectors(embedder: Embedder) -> None:
    """A paraphrase and a translation are more similar than another topic."""
    german, english, paraphrase, other = embedder.encode(
        ["Der Hund schläft auf dem Sofa.", "The dog sleeps on the couch.", "A dog is asleep on a sofa.", "Taxes rose."]
    )
    assert english @ paraphrase > 0.6 > english @ other
    assert english @ german > 0.6


def test_a_lone_surrogate_is_embedded(embedder: Embedder) -> None:
    """JSON can carry lone surrogates, UTF-8 cannot."""
    assert np.isfinite(embedder.encode(["broken \ud800 text"])).all()
    assert embedder.count_tokens("broken \ud800 text") > 0


def test_tokens_are_counted_by_the_tokenizer_of_the_model(embedder: Embedder) -> None:
    """An empty text has none, and counts are additive for repeated words."""
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("hello") >= 1
    assert embedder.count_tokens("hello hello hello") == 3 * embedder.count_tokens("hello")
