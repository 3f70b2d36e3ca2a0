"""The vectors of a column, whether it holds them or texts that are embedded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import embed_texts
from skytells_nb.accessor.text_columns import Texts, column_of, texts_of
from skytells_nb.errors import InputError, RowError
from skytells_nb.vectors.arrays import Floats, Indices, unit_vectors


@dataclass(frozen=True)
class UnitVectors:
    """Vectors of length one, float32 (m, d), and the positions (m,) of the rows that have them.

    A vector of zeros stays one: it has no direction, and a cosine of 0 with everything.
    """

    matrix: Floats
    rows: Indices

    @classmethod
    def of(cls, series: pd.Series[Any]) -> UnitVectors:
        """The vectors of a column of embeddings; raises InputError for a column of anything else."""
        matrix, valid = columns.to_matrix(series)
        return cls(unit_vectors(matrix), np.flatnonzero(valid).astype(np.int64))

    @classmethod
    def none(cls) -> UnitVectors:
        return cls(np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.matrix)


@dataclass(frozen=True)
class EmbeddingOptions:
    """How texts are embedded: the model and the dimensions, ``None`` for the usual ones."""

    model: str | None = None
    dimensions: int | None = None


class TextOrVectorColumn:
    """A column of texts or of embeddings, looked at before anything is sent.

    Raises InputError for a column that is missing or holds anything else.
    """

    def __init__(self, frame: pd.DataFrame, name: Any) -> None:
        self.name = name
        series = column_of(frame, name)
        self.present: NDArray[np.bool_] = np.asarray(series.notna(), dtype=np.bool_)
        """Which rows are not null, (n,)."""
        self.texts: Texts | None = None
        """The texts, ``None`` where the column holds embeddings or nothing."""
        self._vectors = UnitVectors.none()
        if not self.present.any():
            return
        first = series.iloc[int(np.argmax(self.present))]
        if isinstance(first, str):
            self.texts = texts_of(series, name=name)
        elif np.ndim(first) == 0:
            raise InputError(f"Column {name!r} holds {series.dtype}: neither texts nor embeddings.")
        else:
            self._vectors = UnitVectors.of(series)

    def vectors(self, runs: MultiRun, embedding: EmbeddingOptions) -> UnitVectors:
        """The vectors; texts are embedded, and a text that failed has none."""
        return self._vectors if self.texts is None else embed_column(runs, self.texts, embedding)


def embed_column(runs: MultiRun, texts: Texts, embedding: EmbeddingOptions) -> UnitVectors:
    """The vectors of these texts in one run, whose rows are those of the report."""
    call = runs.call(of_rows=True)
    series, report = embed_texts(call, texts, pd.RangeIndex(len(texts)), embedding.model, embedding.dimensions)
    runs.add(report)
    return UnitVectors.of(series)


def embed_queries(runs: MultiRun, queries: Sequence[str], embedding: EmbeddingOptions) -> Floats:
    """The vectors (q, d) of these texts; raises RowError where one has none."""
    texts, call = np.array(queries, dtype=object), runs.call().without_progress()
    series, report = embed_texts(call, texts, pd.RangeIndex(len(queries)), embedding.model, embedding.dimensions)
    runs.add(report)
    if report.errors:
        place, reason = next(iter(report.errors.items()))
        which = f" {queries[place]!r}" if len(queries) > 1 else ""
        raise RowError(f"The query{which} could not be embedded: {reason}", report=runs.report)
    return UnitVectors.of(series).matrix
