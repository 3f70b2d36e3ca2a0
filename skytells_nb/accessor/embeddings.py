"""The unit vectors of a column of embeddings, or of texts that are embedded first."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb import columns
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import embed_texts
from skytells_nb.accessor.text_columns import Texts, texts_of
from skytells_nb.columns import column_of
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
        """Return the vectors of a column of embeddings; raise InputError for a column of anything else."""
        matrix, valid = columns.to_matrix(series)
        return cls(unit_vectors(matrix), np.flatnonzero(valid).astype(np.int64))

    @classmethod
    def none(cls) -> UnitVectors:
        return cls(np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.matrix)


_Prepared = tuple[list[Any], UnitVectors, NDArray[np.bool_]]
"""The cells of a column as they were, its unit vectors, and which rows are not missing."""
_prepared: dict[int, tuple[weakref.ref[pd.DataFrame], dict[Any, _Prepared]]] = {}


def _prepared_column(frame: pd.DataFrame, name: Any, series: pd.Series[Any]) -> _Prepared | None:
    """Return what an earlier call on this frame prepared, if the column still has the same cells."""
    entry = _prepared.get(id(frame))
    known = entry[1].get(name) if entry is not None and entry[0]() is frame else None
    if known is None:
        return None
    try:
        # Identical objects compare as equal without a look at their numbers; two arrays that differ raise.
        return known if known[0] == _cells(series) else None
    except (TypeError, ValueError):
        return None


def _prepare(frame: pd.DataFrame, name: Any, series: pd.Series[Any], present: NDArray[np.bool_]) -> _Prepared:
    """Prepare a column of embeddings; keep the result as long as the frame lives, unless cells may change in place."""
    cells = _cells(series)
    prepared = (cells, UnitVectors.of(series), present)
    if isinstance(series.dtype, pd.ArrowDtype) or all(
        isinstance(cell, np.ndarray) and not cell.flags.writeable for cell in series.to_numpy()[present].tolist()
    ):
        key = id(frame)
        entry = _prepared.get(key)
        if entry is None or entry[0]() is not frame:
            entry = _prepared[key] = (weakref.ref(frame, lambda _: _prepared.pop(key, None)), {})
        entry[1][name] = prepared
    return prepared


def _cells(series: pd.Series[Any]) -> list[Any]:
    """Return the objects of which a column consists: its cells, or the one immutable array of an Arrow column."""
    if isinstance(series.dtype, pd.ArrowDtype):
        return [series.array.__arrow_array__()]
    cells: list[Any] = series.to_numpy().tolist()
    return cells


@dataclass(frozen=True)
class EmbeddingOptions:
    """The model and dimensions of embeddings, ``None`` for the defaults."""

    model: str | None = None
    dimensions: int | None = None


class TextOrVectorColumn:
    """A column of texts or of embeddings, validated before anything is sent.

    Raises InputError for a column that does not exist or holds anything else.
    """

    def __init__(self, frame: pd.DataFrame, name: Any) -> None:
        self.name = name
        series = column_of(frame, name)
        self.texts: Texts | None = None
        """The texts, ``None`` if the column holds embeddings or only missing values."""
        self.present: NDArray[np.bool_]
        """Which rows are not missing, bool (n,)."""
        prepared = _prepared_column(frame, name, series)
        if prepared is not None:
            _, self._vectors, self.present = prepared
            return
        self._vectors = UnitVectors.none()
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
            _, self._vectors, _ = _prepare(frame, name, series, self.present)

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
