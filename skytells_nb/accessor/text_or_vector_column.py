"""A column of texts, which are embedded first, or of embeddings, for the methods that compare rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import embed_texts
from skytells_nb.accessor.text_columns import Texts, texts_of
from skytells_nb.columns import column_of
from skytells_nb.embedding_columns import UnitVectors, known_unit_vectors, unit_vectors_of
from skytells_nb.errors import InputError, RowError
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.progress.long_step import long_step
from skytells_nb.vectors.arrays import Floats


@dataclass(frozen=True)
class EmbeddingOptions:
    """The model and dimensions of embeddings, ``None`` for the defaults."""

    model: str | None = None
    dimensions: int | None = None


class TextOrVectorColumn:
    """A column of texts or of embeddings, validated before anything is sent.

    Raises InputError for a column that does not exist or holds anything else. ``method`` is the label of the progress
    line of a column whose vectors take long to read.
    """

    def __init__(
        self, frame: pd.DataFrame, name: Any, method: str = "", progress: bool | ProgressCallback = False
    ) -> None:
        self.name = name
        series = column_of(frame, name)
        self.texts: Texts | None = None
        """The texts, ``None`` if the column holds embeddings or only missing values."""
        self.present: NDArray[np.bool_]
        """Which rows are not missing, bool (n,)."""
        self._vectors = UnitVectors.none()
        known = known_unit_vectors(frame, name)
        if known is not None:
            self._vectors = known
            self.present = np.full(len(frame), len(known) == len(frame))
            if len(known) < len(frame):
                self.present[known.rows] = True
            return
        self.present = np.asarray(series.notna(), dtype=np.bool_)
        if not self.present.any():
            return
        first = series.iloc[int(np.argmax(self.present))]
        if isinstance(first, str):
            self.texts = texts_of(series, name=name)
            self.present = np.fromiter((text is not None for text in self.texts), dtype=np.bool_)
        elif np.ndim(first) == 0:
            raise InputError(f"Column {name!r} must hold texts or embeddings, got {series.dtype}.")
        else:
            with long_step(method, progress, step="reading vectors", total=len(frame)) as on_progress:
                self._vectors = unit_vectors_of(frame, name, on_progress)

    def vectors(self, runs: MultiRun, embedding: EmbeddingOptions, *, last: bool = True) -> UnitVectors:
        """Return the vectors, after embedding texts in the ``last`` run of a method; a text that failed has none."""
        return self._vectors if self.texts is None else embed_column(runs, self.texts, embedding, last=last)


def embed_column(runs: MultiRun, texts: Texts, embedding: EmbeddingOptions, *, last: bool = True) -> UnitVectors:
    """Embed these texts in one run, which is the main one of the report, and the ``last`` one of the method or not."""
    call = runs.call(main=True, last=last)
    series, report = embed_texts(call, texts, pd.RangeIndex(len(texts)), embedding.model, embedding.dimensions)
    runs.add(report)
    return UnitVectors.of(series)


def embed_queries(runs: MultiRun, queries: Sequence[str], embedding: EmbeddingOptions, *, last: bool = False) -> Floats:
    """Return the vectors (q, d) of these texts, in the ``last`` run of a method; raise RowError if one fails."""
    texts, call = np.array(queries, dtype=object), runs.call(last=last).without_progress()
    series, report = embed_texts(call, texts, pd.RangeIndex(len(queries)), embedding.model, embedding.dimensions)
    runs.add(report)
    if report.errors:
        position, reason = next(iter(report.errors.items()))
        query = f" {queries[position]!r}" if len(queries) > 1 else ""
        raise RowError(f"The query{query} could not be embedded: {reason}", report=runs.report)
    return UnitVectors.of(series).matrix
