"""Real sentence vectors: of length 1, the same bytes for the same text whatever is sent with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skytells_nb.local.embedder import Embedder

TEXTS = ["a cat", "The quick brown fox jumps over the lazy dog.", "", "日本語の文", "a cat", "x" * 500, "naïve café ☕"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_rows_are_float32_of_length_one(embedder: Embedder) -> None:
    """(n, 512), unit rows, for empty texts and other scripts too."""
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    """The shape stays."""
    assert embedder.encode([]).shape == (0, 512)


def test_a_text_has_the_same_bytes_alone_and_among_others(embedder: Embedder) -> None:
    """A cache may compare bytes."""
    together = embedder.encode(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert embedder.encode([text])[0].tobytes() == row.tobytes()
    assert embedder.encode(TEXTS[::-1])[::-1].tobytes() == together.tobytes()


def test_many_threads_get_the_vectors_of_one() -> None:
    """A fresh embedder asked from many threads at once loads once and answers all alike."""
    fresh = Embedder()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: fresh.encode(TEXTS).tobytes(), range(8)))
    assert len(set(results)) == 1


def test_meaning_is_near_across_words_and_languages(embedder: Embedder) -> None:
    """A paraphrase and a translation are nearer than another topic."""
    german, english, paraphrase, other = embedder.encode(
        ["Der Hund schläft auf dem Sofa.", "The dog sleeps on the couch.", "A dog is asleep on a sofa.", "Taxes rose."]
    )
    assert english @ paraphrase > 0.6 > english @ other
    assert english @ german > 0.6


def test_a_lone_surrogate_is_embedded_and_not_an_error(embedder: Embedder) -> None:
    """JSON can carry what UTF-8 cannot."""
    assert np.isfinite(embedder.encode(["broken \ud800 text"])).all()
    assert embedder.count_tokens("broken \ud800 text") > 0


def test_tokens_are_counted_by_the_models_tokenizer(embedder: Embedder) -> None:
    """Nothing for an empty text, and the same word counts the same each time."""
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("hello") >= 1
    assert embedder.count_tokens("hello hello hello") == 3 * embedder.count_tokens("hello")
